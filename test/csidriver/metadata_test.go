package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
)

// message is what both streams send.
type message interface {
	GetBlockMetadataType() csi.BlockMetadataType
	GetVolumeCapacityBytes() int64
	GetBlockMetadata() []*csi.BlockMetadata
}

// collect reads a stream to its end and holds it to the specification.
func collect[M message](recv func() (M, error), from int64, most int32, capacity int64) ([]disk.Extent, error) {
	var all []disk.Extent
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if m.GetVolumeCapacityBytes() != capacity || m.GetBlockMetadataType() != csi.BlockMetadataType_VARIABLE_LENGTH {
			return all, fmt.Errorf("capacity %d, type %s", m.GetVolumeCapacityBytes(), m.GetBlockMetadataType())
		}
		if most > 0 && len(m.GetBlockMetadata()) > int(most) {
			return all, fmt.Errorf("%d results, at most %d were asked for", len(m.GetBlockMetadata()), most)
		}
		for _, b := range m.GetBlockMetadata() {
			e := disk.Extent{Offset: b.GetByteOffset(), Length: b.GetSizeBytes()}
			if len(all) == 0 && e.End() <= from {
				return all, fmt.Errorf("first extent %v ends before %d", e, from)
			}
			if len(all) > 0 && e.Offset < all[len(all)-1].End() {
				return all, fmt.Errorf("extent %v after %v", e, all[len(all)-1])
			}
			if e.Offset%disk.BlockSize != 0 || e.Length <= 0 || e.End() > capacity {
				return all, fmt.Errorf("extent %v", e)
			}
			all = append(all, e)
		}
	}
}

func delta(t *testing.T, p *proc, base, target string, from int64, most int32) []disk.Extent {
	t.Helper()
	stream, err := p.meta.GetMetadataDelta(t.Context(), &csi.GetMetadataDeltaRequest{
		BaseSnapshotId: base, TargetSnapshotId: target, StartingOffset: from, MaxResults: most,
	})
	must(t, err)
	all, err := collect(stream.Recv, from, most, snapshotSize(t, p, target))
	must(t, err)
	return all
}

func allocated(t *testing.T, p *proc, id string, from int64, most int32) []disk.Extent {
	t.Helper()
	stream, err := p.meta.GetMetadataAllocated(t.Context(), &csi.GetMetadataAllocatedRequest{SnapshotId: id, StartingOffset: from, MaxResults: most})
	must(t, err)
	all, err := collect(stream.Recv, from, most, snapshotSize(t, p, id))
	must(t, err)
	return all
}

func snapshotSize(t *testing.T, p *proc, id string) int64 {
	t.Helper()
	resp, err := p.ctrl.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: id})
	must(t, err)
	return resp.GetSnapshot().GetSizeBytes()
}

// truth compares two images block by block; base may be shorter.
func truth(base, target []byte, from int64) []disk.Extent {
	base = append(bytes.Clone(base), make([]byte, len(target)-len(base))...)
	var all []disk.Extent
	for off := from / disk.BlockSize * disk.BlockSize; off < int64(len(target)); off += disk.BlockSize {
		if bytes.Equal(base[off:off+disk.BlockSize], target[off:off+disk.BlockSize]) {
			continue
		}
		if n := len(all); n > 0 && all[n-1].End() == off {
			all[n-1].Length += disk.BlockSize
			continue
		}
		all = append(all, disk.Extent{Offset: off, Length: disk.BlockSize})
	}
	return all
}

// TestDeltaIsExact writes at random, discards, overwrites with the same bytes
// and expands, and compares each delta with the images themselves.
func TestDeltaIsExact(t *testing.T) {
	dir := stateDir(t)
	p := startDriver(t, dir)
	id := p.create("v", 48*mib, blockCap(writer), nil)
	dev := p.publish(id, blockCap(writer), false)
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	snaps := []string{p.snapshot("s0", id)}
	for round := 1; round <= 6; round++ {
		scribble(t, rnd, dev.target)
		if round == 4 {
			expandBlock(t, p, dev, 64*mib)
		}
		snaps = append(snaps, p.snapshot(fmt.Sprint("s", round), id))
	}
	images := make([][]byte, len(snaps))
	for i, s := range snaps {
		var err error
		images[i], err = os.ReadFile(filepath.Join(dir, "snapshots", s, "data"))
		must(t, err)
	}
	for i := range snaps {
		checkAllocated(t, allocated(t, p, snaps[i], 0, 0), images[i])
		for j := i; j < len(snaps); j++ {
			from := rnd.Int64N(int64(len(images[j])))
			for _, off := range []int64{0, from} {
				got, want := delta(t, p, snaps[i], snaps[j], off, int32(rnd.IntN(9))), truth(images[i], images[j], off)
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("delta of s%d and s%d from %d: %v, want %v", i, j, off, got, want)
				}
			}
		}
	}
}

func scribble(t *testing.T, rnd *rand.Rand, dev string) {
	t.Helper()
	for range 30 {
		n := 512 * (1 + rnd.Int64N(64))
		off := 512 * rnd.Int64N((48*mib-n)/512)
		switch rnd.IntN(4) {
		case 0: // writes what is there already: no change
			writeSync(t, dev, off, readAt(t, dev, off, int(n)))
		case 1:
			commandOutput(t, "blkdiscard", "-o", fmt.Sprint(off/disk.BlockSize*disk.BlockSize), "-l", "65536", dev)
		default:
			writeSync(t, dev, off, randomBytes(int(n)))
		}
	}
}

func expandBlock(t *testing.T, p *proc, dev *published, size int64) {
	t.Helper()
	r := &csi.CapacityRange{RequiredBytes: size}
	_, err := p.ctrl.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: dev.id, CapacityRange: r})
	must(t, err)
	_, err = p.node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: dev.id, VolumePath: dev.target, CapacityRange: r})
	must(t, err)
	if n := deviceSize(t, dev.target); n != size {
		t.Errorf("the device has %d bytes after its expansion to %d", n, size)
	}
	writeSync(t, dev.target, size-mib, randomBytes(mib))
}

// checkAllocated holds that what is left out reads as zeros.
func checkAllocated(t *testing.T, extents []disk.Extent, image []byte) {
	t.Helper()
	pos := int64(0)
	for _, e := range append(extents, disk.Extent{Offset: int64(len(image))}) {
		if !allZero(image[pos:e.Offset]) {
			t.Errorf("data between %d and %d is not told as allocated", pos, e.Offset)
		}
		pos = e.End()
	}
}

func TestMetadataErrors(t *testing.T) {
	dir := stateDir(t)
	p := startDriver(t, dir)
	id := p.create("v", 8*mib, blockCap(writer), nil)
	other := p.snapshot("other", p.create("w", 8*mib, blockCap(writer), nil))
	s1, s2 := p.snapshot("s1", id), p.snapshot("s2", id)
	ask := func(base, target string, from int64, most int32) codes.Code {
		stream, err := p.meta.GetMetadataDelta(context.Background(), &csi.GetMetadataDeltaRequest{
			BaseSnapshotId: base, TargetSnapshotId: target, StartingOffset: from, MaxResults: most})
		must(t, err)
		_, err = collect(stream.Recv, from, most, 8*mib)
		return status.Code(err)
	}
	check := func(what string, got, want codes.Code) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	check("no base", ask("", s2, 0, 0), codes.InvalidArgument)
	check("no target", ask(s1, "", 0, 0), codes.InvalidArgument)
	check("unknown base", ask("snap-x", s2, 0, 0), codes.NotFound)
	check("unknown target", ask(s1, "snap-x", 0, 0), codes.NotFound)
	check("two volumes", ask(other, s2, 0, 0), codes.InvalidArgument)
	check("turned round", ask(s2, s1, 0, 0), codes.InvalidArgument)
	check("negative offset", ask(s1, s2, -1, 0), codes.OutOfRange)
	check("behind the end", ask(s1, s2, 8*mib+1, 0), codes.OutOfRange)
	check("at the end", ask(s1, s2, 8*mib, 0), codes.OK)
	check("negative results", ask(s1, s2, 0, -1), codes.InvalidArgument)
	must(t, os.WriteFile(filepath.Join(dir, "faults"), []byte("lose-base="+s1+"\n"), 0o600))
	check("lost base", ask(s1, s2, 0, 0), codes.NotFound)
	must(t, os.WriteFile(filepath.Join(dir, "faults"), []byte("GetMetadataDelta cut=0 fail=1\n"), 0o600))
	check("cut stream", ask(s1, s2, 0, 0), codes.Unavailable)
	check("after the cut", ask(s1, s2, 0, 0), codes.OK)

	plain := startDriver(t, dir, "--flavor", "block")
	stream, err := plain.meta.GetMetadataDelta(t.Context(), &csi.GetMetadataDeltaRequest{BaseSnapshotId: s1, TargetSnapshotId: s2})
	must(t, err)
	_, err = stream.Recv()
	check("not tracked", status.Code(err), codes.FailedPrecondition)
}

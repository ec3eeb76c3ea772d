package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
)

const mib = 1 << 20

// What an application has fsynced on a raw device is in a snapshot, and what it
// writes later is not.
func TestSnapshotOfDevice(t *testing.T) {
	p := startDriver(t, stateDir(t))
	id := p.create("raw", 64*mib, blockCap(writer), nil)
	dev := p.publish(id, blockCap(writer), false)
	want := randomBytes(5 * mib)
	writeSync(t, dev.target, 3*mib+512, want)
	snap := p.snapshot("s1", id)
	writeSync(t, dev.target, 4*mib, randomBytes(mib))

	clone := p.create("clone", 64*mib, blockCap(writer), fromSnapshot(snap))
	got := readAt(t, p.publish(clone, blockCap(writer), false).target, 0, 64*mib)
	if !bytes.Equal(got[3*mib+512:8*mib+512], want) {
		t.Error("the snapshot lost what was fsynced before it")
	}
	if !allZero(got[:3*mib+512]) || !allZero(got[8*mib+512:]) {
		t.Error("the snapshot holds what was never written")
	}
}

func allZero(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }

// A database-like writer appends records and fsyncs each; a snapshot taken
// while it runs holds every record that was acknowledged before, and its
// filesystem is clean.
func TestSnapshotOfFilesystemUnderWrites(t *testing.T) {
	for _, fsType := range []string{disk.Ext4, disk.XFS} {
		t.Run(fsType, func(t *testing.T) {
			p := startDriver(t, stateDir(t))
			vc := mountCap(fsType, writer)
			id := p.create("db", 320*mib, vc, nil)
			pub := p.publish(id, vc, false)
			var acked atomic.Int64
			stop := appendRecords(t, filepath.Join(pub.target, "wal"), &acked)
			defer stop()
			for i := range 4 {
				floor := waitForMore(t, &acked, 20)
				snap := p.snapshot(fmt.Sprint("s", i), id)
				clone := p.create(fmt.Sprint("c", i), 320*mib, vc, fromSnapshot(snap))
				checkClean(t, p, clone, fsType)
				checkRecords(t, filepath.Join(p.publish(clone, vc, false).target, "wal"), floor)
			}
		})
	}
}

func appendRecords(t *testing.T, path string, acked *atomic.Int64) (stop func()) {
	f, err := os.Create(path)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			rec := binary.LittleEndian.AppendUint64(nil, uint64(acked.Load()))
			_, werr := f.Write(rec)
			err = errors.Join(werr, f.Sync())
			acked.Add(1)
		}
		done <- err
	}()
	return sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, f.Close()); err != nil {
			t.Error("the writer failed:", err)
		}
	})
}

func waitForMore(t *testing.T, n *atomic.Int64, more int64) int64 {
	t.Helper()
	goal := n.Load() + more
	for n.Load() < goal {
		if t.Context().Err() != nil {
			t.Fatal("the writer stands still")
		}
	}
	return n.Load()
}

// checkClean runs the filesystem's own checker over a clone. A frozen ext4 is
// complete on its device; an xfs has to replay its log first, by a mount.
func checkClean(t *testing.T, p *proc, id, fsType string) {
	t.Helper()
	if fsType == disk.XFS {
		p.publish(id, mountCap(fsType, writer), false).unpublish(t)
	}
	raw := p.publish(id, blockCap(writer), true)
	if fsType == disk.Ext4 {
		commandOutput(t, "e2fsck", "-f", "-n", raw.target)
	} else {
		commandOutput(t, "xfs_repair", "-n", raw.target)
	}
	raw.unpublish(t)
}

func checkRecords(t *testing.T, path string, floor int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	if int64(len(b)/8) < floor {
		t.Errorf("%d records, but %d were acknowledged before the snapshot", len(b)/8, floor)
	}
	for i := 0; i+8 <= len(b); i += 8 {
		if got := binary.LittleEndian.Uint64(b[i:]); got != uint64(i/8) {
			t.Fatalf("record %d reads %d", i/8, got)
		}
	}
}

// On a sandbox of several nodes the filesystem is mounted in the namespace of
// another node, where the process that takes the snapshot does not see it.
func TestSnapshotOfMountInOtherNamespace(t *testing.T) {
	p := startDriver(t, stateDir(t))
	vc := mountCap("ext4", writer)
	id := p.create("far", 64*mib, vc, nil)
	pub := p.publish(id, vc, false)
	other := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; read x")
	in, err := other.StdinPipe()
	must(t, err)
	out, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	defer func() { _ = in.Close(); _ = other.Wait() }()
	_, err = io.ReadFull(out, make([]byte, 5))
	must(t, err)
	must(t, disk.Unmount(pub.target))
	must(t, disk.Unmount(pub.staging))

	// Not fsynced: only freezing the filesystem can bring it to the device.
	far := fmt.Sprintf("/proc/%d/root%s/file", other.Process.Pid, pub.staging)
	must(t, os.WriteFile(far, []byte("seen"), 0o600))
	snap := p.snapshot("s", id)
	must(t, os.WriteFile(far, []byte("gone on"), 0o600)) // thawed
	clone := p.publish(p.create("clone", 64*mib, vc, fromSnapshot(snap)), vc, false)
	got, err := os.ReadFile(filepath.Join(clone.target, "file"))
	must(t, err)
	if string(got) != "seen" {
		t.Errorf("the snapshot holds %q", got)
	}
}

// A writer writes n to the first volume, then to the second, then to the third.
// In a group that shows one moment each volume is as far as the next, or one
// ahead.
func TestGroupIsOneMoment(t *testing.T) {
	files, raw := mountCap("", writer), blockCap(writer)
	t.Run("mixed", func(t *testing.T) { groupIsOneMoment(t, files, raw, files, raw) })
	t.Run("raw", func(t *testing.T) { groupIsOneMoment(t, raw, raw, raw) })
}

func groupIsOneMoment(t *testing.T, caps ...*csi.VolumeCapability) {
	p := startDriver(t, stateDir(t))
	ids, paths := make([]string, len(caps)), make([]string, len(caps))
	for i := range caps {
		id := p.create(fmt.Sprint("member", i), 64*mib, caps[i], nil)
		ids[i] = id
		paths[i] = counterPath(p.publish(id, caps[i], false).target, caps[i])
	}
	var rounds atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := int64(1); ctx.Err() == nil && !t.Failed(); n++ {
			for _, path := range paths {
				if err := writeCounter(path, n); err != nil {
					t.Error(err)
				}
			}
			rounds.Store(n)
			// Raw devices cannot be stopped, so a moment without writes is needed.
			time.Sleep(3 * time.Millisecond)
		}
	})
	defer wg.Wait()
	defer cancel()
	for i := range 5 {
		floor := waitForMore(t, &rounds, 3)
		group := createGroup(t, p, fmt.Sprint("g", i), ids)
		checkCounters(t, p, group, ids, caps, floor)
		_, err := p.group.DeleteVolumeGroupSnapshot(t.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: group.GetGroupSnapshotId()})
		must(t, err)
	}
}

func counterPath(target string, vc *csi.VolumeCapability) string {
	if vc.GetBlock() != nil {
		return target
	}
	return filepath.Join(target, "counter")
}

func writeCounter(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%020d", n), 0)
	return errors.Join(err, f.Sync(), f.Close())
}

func createGroup(t *testing.T, p *proc, name string, ids []string) *csi.VolumeGroupSnapshot {
	t.Helper()
	req := &csi.CreateVolumeGroupSnapshotRequest{Name: name, SourceVolumeIds: ids}
	resp, err := p.group.CreateVolumeGroupSnapshot(t.Context(), req)
	must(t, err)
	again, err := p.group.CreateVolumeGroupSnapshot(t.Context(), req)
	must(t, err)
	if again.GetGroupSnapshot().GetGroupSnapshotId() != resp.GetGroupSnapshot().GetGroupSnapshotId() {
		t.Error("the same request made a second group")
	}
	return resp.GetGroupSnapshot()
}

func checkCounters(t *testing.T, p *proc, group *csi.VolumeGroupSnapshot, ids []string, caps []*csi.VolumeCapability, floor int64) {
	t.Helper()
	bySource := map[string]string{}
	for _, s := range group.GetSnapshots() {
		bySource[s.GetSourceVolumeId()] = s.GetSnapshotId()
	}
	var seen []int64
	for i, id := range ids {
		clone := p.create(group.GetGroupSnapshotId()+id, 64*mib, caps[i], fromSnapshot(bySource[id]))
		pub := p.publish(clone, caps[i], false)
		b := readAt(t, counterPath(pub.target, caps[i]), 0, 20)
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		must(t, err)
		seen = append(seen, n)
		pub.unpublish(t)
	}
	for i := 1; i < len(seen); i++ {
		if seen[i] > seen[i-1] || seen[i] < seen[0]-1 {
			t.Errorf("the group shows %v: not one moment", seen)
		}
	}
	if seen[len(seen)-1] < floor {
		t.Errorf("the group shows %v, but round %d was done before", seen, floor)
	}
	t.Logf("counters %v", seen)
}

// Two xfs with one identity are mounted at a time, and a clone may be larger
// than its source.
func TestCloneMountedBesideItsSource(t *testing.T) {
	for _, fsType := range []string{disk.Ext4, disk.XFS} {
		t.Run(fsType, func(t *testing.T) {
			p := startDriver(t, stateDir(t))
			vc := mountCap(fsType, writer)
			id := p.create("source", 320*mib, vc, nil)
			src := p.publish(id, vc, false)
			must(t, os.WriteFile(filepath.Join(src.target, "f"), []byte("x"), 0o600))
			clone := p.publish(p.create("clone", 640*mib, vc, fromVolume(id)), vc, false)
			got, err := os.ReadFile(filepath.Join(clone.target, "f"))
			must(t, err)
			if string(got) != "x" {
				t.Errorf("the clone holds %q", got)
			}
			if n := fsSize(t, clone.target); n < 560*mib {
				t.Errorf("the filesystem of the larger clone has %d bytes", n)
			}
		})
	}
}

// Without reflink everything works, slower, and the log says so.
func TestStateOnPlainFilesystem(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	t.Cleanup(func() { leftLoops(t, dir) })
	p := startDriver(t, dir)
	id := p.create("v", 16*mib, blockCap(writer), nil)
	dev := p.publish(id, blockCap(writer), false)
	data := randomBytes(mib)
	writeSync(t, dev.target, 2*mib, data)
	s1 := p.snapshot("s1", id)
	writeSync(t, dev.target, 8*mib, data)
	s2 := p.snapshot("s2", id)
	got := delta(t, p, s1, s2, 0, 0)
	if len(got) != 1 || got[0] != (disk.Extent{Offset: 8 * mib, Length: mib}) {
		t.Errorf("delta %v", got)
	}
	if shared, err := disk.Clone(filepath.Join(dir, "snapshots", s1, "data"), filepath.Join(dir, "probe")); err != nil || !shared {
		must(t, err)
		if !strings.Contains(p.log.String(), "NOT ON A REFLINK FILESYSTEM") {
			t.Error("the log does not tell that every byte was copied")
		}
	}
}

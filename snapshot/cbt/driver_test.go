package cbt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/godwit-io/godwit/snapshot"
)

// buildDriver builds test/csidriver, once for a test and all below it.
func buildDriver(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "csidriver")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	cmd.Dir = filepath.Join("..", "..", "test", "csidriver") // a module of its own
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the driver: %v\n%s", err, out)
	}
	return program
}

// storage is a running driver. Its volumes are files, which needs no root.
type storage struct {
	t         *testing.T
	dir, sock string
	ctrl      csi.ControllerClient
}

func startDriver(t *testing.T, program string, args ...string) *storage {
	t.Helper()
	s := &storage{t: t, dir: t.TempDir(), sock: filepath.Join(t.TempDir(), "csi.sock")}
	cmd := exec.Command(program, append([]string{"--plain", "--endpoint", "unix://" + s.sock, "--state-dir", s.dir, "--node-id", "n1"}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of the driver:\n%s", log.String())
		}
	})
	conn, err := grpc.NewClient("unix://"+s.sock, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}}))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{}, grpc.WaitForReady(true))
	must(t, err)
	s.ctrl = csi.NewControllerClient(conn)
	return s
}

func (s *storage) create(name string, size int64) (id, image string) {
	s.t.Helper()
	resp, err := s.ctrl.CreateVolume(s.t.Context(), &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		}},
	})
	must(s.t, err)
	id = resp.GetVolume().GetVolumeId()
	return id, filepath.Join(s.dir, "volumes", id, "data")
}

func (s *storage) snapshot(name, volume string) string {
	s.t.Helper()
	resp, err := s.ctrl.CreateSnapshot(s.t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume})
	must(s.t, err)
	return resp.GetSnapshot().GetSnapshotId()
}

func (s *storage) faults(lines ...string) {
	s.t.Helper()
	must(s.t, os.WriteFile(filepath.Join(s.dir, "faults"), []byte(strings.Join(lines, "\n")), 0o600))
}

func (s *storage) client(t *testing.T, snapshot string) *Client {
	t.Helper()
	c, err := Socket(s.sock, snapshot, nil)
	must(t, err)
	c.wait = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func (s *storage) image(snapshot string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "snapshots", snapshot, "data"))
	must(s.t, err)
	return b
}

func write(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(b, at)
	must(t, errors.Join(err, f.Close()))
}

// uncovered finds a byte that differs and that no extent has; -1 for none.
func uncovered(extents []snapshot.Extent, base, target []byte) int64 {
	at := int64(0)
	for _, e := range append(extents, ext(int64(len(target)), 0)) {
		for ; at < e.Offset; at++ {
			if at >= int64(len(base)) && target[at] != 0 || at < int64(len(base)) && base[at] != target[at] {
				return at
			}
		}
		at = max(at, e.End())
	}
	return -1
}

// TestRealDriver asks the driver at its socket, in extents and in blocks of one
// length, while its streams break, and compares each answer with the images.
func TestRealDriver(t *testing.T) {
	program := buildDriver(t)
	for name, args := range map[string][]string{"extents": nil, "blocks of 64 KiB": {"--fixed-blocks", "65536"}} {
		t.Run(name, func(t *testing.T) {
			s := startDriver(t, program, args...)
			const size = 8*mib + 4*kib // no whole number of 64 KiB
			volume, image := s.create("v", size)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 1))
			var handles []string
			for round := range 4 {
				for range 25 {
					b := make([]byte, 512*(1+random.IntN(64)))
					if random.IntN(4) > 0 {
						for i := range b {
							b[i] = byte(random.Uint32())
						}
					}
					write(t, image, 512*random.Int64N((size-int64(len(b)))/512), b)
				}
				handles = append(handles, s.snapshot(fmt.Sprint("s", round), volume))
			}
			s.faults("GetMetadataDelta cut=1 fail=1-2", "GetMetadataAllocated cut=0 fail=1")
			for i, base := range handles {
				for _, target := range handles[i+1:] {
					m, err := s.client(t, target).Delta(t.Context(), base)
					must(t, err)
					if at := uncovered(m.Extents, s.image(base), s.image(target)); at >= 0 || m.Capacity != size {
						t.Errorf("%+v: byte %d differs between %s and %s and was not told", m, at, base, target)
					}
					must(t, checkSane(m))
				}
				m, err := s.client(t, base).Allocated(t.Context())
				must(t, err)
				if at := uncovered(m.Extents, nil, s.image(base)); at >= 0 || m.Capacity != size {
					t.Errorf("%+v: byte %d of %s holds data and was not told", m, at, base)
				}
				must(t, checkSane(m))
			}
			m, err := s.client(t, handles[1]).Delta(t.Context(), handles[1])
			if err != nil || len(m.Extents) != 0 || m.Capacity != size {
				t.Errorf("nothing changed: %+v, %v", m, err)
			}
		})
	}
}

func TestRealDriverRefuses(t *testing.T) {
	program := buildDriver(t)
	s := startDriver(t, program)
	volume, image := s.create("v", mib)
	s1 := s.snapshot("s1", volume)
	for at := int64(0); at < mib; at += 16 * kib {
		write(t, image, at, bytes.Repeat([]byte{7}, 4*kib))
	}
	s2 := s.snapshot("s2", volume)
	other, _ := s.create("w", mib)
	s3 := s.snapshot("s3", other)
	delta := func(base, target string) error {
		_, err := s.client(t, target).Delta(t.Context(), base)
		return err
	}
	expect := func(what string, err error, want Reason) {
		t.Helper()
		if ReasonOf(err) != want {
			t.Errorf("%s: %v, want reason %s", what, err, want)
		}
	}
	expect("no such base", delta("snap-x", s2), BaseGone)
	expect("two volumes", delta(s3, s2), Refused)
	expect("turned round", delta(s2, s1), Refused)
	_, err := s.client(t, "snap-x").Allocated(t.Context())
	expect("no such snapshot", err, SnapshotGone)
	s.faults("lose-base=" + s1)
	expect("lost base", delta(s1, s2), BaseGone)
	s.faults("GetMetadataDelta fail=* code=OUT_OF_RANGE")
	expect("out of range", delta(s1, s2), OutOfRange)
	s.faults("GetMetadataDelta fail=* code=UNIMPLEMENTED")
	expect("unimplemented", delta(s1, s2), NotServed)
	s.faults("GetMetadataDelta cut=0 fail=*")
	expect("cut each time", delta(s1, s2), Unreachable)
	for _, lie := range []string{"nothing", "overlap", "disorder", "beyond", "uneven"} {
		s.faults("GetMetadataDelta lie="+lie, "GetMetadataAllocated lie="+lie)
		if lie == "uneven" {
			// One run of blocks, so that their lengths differ.
			write(t, image, 512*kib, bytes.Repeat([]byte{8}, 100*kib))
			s2 = s.snapshot("s4", volume)
		}
		expect(lie, delta(s1, s2), Lied)
		_, err := s.client(t, s2).Allocated(t.Context())
		expect(lie, err, Lied)
	}
	s.faults("GetMetadataDelta cut=1 fail=1", "GetMetadataDelta lie=resize fail=2-")
	many, image := s.create("many", 16*mib)
	s5 := s.snapshot("s5", many)
	for at := int64(0); at < 16*mib; at += 8 * kib {
		write(t, image, at, []byte{1})
	}
	s6 := s.snapshot("s6", many)
	expect("another size after a break", delta(s5, s6), Lied)
	s.faults("GetMetadataDelta cut=1")
	if err := delta(s5, s6); err != nil {
		t.Errorf("each stream breaks after one message: %v", err)
	}

	untracked := startDriver(t, program, "--flavor", "block")
	volume, _ = untracked.create("v", mib)
	_, err = untracked.client(t, untracked.snapshot("s", volume)).Allocated(t.Context())
	expect("no tracking", err, NotTracked)
	nobody := &storage{t: t, sock: filepath.Join(t.TempDir(), "none.sock")}
	_, err = nobody.client(t, "s").Allocated(t.Context())
	expect("nobody there", err, Unreachable)
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// Without root, files go from a volume through a snapshot, seen as blocks, into
// another volume.
func TestPlain(t *testing.T) {
	p := startDriver(t, t.TempDir(), "--plain")
	vc := mountCap("", writer)
	id := p.create("files", 16*mib, vc, nil)
	files := p.publish(id, vc, false)
	must(t, os.MkdirAll(filepath.Join(files.target, "a folder", "ü"), 0o700))
	data := randomBytes(300000)
	name := filepath.Join("a folder", "ü", "file")
	must(t, os.WriteFile(filepath.Join(files.target, name), data, 0o640))
	must(t, os.Symlink("file", filepath.Join(files.target, "a folder", "ü", "link")))
	s1 := p.snapshot("s1", id)
	must(t, os.WriteFile(filepath.Join(files.target, "later"), data, 0o600))
	s2 := p.snapshot("s2", id)
	if n := len(delta(t, p, s1, s2, 0, 0)); n == 0 {
		t.Error("no block changed")
	}

	// As a mover does: the blocks of the snapshot into a new volume.
	from := p.publish(p.create("exposed", 16*mib, blockCap(writer), fromSnapshot(s1)), blockCap(writer), true)
	to := p.create("target", 32*mib, blockCap(writer), nil)
	dev := p.publish(to, blockCap(writer), false)
	writeSync(t, dev.target, 0, readAt(t, from.target, 0, 16*mib))
	dev.unpublish(t)
	got := p.publish(to, vc, false)
	b, err := os.ReadFile(filepath.Join(got.target, "a folder", "ü", "link"))
	must(t, err)
	if !bytes.Equal(b, data) {
		t.Error("the bytes changed on the way")
	}
	if _, err := os.Stat(filepath.Join(got.target, "later")); err == nil {
		t.Error("the snapshot holds what was written after it")
	}
	checkStats(t, got)
	got.unpublish(t)

	// Again, over the volume that was used as files meanwhile.
	from = p.publish(p.create("exposed again", 16*mib, blockCap(writer), fromSnapshot(s2)), blockCap(writer), true)
	dev = p.publish(to, blockCap(writer), false)
	writeSync(t, dev.target, 0, readAt(t, from.target, 0, 16*mib))
	dev.unpublish(t)
	if b, err = os.ReadFile(filepath.Join(p.publish(to, vc, false).target, "later")); err != nil || !bytes.Equal(b, data) {
		t.Errorf("the second snapshot did not arrive (%v)", err)
	}
}

func checkStats(t *testing.T, got *published) {
	t.Helper()
	stats, err := got.p.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: got.id, VolumePath: got.target})
	must(t, err)
	if stats.GetUsage()[0].GetTotal() == 0 {
		t.Error("no stats")
	}
}

func TestPlainHoldsSizeAtSnapshots(t *testing.T) {
	p := startDriver(t, t.TempDir(), "--plain")
	vc := mountCap("", writer)
	id := p.create("small", 8*mib, vc, nil)
	files := p.publish(id, vc, false)
	for i := range 10 {
		must(t, os.WriteFile(filepath.Join(files.target, fmt.Sprint("f", i)), randomBytes(mib), 0o600))
	}
	_, err := p.ctrl.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: id})
	wantCode(t, "a snapshot of more than fits", err, codes.ResourceExhausted)
	if err != nil && !strings.Contains(err.Error(), id) {
		t.Errorf("%v does not name the volume", err)
	}
}

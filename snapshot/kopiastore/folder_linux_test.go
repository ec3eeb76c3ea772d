package kopiastore

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// TestFolderAfterAPowerFailure takes what the disk under a folder holds the moment a
// backup returns, as it is found when the power comes back: images that were told of
// are there, and whole.
func TestFolderAfterAPowerFailure(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts loop devices")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("needs mkfs.ext4, from e2fsprogs")
	}
	dir := t.TempDir()
	disk, later := filepath.Join(dir, "disk"), filepath.Join(dir, "later")
	tool(t, "truncate", "-s", "256M", disk)
	tool(t, "mkfs.ext4", "-q", disk)
	l := folder(t)
	l.Path = filepath.Join(mounted(t, disk, "commit=300"), "backups", "godwit")
	r := open(t, New(), l)
	data := noise(40<<20, 1)
	full, _, err := backup(t, r, data, nil)
	must(t, err)
	changed := bytes.Clone(data)
	copy(changed[20<<20:], noise(1<<20, 2))
	delta, _, err := backup(t, r, changed, func(r *snapshot.BackupRequest) {
		r.Image.Method, r.Parent, r.Extents = snapshot.MethodDelta, full.ID, []snapshot.Extent{{Offset: 20 << 20, Length: 1 << 20}}
	})
	must(t, err)
	tool(t, "cp", disk, later)

	found := l
	found.Path, found.CacheDir = filepath.Join(mounted(t, later), "backups", "godwit"), t.TempDir()
	again, err := New().open(t.Context(), found, false)
	must(t, err)
	defer func() { must(t, again.Close(t.Context())) }()
	for id, want := range map[snapshot.ImageID][]byte{full.ID: data, delta.ID: changed} {
		sink := snapshottest.NewDevice(make([]byte, len(want)))
		_, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: id}, again)
		must(t, err)
		if !bytes.Equal(sink.Bytes(), want) {
			t.Errorf("image %s holds other bytes", id)
		}
	}
}

// mounted mounts a file system that is in a file.
func mounted(t *testing.T, file string, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	tool(t, "mount", "-o", strings.Join(append(options, "loop"), ","), file, dir)
	t.Cleanup(func() { tool(t, "umount", dir) })
	return dir
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

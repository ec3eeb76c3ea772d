package kopiastore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

func testTreesStand(t *testing.T, s *standing) {
	r := open(t, s.opener(), folder(t))
	dir, v := t.TempDir(), snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}
	must(t, os.WriteFile(filepath.Join(dir, "file"), noise(1<<20, 1), 0o600))
	s.on.Store(true)
	_, err := r.BackupTree(t.Context(), dir, snapshot.Image{Volume: v}, "", nil)
	s.refused(t, r, v, err)
	image, err := r.BackupTree(t.Context(), dir, snapshot.Image{Volume: v}, "", nil)
	must(t, err)
	if _, err := r.RestoreTree(t.Context(), image.ID, t.TempDir(), nil); err != nil {
		t.Error(err)
	}
}

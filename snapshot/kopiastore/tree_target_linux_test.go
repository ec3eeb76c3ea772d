package kopiastore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

func sameTree(t *testing.T, dir string, want []string) {
	t.Helper()
	got := snapshottest.ListTree(t, dir)
	for _, l := range got {
		if !slices.Contains(want, l) {
			t.Errorf("in %s there is\n %s", dir, l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			t.Errorf("in %s there is not\n %s", dir, l)
		}
	}
}

// TestRestoreAgainIntoALink names a folder by a link to it, which has metadata of its own.
func TestRestoreAgainIntoALink(t *testing.T) {
	a := newAgain(t)
	must(t, errors.Join(os.Chown(a.from, 77, 88), os.Chmod(a.from, 0o751|os.ModeSetgid), unix.Setxattr(a.from, "trusted.root", []byte("r"), 0)))
	a.store()
	link := filepath.Join(t.TempDir(), "link")
	must(t, errors.Join(os.Symlink(a.to, link), unix.Lsetxattr(link, "trusted.link", []byte("l"), 0)))
	before := snapshottest.ListTree(t, link)
	_, err := a.r.RestoreTree(t.Context(), a.image.ID, link, nil)
	must(t, err)
	sameTree(t, a.to, a.want)
	sameTree(t, link, before)
	if differs, _, err := a.r.CompareTree(t.Context(), a.image.ID, link, nil); differs != "" || err != nil {
		t.Errorf("by the link it differs: %q, %v", differs, err)
	}
	if _, err := a.r.VerifyTree(t.Context(), a.image.ID, link, 1, nil); err != nil {
		t.Errorf("by the link it is not verified: %v", err)
	}
}

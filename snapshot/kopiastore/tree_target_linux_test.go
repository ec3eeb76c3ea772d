package kopiastore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kopia/kopia/repo/blob"
	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

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
	sameList(t, snapshottest.ListTree(t, a.to), a.want)
	sameList(t, snapshottest.ListTree(t, link), before)
	if differs, _, err := a.r.CompareTree(t.Context(), a.image.ID, link, nil); differs != "" || err != nil {
		t.Errorf("by the link it differs: %q, %v", differs, err)
	}
	if _, err := a.r.VerifyTree(t.Context(), a.image.ID, link, 1, nil); err != nil {
		t.Errorf("by the link it is not verified: %v", err)
	}
}

// TestRestoreAgainRefusesMounts has others' files mounted in the folder, among what is to be
// removed and changed.
func TestRestoreAgainRefusesMounts(t *testing.T) {
	a := newAgain(t)
	must(t, errors.Join(os.WriteFile(a.in("-extra"), []byte("extra"), 0o600), os.Chmod(a.in("a folder"), 0o777), os.Mkdir(a.in("new"), 0o700)))
	others := t.TempDir()
	must(t, os.WriteFile(filepath.Join(others, "precious"), []byte("of others"), 0o600))
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(a.to, link))
	for name, c := range map[string]struct{ source, kind, at string }{
		"a file system over a folder that the image has": {"godwit-test", "tmpfs", "a folder/deep/er"},
		"a file system over a folder that it has not":    {"godwit-test", "tmpfs", "new"},
		"a folder of the same device":                    {others, "", "empty"},
		"a file of the same device":                      {filepath.Join(others, "precious"), "", "large"},
	} {
		t.Run(name, func(t *testing.T) {
			mount(t, c.source, a.in(c.at), c.kind)
			if c.kind != "" {
				must(t, os.WriteFile(filepath.Join(a.in(c.at), "precious"), []byte("of others"), 0o600))
			}
			before := snapshottest.ListTree(t, a.to)
			_, err := a.r.RestoreTree(t.Context(), a.image.ID, link, nil)
			if want := a.in(c.at) + " is a mount"; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "into "+link) {
				t.Errorf("it says %v, and not %q of %s", err, want, link)
			}
			if errors.Is(err, ErrCutShort) {
				t.Errorf("of what was not touched it says %v", err)
			}
			sameList(t, snapshottest.ListTree(t, a.to), before)
		})
	}
	a.restore()
}

// TestRestoreAgainSaysThatItTouched ends restores at their first read of the tree, and at
// their first of a file's content, when no byte was written.
func TestRestoreAgainSaysThatItTouched(t *testing.T) {
	a := newAgain(t)
	a.poke("large", 7<<20, "!")
	must(t, os.WriteFile(a.in("extra"), []byte("extra"), 0o600))
	for reads, touched := range []bool{false, true} {
		ctx, kill := context.WithCancel(t.Context())
		left := &atomic.Int64{}
		left.Store(int64(reads))
		mortal := a.uncached(func(st blob.Storage) blob.Storage { return mortalStorage{st, left, kill} })
		s, err := mortal.RestoreTree(ctx, a.image.ID, a.to, nil)
		kill()
		_, kept := os.Lstat(a.in("extra"))
		if !errors.Is(err, context.Canceled) || s.Written != 0 || errors.Is(kept, os.ErrNotExist) != touched {
			t.Fatalf("killed after %d reads: %v, %+v, and what was there %v", reads, err, s, kept)
		}
		if errors.Is(err, ErrCutShort) != touched {
			t.Errorf("after %d reads it says %v", reads, err)
		}
	}
	if _, err := a.r.RestoreTree(t.Context(), a.image.ID, a.in("nothere"), nil); err == nil || errors.Is(err, ErrCutShort) {
		t.Errorf("without a folder it says %v", err)
	}
}

func mount(t *testing.T, source, target, kind string) {
	t.Helper()
	flags := uintptr(0)
	if kind == "" {
		flags = unix.MS_BIND
	}
	must(t, unix.Mount(source, target, kind, flags, ""))
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// again is a tree that is restored once, and then again over what was done to it.
type again struct {
	t        *testing.T
	at       snapshot.Location
	r        *Repository
	from, to string
	image    snapshot.Image
	want     []string
}

func newAgain(t *testing.T) *again {
	t.Helper()
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: sets owners and makes devices")
	}
	a := &again{t: t, at: folder(t), from: t.TempDir(), to: t.TempDir()}
	a.r = open(t, New(), a.at)
	snapshottest.MakeTree(t, a.from)
	a.store()
	a.restore()
	return a
}

func (a *again) store() {
	a.t.Helper()
	image, err := a.r.BackupTree(a.t.Context(), a.from, snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}, a.image.ID, nil)
	must(a.t, err)
	a.image, a.want = image, snapshottest.ListTree(a.t, a.from)
}

func (a *again) in(name string) string { return filepath.Join(a.to, name) }

// uncached is one who has to fetch what it wants to know, from storage that may be wrapped.
func (a *again) uncached(wrap func(blob.Storage) blob.Storage) *Repository {
	a.t.Helper()
	o := New()
	o.wrap = wrap
	a.at.CacheDir = a.t.TempDir()
	return open(a.t, o, a.at)
}

// restore sees that the folder is then as the image, in all but a lost+found.
func (a *again) restore() snapshot.Stats {
	a.t.Helper()
	stats, err := a.r.RestoreTree(a.t.Context(), a.image.ID, a.to, nil)
	must(a.t, err)
	got := slices.DeleteFunc(snapshottest.ListTree(a.t, a.to), func(l string) bool { return strings.HasPrefix(l, `"lost+found`) })
	sameList(a.t, got, a.want)
	if stats.Done != stats.Total {
		a.t.Errorf("it ended at %+v", stats)
	}
	return stats
}

func sameList(t *testing.T, got, want []string) {
	t.Helper()
	for _, l := range got {
		if !slices.Contains(want, l) {
			t.Errorf("there is\n %s", l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			t.Errorf("there is not\n %s", l)
		}
	}
}

// poke writes bytes into a file, and sets its time back.
func (a *again) poke(name string, at int64, b string) {
	a.t.Helper()
	info, err := os.Stat(a.in(name))
	must(a.t, err)
	f, err := os.OpenFile(a.in(name), os.O_WRONLY, 0)
	must(a.t, err)
	_, err = f.WriteAt([]byte(b), at)
	must(a.t, errors.Join(err, f.Close(), os.Chtimes(a.in(name), info.ModTime(), info.ModTime())))
}

// TestRestoreAgainFetchesLittle restores over what is the same, and over what is nearly.
func TestRestoreAgainFetchesLittle(t *testing.T) {
	a := newAgain(t)
	a.r = a.uncached(nil)
	if s := a.restore(); s.Changed != 0 || s.Written != 0 || s.Fetched > 100<<10 || s.Read != s.Total {
		t.Errorf("over the same it is %+v", s)
	}
	must(t, os.WriteFile(filepath.Join(a.from, "a folder", "file 200 ü"), bytes.Repeat([]byte("y"), 200), 0o600))
	must(t, os.Remove(filepath.Join(a.from, "a folder", "file 201 ü")))
	a.store()
	a.r = a.uncached(nil)
	if s := a.restore(); s.Changed != 200 || s.Written != 200 || s.Fetched > 100<<10 {
		t.Errorf("over what is nearly the same it is %+v", s)
	}
}

// TestRestoreAgainSeesEveryByte alters files in disguise: one large enough for several
// chunks, one with holes, and one that is short.
func TestRestoreAgainSeesEveryByte(t *testing.T) {
	a := newAgain(t)
	a.poke("large", 7<<20, "!")
	a.poke("sparse", 12<<20, "in a hole")
	a.poke("sparse", 5<<20, "MIDDLE")
	a.poke("a folder/file 100 ü", 99, "X")
	s := a.restore()
	if s.Changed == 0 || s.Changed >= s.Total || s.Written >= 9<<20 {
		t.Errorf("it is %+v", s)
	}
	must(t, os.Truncate(a.in("large"), 8<<20))
	must(t, os.WriteFile(a.in("sparse"), make([]byte, 21<<20), 0o600))
	must(t, os.Truncate(a.in("file"), 0))
	must(t, os.WriteFile(a.in("empty file"), []byte("not any more"), 0o600))
	a.restore()
}

// TestRestoreAgainFillsHoles has a file whose holes were written, by zeros that are as good.
func TestRestoreAgainFillsHoles(t *testing.T) {
	a := newAgain(t)
	data, err := os.ReadFile(a.in("sparse"))
	must(t, err)
	f, err := os.OpenFile(a.in("sparse"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(data, 0)
	must(t, errors.Join(err, f.Close()))
	if s := a.restore(); s.Changed != 0 {
		t.Errorf("of zeros that were there %+v", s)
	}
}

// TestRestoreAgainReplaces puts something of another kind in the place of each.
func TestRestoreAgainReplaces(t *testing.T) {
	a := newAgain(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	must(t, os.WriteFile(secret, []byte("of others"), 0o640))
	must(t, os.Mkdir(a.in("lost+found"), 0o700))
	must(t, os.WriteFile(a.in("lost+found/kept"), []byte("kept"), 0o600))
	for name, put := range map[string]func(string) error{
		"file":          func(f string) error { return os.MkdirAll(filepath.Join(f, "with", "folders"), 0o500) },
		"a folder":      func(f string) error { return os.WriteFile(f, []byte("a file"), 0o600) },
		"empty":         func(f string) error { return os.Symlink(outside, f) },
		"large":         func(f string) error { return os.Symlink(secret, f) },
		"-dash":         func(f string) error { return os.Link(secret, f) },
		"x.kopia-entry": func(f string) error { return os.Link(a.in("CACHEDIR.TAG"), f) },
		"日本":            func(f string) error { return unix.Mkfifo(f, 0o600) },
		"symlink":       func(f string) error { return os.Symlink("elsewhere", f) },
		"fifo":          func(f string) error { return os.WriteFile(f, []byte("a file"), 0o600) },
		"char":          func(f string) error { return unix.Mknod(f, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) },
		"linked too":    func(f string) error { return os.WriteFile(f, []byte("no link"), 0o600) },
		"extra":         func(f string) error { return os.MkdirAll(filepath.Join(f, "and", "more"), 0o700) },
		"extra too":     func(f string) error { return os.Symlink(outside, f) },
	} {
		must(t, errors.Join(os.RemoveAll(a.in(name)), put(a.in(name))))
	}
	a.restore()
	a.restore()
	got, err := os.ReadFile(secret)
	info, stat := os.Stat(secret)
	if errors.Join(err, stat) != nil || string(got) != "of others" || info.Mode() != 0o640 {
		t.Errorf("what is out of the folder became %q, %v (%v)", got, info.Mode(), errors.Join(err, stat))
	}
	if _, err := os.Stat(a.in("lost+found/kept")); err != nil {
		t.Errorf("lost+found was not kept: %v", err)
	}
}

// TestRestoreAgainSetsMetadata changes what is no content, of files, folders and links.
func TestRestoreAgainSetsMetadata(t *testing.T) {
	a := newAgain(t)
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 7, 0, 0xe9, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, name := range []string{"file", "a folder", "large", "x.kopia-entry", "sticky", "line\nbreak", "."} {
		must(t, errors.Join(os.Lchown(a.in(name), 77, 88), os.Chmod(a.in(name), 0o4757),
			unix.Lsetxattr(a.in(name), "user.other", []byte("o"), 0), unix.Lsetxattr(a.in(name), "trusted.note", []byte("o"), 0),
			unix.Lsetxattr(a.in(name), "system.posix_acl_access", acl, 0)))
	}
	must(t, unix.Lsetxattr(a.in("a folder"), "system.posix_acl_default", acl, 0))
	must(t, unix.Lsetxattr(a.in("."), "system.posix_acl_default", acl, 0))
	must(t, unix.Lsetxattr(a.in("CACHEDIR.TAG"), "security.capability", capability, 0))
	must(t, unix.Lremovexattr(a.in("file"), "user.note"))
	must(t, errors.Join(os.Lchown(a.in("symlink"), 7, 8), os.Chmod(a.in("a folder/deep"), 0o500), os.Chmod(a.in("empty"), 0)))
	must(t, os.Chtimes(a.in("large"), time.Now(), time.Now()))
	if s := a.restore(); s.Changed != 0 || s.Written != 0 {
		t.Errorf("where no content changed it is %+v", s)
	}
}

// mortalStorage ends who reads by it, after so many reads of file content.
type mortalStorage struct {
	blob.Storage
	left *atomic.Int64
	kill func()
}

func (m mortalStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if strings.HasPrefix(string(id), "p") && m.left.Add(-1) < 0 {
		m.kill()
		return ctx.Err()
	}
	return m.Storage.GetBlob(ctx, id, offset, length, out)
}

// TestRestoreAgainAfterAKill ends restores over another image, each further than the last.
// One read is of what the tree consists of. A kill comes with one more of chunks than there
// are workers: whoever asks for a second chunk has written the first.
func TestRestoreAgainAfterAKill(t *testing.T) {
	const files = 10 * restoreWorkers
	a := newAgain(t)
	for i := range files {
		must(t, os.WriteFile(filepath.Join(a.from, fmt.Sprint("more", i)), noise(256<<10, byte(i)), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(a.from, "large"), noise(20<<20, 77), 0o600))
	a.store()
	all := int64(0)
	for range 3 {
		ctx, kill := context.WithCancel(t.Context())
		left := &atomic.Int64{}
		left.Store(1 + restoreWorkers)
		mortal := a.uncached(func(st blob.Storage) blob.Storage { return mortalStorage{st, left, kill} })
		s, err := mortal.RestoreTree(ctx, a.image.ID, a.to, nil)
		kill()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("it lived: %+v, %v", s, err)
		}
		if s.Changed == 0 {
			t.Errorf("it had written nothing when it was killed: %+v", s)
		}
		all += s.Changed
	}
	if s := a.restore(); s.Changed == 0 || s.Changed > 20<<20+files*256<<10-all/2 {
		t.Errorf("after %d bytes were written by those that were killed, it is %+v", all, s)
	}
}

// TestRestoreDoesNotMergeNames has the image hold a file that the folder has since the
// restore began, as a file system has one for which two names are the same.
func TestRestoreDoesNotMergeNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Mkdir(filepath.Join(dir, "folder"), 0o700)))
	restore := &treeRestore{dir: dir}
	for _, e := range []*record{{Path: "file", Type: typeFile}, {Path: "folder", Type: typeFolder}} {
		if err := restore.make(e, false); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: %v", e.Path, err)
		}
		if err := restore.make(e, true); err != nil {
			t.Errorf("%s, which was there: %v", e.Path, err)
		}
	}
}

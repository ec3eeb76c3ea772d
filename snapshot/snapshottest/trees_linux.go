package snapshottest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
)

// StoreTrees is what the contract of Trees needs.
type StoreTrees interface {
	snapshot.Store
	snapshot.Trees
}

// TestTrees is the contract of snapshot.Trees; it needs root, for owners,
// devices and trusted attributes.
func TestTrees(t *testing.T, r StoreTrees) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: sets owners and makes devices")
	}
	from, to := t.TempDir(), t.TempDir()
	MakeTree(t, from)
	// What was written just now may be read again: nobody could tell that it changed.
	time.Sleep(100 * time.Millisecond)
	image := snapshot.Image{Volume: testVolume("tree"), Round: "r1"}
	var told snapshot.Stats
	first, err := r.BackupTree(t.Context(), from, image, "", func(s snapshot.Stats) { told = s })
	if err != nil {
		t.Fatal(err)
	}
	if first.Kind != snapshot.Tree || first.Method != snapshot.MethodFiles || told.Done != told.Total || told.Read == 0 {
		t.Errorf("image is %+v, progress ended at %+v", first, told)
	}
	firstList := ListTree(t, from)
	MakeTree(t, filepath.Join(to)) // what was there goes
	writeFile(t, filepath.Join(to, "extra"), "extra")
	if err := os.MkdirAll(filepath.Join(to, "lost+found", "kept"), 0o700); err != nil {
		t.Fatal(err)
	}
	restore := func(id snapshot.ImageID, want []string) {
		t.Helper()
		stats, err := r.RestoreTree(t.Context(), id, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		if stats.Done != stats.Total || stats.Files == 0 {
			t.Errorf("stats of a restore are %+v", stats)
		}
		got := slices.DeleteFunc(ListTree(t, to), func(l string) bool { return strings.HasPrefix(l, `"lost+found`) })
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Fatalf("entry %d differs:\n got %v\nwant %v", i, got[min(i, len(got)-1)], want[min(i, len(want)-1)])
			}
		}
	}
	restore(first.ID, firstList)
	if _, err := os.Stat(filepath.Join(to, "lost+found", "kept")); err != nil {
		t.Errorf("lost+found was not kept: %v", err)
	}
	changeTree(t, from)
	second, err := r.BackupTree(t.Context(), from, image, first.ID, func(s snapshot.Stats) { told = s })
	if err != nil {
		t.Fatal(err)
	}
	if told.Read > 5000 || told.Done != told.Total {
		t.Errorf("unchanged files were read again: %+v", told)
	}
	restore(second.ID, ListTree(t, from))
	restore(first.ID, firstList)
	if _, err := r.RestoreTree(t.Context(), "ffffffffffffffffffffffffffffffff", to, nil); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("a missing image: %v", err)
	}
	if got := len(ListTree(t, to)); got < len(firstList) {
		t.Error("a restore that could not begin removed files")
	}
	if _, err := r.Open(t.Context(), first.ID); err == nil {
		t.Error("a tree was opened as blocks")
	}
	images, err := r.Images(t.Context(), image.Volume)
	if err != nil || len(images) != 2 || images[0] != first || images[1] != second {
		t.Errorf("images are %+v (%v)", images, err)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

// must reports the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// MakeTree fills dir with everything that a tree can hold.
func MakeTree(t *testing.T, dir string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.MkdirAll(in("a folder/deep/er"), 0o755), os.Mkdir(in("empty"), 0o700), os.Mkdir(in("sticky"), 0o755))
	for i := range 300 {
		writeFile(t, in(fmt.Sprintf("a folder/file %03d ü", i)), strings.Repeat("x", i))
	}
	for _, name := range []string{"file", "empty file", "line\nbreak", "bytes \xff\xfe", "godwit-name-00", ".kopiaignore", "x.kopia-entry", "CACHEDIR.TAG", "-dash", "日本"} {
		writeFile(t, in(name), "content of "+name)
	}
	writeFile(t, in("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n")
	writeFile(t, in(".kopiaignore"), "*\n")
	must(t, os.Truncate(in("empty file"), 0), os.MkdirAll(in("bad \xff folder"), 0o755))
	writeFile(t, in("bad \xff folder/inside"), "inside")
	must(t, os.WriteFile(in("large"), noise(9<<20, 3), 0o600))
	sparse, err := os.Create(in("sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("middle"), 5<<20)
	must(t, err, sparse.Truncate(20<<20), sparse.Close())
	must(t, os.Link(in("file"), in("a folder/linked")), os.Link(in("file"), in("linked too")),
		os.Symlink("../a folder/nowhere \xff", in("symlink")), os.Symlink("/etc", in("absolute")),
		unix.Mkfifo(in("fifo"), 0o600), unix.Mknod(in("socket"), unix.S_IFSOCK|0o755, 0),
		unix.Mknod(in("char"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))), unix.Mknod(in("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 99))))
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	must(t, os.Lchown(in("large"), 1234, 4321), os.Lchown(in("symlink"), 5, 6), os.Chmod(in("large"), 0o751|os.ModeSetuid|os.ModeSetgid),
		os.Chmod(in("sticky"), 0o777|os.ModeSticky), os.Chmod(in("line\nbreak"), 0),
		unix.Lsetxattr(in("file"), "user.note", []byte("a\x00b\xff"), 0), unix.Lsetxattr(in("empty"), "trusted.note", []byte("t"), 0),
		unix.Lsetxattr(in("symlink"), "trusted.link", []byte("l"), 0), unix.Lsetxattr(in("file"), "system.posix_acl_access", acl, 0),
		unix.Lsetxattr(in("sticky"), "system.posix_acl_default", acl, 0), unix.Lsetxattr(in("x.kopia-entry"), "security.capability", capability, 0))
	old := time.Date(1969, 7, 20, 20, 17, 40, 123456789, time.UTC)
	for _, name := range []string{"file", "symlink", "fifo", "a folder/deep", "empty", ""} {
		ts := unix.NsecToTimespec(old.UnixNano())
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, in(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// changeTree changes a little, some of it in disguise.
func changeTree(t *testing.T, dir string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	disguised := in("a folder/file 200 ü")
	st, err := os.Stat(disguised)
	must(t, err)
	writeFile(t, disguised, strings.Repeat("y", 200))
	must(t, os.Chtimes(disguised, st.ModTime(), st.ModTime()), os.Remove(in("empty file")), os.Remove(in("linked too")),
		os.RemoveAll(in("bad \xff folder")), os.Remove(in("fifo")), os.Mkdir(in("fifo"), 0o700), os.Chmod(in("empty"), 0o711))
	writeFile(t, in("fifo/new"), "new")
}

// ListTree describes every entry with its content and all its metadata.
func ListTree(t *testing.T, dir string) []string {
	t.Helper()
	first := map[uint64]string{}
	var lines []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%q %o %d:%d %d.%09d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x sparse=%t", st.Size, sha256.Sum256(data), st.Blocks*512 < st.Size)
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", target)
		case unix.S_IFBLK, unix.S_IFCHR:
			line += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			line += fmt.Sprintf(" links=%d of %q", st.Nlink, first[st.Ino])
		}
		attributes, err := treeAttributes(path)
		lines = append(lines, line+attributes)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func treeAttributes(path string) (string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return "", err
	}
	var out []string
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", err
		}
		out = append(out, fmt.Sprintf(" %s=%x", name, value[:n]))
	}
	slices.Sort(out)
	return strings.Join(out, ""), nil
}

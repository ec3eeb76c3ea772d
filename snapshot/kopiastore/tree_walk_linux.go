package kopiastore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	permissionBits = 0o7777
	statBlock      = 512
)

// node is an entry of a tree that is being backed up.
type node struct {
	record
	// path is on this machine.
	path   string
	device uint64
	inode  uint64
	// fresh files are read even where size and time are as before.
	fresh bool
	// young files may be written again without another ctime.
	young bool
}

const (
	// tick is longer than that of any clock by which Linux stamps a file, wholeTick of
	// those that stamp whole seconds.
	tick      = 50 * time.Millisecond
	wholeTick = 2 * time.Second
)

// isYoung is true for a file whose next change may come within the same tick as its last,
// as git has it of its index: by its ctime nobody sees then that it is another.
func isYoung(changed stamp, now time.Time) bool {
	within := tick
	if changed.Nanos == 0 {
		within = wholeTick
	}
	return !changed.time().Before(now.Add(-within))
}

// inode tells hard links of one file by.
type inode struct{ device, number uint64 }

// walker keeps no more of a tree than the names of the folders that it is in, and the
// files that have several names.
type walker struct {
	dir    string
	first  map[inode]raw
	failed failures
}

// walkTree reads a tree's metadata, in the order of comparePaths. Its last is an error where
// anything could not be read, which names what that was: whoever corrects it wants to know
// all of it at once.
func walkTree(ctx context.Context, dir string) iter.Seq2[*node, error] {
	return func(yield func(*node, error) bool) {
		w := &walker{dir: dir, first: map[inode]raw{}}
		err := w.walk(ctx, "", func(n *node) bool { return yield(n, nil) })
		if errors.Is(err, errWalkEnded) {
			return
		}
		if err = cmp.Or(err, w.failed.err("entries")); err != nil {
			yield(nil, err)
		}
	}
}

// failures are the first of what failed, and how many there are.
type failures struct {
	first []error
	count int
}

// failuresShown is how many are told, and kept.
const failuresShown = 10

func (f *failures) add(err error) {
	if f.count++; f.count <= failuresShown {
		f.first = append(f.first, err)
	}
}

// err is nil for none, and text alone: a file that is not there must not pass for a
// repository that is not.
func (f *failures) err(what string) error {
	switch f.count {
	case 0:
		return nil
	case 1:
		return errors.New(f.first[0].Error())
	}
	var b strings.Builder
	for i, err := range f.first {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	if more := f.count - len(f.first); more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return fmt.Errorf("%d %s could not be read: %s", f.count, what, b.String())
}

// errWalkEnded says that nobody wants to know more.
var errWalkEnded = errors.New("the walk was ended")

func (w *walker) walk(ctx context.Context, rel raw, yield func(*node) bool) error {
	n, err := w.node(filepath.Join(w.dir, string(rel)), rel)
	if err != nil {
		w.failed.add(err)
		return ctx.Err()
	}
	if rel == "" && n.Type != typeFolder {
		return fmt.Errorf("%s is no directory", w.dir)
	}
	if !yield(n) {
		return errWalkEnded
	}
	if n.Type != typeFolder {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := folderNames(n.path)
	if err != nil {
		w.failed.add(gone(n.path, err))
		return nil
	}
	for _, name := range names {
		if err := w.walk(ctx, raw(path.Join(string(rel), name)), yield); err != nil {
			return err
		}
	}
	return nil
}

func folderNames(dir string) ([]string, error) {
	f, err := os.Open(dir) //nolint:gosec // reading the volume is the task
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	slices.Sort(names)
	return names, nil
}

func (w *walker) node(file string, rel raw) (*node, error) {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return nil, gone(file, err)
	}
	n := &node{path: file, device: st.Dev, inode: st.Ino}
	n.record = record{
		Path: rel, Mode: st.Mode & permissionBits, UID: st.Uid, GID: st.Gid,
		Modified: stamp{st.Mtim.Sec, st.Mtim.Nsec}, Changed: stamp{st.Ctim.Sec, st.Ctim.Nsec},
	}
	if err := n.typed(&st); err != nil {
		return nil, err
	}
	if st.Nlink > 1 && n.Type != typeFolder {
		key := inode{st.Dev, st.Ino}
		n.Link = w.first[key]
		if n.Link == "" {
			w.first[key] = rel
		}
	}
	n.young = n.Type == typeFile && isYoung(n.Changed, time.Now())
	var err error
	n.Xattrs, err = readXattrs(file)
	return n, err
}

// typeOf is empty for what Linux does not have.
func typeOf(mode uint32) entryType {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return typeFile
	case unix.S_IFDIR:
		return typeFolder
	case unix.S_IFLNK:
		return typeSymlink
	case unix.S_IFIFO:
		return typeFIFO
	case unix.S_IFSOCK:
		return typeSocket
	case unix.S_IFBLK:
		return typeBlock
	case unix.S_IFCHR:
		return typeChar
	}
	return ""
}

func (n *node) typed(st *unix.Stat_t) error {
	n.Type = typeOf(st.Mode)
	switch n.Type {
	case typeFile:
		n.Size, n.Sparse = st.Size, st.Blocks*statBlock < st.Size
	case typeSymlink:
		target, err := os.Readlink(n.path)
		if err != nil {
			return gone(n.path, err)
		}
		n.Target = raw(target)
	case typeBlock, typeChar:
		n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case "":
		return fmt.Errorf("%s is of a type that Linux does not have (%o)", n.path, st.Mode)
	}
	return nil
}

func gone(file string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s vanished while the tree was read: something writes to it; read a snapshot, or stop the writer: %w", file, err)
	}
	return fmt.Errorf("read %s: %w", file, err)
}

// keptXattr leaves out what is a filesystem's view of its own state, and
// means nothing to another.
func keptXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security.") ||
		name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

func listXattrs(file string) ([]string, error) {
	list, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(file, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the attributes of %s: %w", file, err)
	}
	var names []string
	for name := range bytes.SplitSeq(bytes.TrimRight(list, "\x00"), []byte{0}) {
		if keptXattr(string(name)) {
			names = append(names, string(name))
		}
	}
	return names, nil
}

func readXattrs(file string) (map[string][]byte, error) {
	names, err := listXattrs(file)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	values := map[string][]byte{}
	for _, name := range names {
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("attribute %q of %s has a name that is not UTF-8: rename it", name, file)
		}
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(file, name, b) })
		if err != nil {
			return nil, fmt.Errorf("read attribute %s of %s: %w", name, file, err)
		}
		values[name] = value
	}
	return values, nil
}

// grow asks for the size and then for the bytes, again where they grew meanwhile.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = read(b)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

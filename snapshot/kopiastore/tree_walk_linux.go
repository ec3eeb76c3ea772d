package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	path     string
	name     string
	device   uint64
	inode    uint64
	children []*node
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

// walker reads the metadata of a whole tree, some 500 bytes per entry.
type walker struct {
	first map[inode]raw
	files int64
	size  int64
}

// walkTree reads a tree's metadata; any entry that cannot be read fails it.
func walkTree(ctx context.Context, dir string) (*node, *walker, error) {
	w := &walker{first: map[inode]raw{}}
	root, err := w.node(dir, "", "")
	if err != nil {
		return nil, nil, err
	}
	if root.Type != typeFolder {
		return nil, nil, fmt.Errorf("%s is no directory", dir)
	}
	if err := w.descend(ctx, root); err != nil {
		return nil, nil, err
	}
	return root, w, nil
}

func (w *walker) descend(ctx context.Context, n *node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := folderNames(n.path)
	if err != nil {
		return err
	}
	for _, name := range names {
		child, err := w.node(filepath.Join(n.path, name), raw(path.Join(string(n.Path), name)), name)
		if err != nil {
			return err
		}
		n.children = append(n.children, child)
		if child.Type == typeFolder {
			if err := w.descend(ctx, child); err != nil {
				return err
			}
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

func (w *walker) node(file string, rel raw, name string) (*node, error) {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return nil, gone(file, err)
	}
	n := &node{path: file, name: name, device: st.Dev, inode: st.Ino}
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
	if n.Type == typeFile {
		n.young = isYoung(n.Changed, time.Now())
		w.files++
		if n.Link == "" {
			w.size += n.Size
		}
	}
	var err error
	n.Xattrs, err = readXattrs(file)
	return n, err
}

func (n *node) typed(st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.Type, n.Size, n.Sparse = typeFile, st.Size, st.Blocks*statBlock < st.Size
	case unix.S_IFDIR:
		n.Type = typeFolder
	case unix.S_IFLNK:
		target, err := os.Readlink(n.path)
		if err != nil {
			return gone(n.path, err)
		}
		n.Type, n.Target = typeSymlink, raw(target)
	case unix.S_IFIFO:
		n.Type = typeFIFO
	case unix.S_IFSOCK:
		n.Type = typeSocket
	case unix.S_IFBLK:
		n.Type, n.Major, n.Minor = typeBlock, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFCHR:
		n.Type, n.Major, n.Minor = typeChar, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	default:
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

package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// walk lists a tree on this machine, as Tree.list does in a container.
func walk(root string, leaveOut func(*entry)) (listing, error) {
	l := listing{}
	nodes := map[uint64][]string{} // names by inode
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e, inode, err := look(path)
		if err != nil {
			return fmt.Errorf("list %s: %w", path, err)
		}
		name := "./" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		leaveOut(&e)
		l[name] = e
		if e.links > 1 {
			nodes[inode] = append(nodes[inode], name)
		}
		return nil
	})
	for _, names := range nodes {
		slices.Sort(names)
		for _, name := range names {
			e := l[name]
			e.sameAs = names[0]
			l[name] = e
		}
	}
	return l, err
}

// look describes one name.
func look(path string) (e entry, inode uint64, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return e, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return e, 0, fmt.Errorf("this system tells %T of files", info.Sys())
	}
	e = entry{
		kind: kindOf(info.Mode()), mode: fmt.Sprintf("%o", uint32(st.Mode)&0o7777), owner: fmt.Sprintf("%d:%d", st.Uid, st.Gid),
		modified: info.ModTime().UTC().Format("2006-01-02T15:04:05.999999999"),
	}
	if e.attributes, err = attributes(path); err != nil {
		return e, 0, err
	}
	switch e.kind {
	case "l":
		e.target, err = os.Readlink(path)
	case "f":
		e.size, e.links, inode = st.Size, int(st.Nlink), st.Ino
		e.sparse = e.size > 1<<16 && st.Blocks*512 < e.size/2
		e.hash, err = hashOf(path)
	}
	return e, inode, err
}

// kindOf uses find's letters.
func kindOf(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "f"
	case m.IsDir():
		return "d"
	case m&fs.ModeSymlink != 0:
		return "l"
	case m&fs.ModeNamedPipe != 0:
		return "p"
	}
	return m.Type().String()
}

func hashOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// attributes lists the extended attributes in getfattr's form, but for those
// that the system's security makes by itself.
func attributes(path string) (string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err == unix.ENOTSUP {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("list attributes: %w", err)
	}
	var rows []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" || name == "security.selinux" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("read attribute %s: %w", name, err)
		}
		rows = append(rows, fmt.Sprintf("%s=0x%x", name, value[:n]))
	}
	slices.Sort(rows)
	return strings.Join(rows, " "), nil
}

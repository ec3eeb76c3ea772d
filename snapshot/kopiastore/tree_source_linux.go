package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/kopia/kopia/fs"
	"golang.org/x/sys/unix"
)

// Kopia's uploader reads the tree through these instead of its own view of a
// folder, which skips what vanished, takes some names for its own, and
// spoils those that are not UTF-8.

// treeEntry is what all entries have in common.
type treeEntry struct{ *node }

func (e treeEntry) Name() string { return storedName(e.name) }

// Size of a fresh file is one that no file of a previous image has, so that
// the uploader does not take that one's content for this.
func (e treeEntry) Size() int64 {
	if e.fresh {
		return math.MaxInt64
	}
	return e.record.Size
}

func (e treeEntry) ModTime() time.Time { return kopiaTime(e.Modified) }

func (e treeEntry) IsDir() bool { return e.Type == typeFolder }

func (e treeEntry) Sys() any { return nil }

func (e treeEntry) Owner() fs.OwnerInfo { return fs.OwnerInfo{UserID: e.UID, GroupID: e.GID} }

func (e treeEntry) Device() fs.DeviceInfo { return fs.DeviceInfo{Dev: e.device} }

func (e treeEntry) LocalFilesystemPath() string { return "" }

func (e treeEntry) Close() {}

func (e treeEntry) Mode() os.FileMode {
	mode := os.FileMode(e.record.Mode & 0o777)
	for bit, flag := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if e.record.Mode&bit != 0 {
			mode |= flag
		}
	}
	switch e.Type {
	case typeFolder:
		mode |= os.ModeDir
	case typeSymlink:
		mode |= os.ModeSymlink
	}
	return mode
}

// kopiaTime keeps a time within what kopia's nanoseconds reach.
func kopiaTime(s stamp) time.Time {
	const far = math.MaxInt64 / int64(time.Second)
	return time.Unix(max(-far+1, min(s.Seconds, far-1)), s.Nanos)
}

type treeFolder struct{ treeEntry }

type treeFile struct{ treeEntry }

type treeSymlink struct{ treeEntry }

var (
	_ fs.Directory = treeFolder{}
	_ fs.File      = treeFile{}
	_ fs.Symlink   = treeSymlink{}
)

// entry is nil for what kopia has no type for; the records keep that.
func (n *node) entry() fs.Entry {
	switch n.Type {
	case typeFolder:
		return treeFolder{treeEntry{n}}
	case typeFile:
		return treeFile{treeEntry{n}}
	case typeSymlink:
		return treeSymlink{treeEntry{n}}
	}
	return nil
}

func (f treeFolder) Child(_ context.Context, name string) (fs.Entry, error) {
	for _, c := range f.children {
		if e := c.entry(); e != nil && e.Name() == name {
			return e, nil
		}
	}
	return nil, fs.ErrEntryNotFound
}

func (f treeFolder) Iterate(context.Context) (fs.DirectoryIterator, error) {
	var entries []fs.Entry
	for _, c := range f.children {
		if e := c.entry(); e != nil {
			entries = append(entries, e)
		}
	}
	return fs.StaticIterator(entries, nil), nil
}

func (f treeFolder) SupportsMultipleIterations() bool { return true }

func (s treeSymlink) Readlink(context.Context) (string, error) { return string(s.Target), nil }

func (s treeSymlink) Resolve(context.Context) (fs.Entry, error) {
	return nil, errors.New("symlinks of a volume are not followed")
}

// Open opens the very file that was walked over.
func (f treeFile) Open(ctx context.Context) (fs.Reader, error) {
	flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Open(f.path, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Open(f.path, flags, 0)
	}
	if err != nil {
		return nil, gone(f.path, err)
	}
	r := &treeReader{ctx: ctx, entry: f, file: os.NewFile(uintptr(fd), f.path)}
	if err := r.unchanged(); err != nil {
		return nil, errors.Join(err, r.file.Close())
	}
	return r, nil
}

// treeReader fails where the file changes while it is read.
type treeReader struct {
	ctx   context.Context //nolint:containedctx // io.Reader has none
	entry treeFile
	file  *os.File
}

func (r *treeReader) unchanged() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.file.Fd()), &st); err != nil {
		return fmt.Errorf("read %s: %w", r.entry.path, err)
	}
	n := r.entry.node
	if st.Ino != n.inode || st.Dev != n.device || st.Size != n.Size ||
		(stamp{st.Mtim.Sec, st.Mtim.Nsec}) != n.Modified || (stamp{st.Ctim.Sec, st.Ctim.Nsec}) != n.Changed {
		return fmt.Errorf("%s changed while the tree was read: something writes to it; read a snapshot, or stop the writer", r.entry.path)
	}
	return nil
}

func (r *treeReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.file.Read(p)
	if errors.Is(err, io.EOF) {
		if changed := r.unchanged(); changed != nil {
			return n, changed
		}
	}
	return n, err
}

func (r *treeReader) Seek(offset int64, whence int) (int64, error) {
	return r.file.Seek(offset, whence)
}

func (r *treeReader) Close() error { return r.file.Close() }

func (r *treeReader) Entry() (fs.Entry, error) { return r.entry, nil }

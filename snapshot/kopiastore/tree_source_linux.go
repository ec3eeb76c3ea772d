package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path"
	"time"

	"github.com/kopia/kopia/fs"
	"golang.org/x/sys/unix"
)

// Kopia's uploader reads the tree through these instead of its own view of a
// folder, which skips what vanished, takes some names for its own, and
// spoils those that are not UTF-8.

// treeEntry is what all entries have in common.
type treeEntry struct{ *node }

func (e treeEntry) Name() string {
	if e.Path == "" {
		return ""
	}
	return storedName(path.Base(string(e.Path)))
}

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

type treeFile struct{ treeEntry }

type treeSymlink struct{ treeEntry }

var (
	_ fs.Directory = (*treeFolder)(nil)
	_ fs.File      = treeFile{}
	_ fs.Symlink   = treeSymlink{}
)

// entry is nil for what kopia has no type for; the records keep that.
func (n *node) entry() fs.Entry {
	switch n.Type {
	case typeFile:
		return treeFile{treeEntry{n}}
	case typeSymlink:
		return treeSymlink{treeEntry{n}}
	}
	return nil
}

// Child looks through all of the folder: it is for what kopia seldom asks.
func (f *treeFolder) Child(_ context.Context, name string) (fs.Entry, error) {
	for e, err := range f.all() {
		if err != nil || e.Name() == name {
			return e, err
		}
	}
	return nil, fs.ErrEntryNotFound
}

// all are the entries as kopia has them, folders last.
func (f *treeFolder) all() iter.Seq2[fs.Entry, error] {
	return func(yield func(fs.Entry, error) bool) {
		for n, err := range f.leaves() {
			if err != nil {
				yield(nil, err)
				return
			}
			if e := n.entry(); e != nil && !yield(e, nil) {
				return
			}
		}
		for _, c := range f.folders {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (f *treeFolder) Iterate(context.Context) (fs.DirectoryIterator, error) {
	next, stop := iter.Pull2(f.all())
	return &treeIterator{next, stop}, nil
}

func (f *treeFolder) SupportsMultipleIterations() bool { return true }

// treeIterator unpacks a folder as kopia goes through it.
type treeIterator struct {
	next func() (fs.Entry, error, bool)
	stop func()
}

func (i *treeIterator) Next(context.Context) (fs.Entry, error) {
	e, err, more := i.next()
	if !more {
		return nil, nil //nolint:nilnil // how kopia ends it
	}
	return e, err
}

func (i *treeIterator) Close() { i.stop() }

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

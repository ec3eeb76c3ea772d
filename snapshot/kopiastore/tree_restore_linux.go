package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// Small files wait for the network more than for the processor.
	restoreWorkers = 8
	lostAndFound   = "lost+found"
	holeSize       = 4 << 10
	copySize       = 256 << 10
	// restoreWeight is what each worker copies, with a chunk as it came and as it is, and
	// as much as a pack for the listings of the folders on the way.
	restoreWeight = restoreWorkers*(2*maxChunk+copySize) + packSize
)

// RestoreTree makes dir hold exactly the tree of the image. That all of it is
// in the repository is found out before anything in dir is removed.
func (r *Repository) RestoreTree(ctx context.Context, id snapshot.ImageID, dir string, progress snapshot.Progress) (snapshot.Stats, error) {
	t := &treeRestore{repository: r, dir: dir, progress: progress}
	if err := t.restore(ctx, id); err != nil {
		return t.stats(), fmt.Errorf("restore the files of image %s into %s: %w", id, dir, err)
	}
	return t.stats(), nil
}

// treeRestore is one RestoreTree under way.
type treeRestore struct {
	repository *Repository
	dir        string
	progress   snapshot.Progress
	telling    sync.Mutex
	told       time.Time // under telling
	tree       *storedTree

	total, done, fetched, written, files atomic.Int64
}

func (t *treeRestore) stats() snapshot.Stats {
	return snapshot.Stats{
		Total: t.total.Load(), Done: t.done.Load(), Fetched: t.fetched.Load(), Written: t.written.Load(),
		Changed: t.done.Load(), Files: t.files.Load(),
	}
}

func (t *treeRestore) restore(ctx context.Context, id snapshot.ImageID) error {
	release, err := t.load(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	if err := t.empty(); err != nil {
		return err
	}
	if err := t.create(context.WithValue(ctx, fetchedKey{}, &t.fetched)); err != nil {
		return err
	}
	for e, err := range t.tree.records(ctx) {
		if err != nil {
			return err
		}
		if e.Type == typeFolder {
			if err := t.finish(e); err != nil {
				return err
			}
		}
	}
	t.tell()
	return syncFilesystem(t.dir)
}

// load opens the image, and sees that all of it is in the repository. The memory that
// readers of it take is held until release is called.
func (t *treeRestore) load(ctx context.Context, id snapshot.ImageID) (release func(), err error) {
	m, err := t.repository.manifestOf(ctx, id, kindImage)
	if err != nil {
		return nil, err
	}
	if t.tree, err = t.repository.tree(ctx, m); err != nil {
		return nil, err
	}
	if release, err = t.repository.budget.Acquire(ctx, restoreWeight); err != nil {
		return nil, fmt.Errorf("wait for memory: %w", err)
	}
	if err := t.find(ctx); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// find looks for each file's content in the repository's index.
func (t *treeRestore) find(ctx context.Context) error {
	for e, err := range t.tree.entries(ctx) {
		switch {
		case err != nil:
			return err
		case e.Type != typeFile:
			continue
		}
		if err := t.repository.verifyObject(ctx, e.stored.ObjectID); err != nil {
			return fmt.Errorf("file %q: %w", e.Path, t.repository.damage(err))
		}
		if e.Link == "" {
			t.total.Add(e.Size)
		}
	}
	return nil
}

// empty removes what is in dir. Its default ACL goes too, or what is created
// would inherit it.
func (t *treeRestore) empty() error {
	names, err := folderNames(t.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == lostAndFound {
			continue
		}
		if err := os.RemoveAll(filepath.Join(t.dir, name)); err != nil {
			return fmt.Errorf("remove what the image does not hold: %w", err)
		}
	}
	err = unix.Removexattr(t.dir, "system.posix_acl_default")
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("remove the default ACL of %s: %w", t.dir, err)
	}
	return nil
}

// create makes every entry in order, files empty, while workers fill those
// that were made.
func (t *treeRestore) create(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	files := make(chan *storedEntry)
	group.Go(func() error {
		defer close(files)
		for e, err := range t.tree.entries(ctx) {
			if err != nil {
				return err
			}
			if err := t.make(&e.record); err != nil {
				return fmt.Errorf("make %s %q: %w", e.Type, e.Path, err)
			}
			if e.Type != typeFile || e.Link != "" {
				continue
			}
			select {
			case files <- e:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range restoreWorkers {
		group.Go(func() error {
			buf := make([]byte, copySize)
			for e := range files {
				if err := t.fill(ctx, e, buf); err != nil {
					return fmt.Errorf("file %q: %w", e.Path, err)
				}
				t.tell()
			}
			return nil
		})
	}
	return group.Wait()
}

func (t *treeRestore) local(p raw) string { return filepath.Join(t.dir, filepath.FromSlash(string(p))) }

func (t *treeRestore) make(e *record) error {
	file := t.local(e.Path)
	if e.Type == typeFile {
		t.files.Add(1)
	}
	if e.Link != "" {
		return t.link(e)
	}
	switch e.Type {
	case typeFolder:
		err := os.Mkdir(file, configDirMode)
		if errors.Is(err, os.ErrExist) && (e.Path == "" || e.Path == lostAndFound) {
			return nil
		}
		return err
	case typeFile:
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, configFileMode) //nolint:gosec // checked to be inside
		if err != nil {
			return err
		}
		return f.Close()
	case typeSymlink:
		if err := os.Symlink(string(e.Target), file); err != nil {
			return err
		}
	default:
		kinds := map[entryType]uint32{typeFIFO: unix.S_IFIFO, typeSocket: unix.S_IFSOCK, typeBlock: unix.S_IFBLK, typeChar: unix.S_IFCHR}
		if err := unix.Mknod(file, kinds[e.Type]|configFileMode, int(unix.Mkdev(e.Major, e.Minor))); err != nil { //nolint:gosec // a device number
			return err
		}
	}
	return t.finish(e)
}

// link gives an entry another name.
func (t *treeRestore) link(e *record) (err error) {
	parent, err := t.openFolder(parentPath(e.Link))
	if err != nil {
		return fmt.Errorf("open the folder of %q: %w", e.Link, err)
	}
	defer func() { err = errors.Join(err, unix.Close(parent)) }()
	var st unix.Stat_t
	name := path.Base(string(e.Link))
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("look at %q: %w", e.Link, err)
	}
	if kind := typeOf(st.Mode); kind != e.Type {
		return fmt.Errorf("%q is another name of %q, which is a %s: %w", e.Path, e.Link, kind, snapshot.ErrCorrupt)
	}
	return unix.Linkat(parent, name, unix.AT_FDCWD, t.local(e.Path), 0)
}

// openFolder goes to a folder of the volume over no symlink, which may point out of it.
func (t *treeRestore) openFolder(p raw) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	at, err := unix.Open(t.dir, flags, 0)
	if err != nil || p == "" {
		return at, err
	}
	for name := range strings.SplitSeq(string(p), "/") {
		next, err := unix.Openat(at, name, flags|unix.O_NOFOLLOW, 0)
		if err = errors.Join(err, unix.Close(at)); err != nil {
			return 0, err
		}
		at = next
	}
	return at, nil
}

// fill writes a file's content and then what is known of it.
func (t *treeRestore) fill(ctx context.Context, e *storedEntry, buf []byte) (err error) {
	f, err := os.OpenFile(t.local(e.Path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := t.write(ctx, f, e, buf); err != nil {
		return err
	}
	return t.finish(&e.record)
}

func (t *treeRestore) write(ctx context.Context, f *os.File, e *storedEntry, buf []byte) (err error) {
	or, err := t.repository.openObject(ctx, e.stored.ObjectID)
	if err != nil {
		return t.repository.damage(err)
	}
	defer func() { err = errors.Join(err, or.Close()) }()
	at := int64(0)
	for at < e.Size {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), e.Size-at)]
		if _, err := io.ReadFull(or, b); err != nil {
			return fmt.Errorf("at %d: %w", at, t.repository.damage(err))
		}
		if err := t.writePieces(f, &e.record, b, at); err != nil {
			return err
		}
		at += int64(len(b))
		t.done.Add(int64(len(b)))
	}
	if n, err := or.Read(buf[:1]); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("it goes on after %d bytes: %w", e.Size, snapshot.ErrCorrupt)
	}
	return f.Truncate(e.Size)
}

// writePieces leaves zeros of a sparse file out.
func (t *treeRestore) writePieces(f *os.File, e *record, b []byte, at int64) error {
	piece := len(b)
	if e.Sparse {
		piece = holeSize
	}
	for o := 0; o < len(b); o += piece {
		p := b[o:min(o+piece, len(b))]
		if e.Sparse && allZero(p) {
			continue
		}
		if _, err := f.WriteAt(p, at+int64(o)); err != nil {
			return err
		}
		t.written.Add(int64(len(p)))
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// finish sets owner, mode, attributes and time, in the order in which none
// undoes another: an owner clears setuid and capabilities, an ACL and a mode
// are two views of the same, and all of them touch the time.
func (t *treeRestore) finish(e *record) error {
	file := t.local(e.Path)
	if err := unix.Lchown(file, int(e.UID), int(e.GID)); err != nil {
		return fmt.Errorf("set the owner of %q: %w", e.Path, err)
	}
	if e.Type != typeSymlink {
		if err := unix.Chmod(file, e.Mode); err != nil {
			return fmt.Errorf("set the mode of %q: %w", e.Path, err)
		}
	}
	if err := setXattrs(file, e.Xattrs); err != nil {
		return err
	}
	modified, err := unix.TimeToTimespec(e.Modified.time())
	if err != nil {
		return fmt.Errorf("set the time of %q: %w", e.Path, err)
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, modified}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, file, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the time of %q: %w", e.Path, err)
	}
	return nil
}

// setXattrs makes them those wanted. What a security module put on a new file
// is its own to remove.
func setXattrs(file string, want map[string][]byte) error {
	have, err := listXattrs(file)
	if err != nil {
		return err
	}
	for _, name := range have {
		if _, keep := want[name]; keep || len(name) > 9 && name[:9] == "security." {
			continue
		}
		if err := unix.Lremovexattr(file, name); err != nil {
			return fmt.Errorf("remove attribute %s of %s: %w", name, file, err)
		}
	}
	for name, value := range want {
		if err := unix.Lsetxattr(file, name, value, 0); err != nil {
			return fmt.Errorf("set attribute %s of %s, which the filesystem of this volume may not support: %w", name, file, err)
		}
	}
	return nil
}

func syncFilesystem(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // the volume
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(f.Fd()))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("make %s durable: %w", dir, err)
	}
	return nil
}

// tell reports, one goroutine at a time; who comes meanwhile goes on.
func (t *treeRestore) tell() {
	if t.progress == nil || !t.telling.TryLock() {
		return
	}
	defer t.telling.Unlock()
	if time.Since(t.told) > progressInterval || t.done.Load() == t.total.Load() {
		t.told = time.Now()
		t.progress(t.stats())
	}
}

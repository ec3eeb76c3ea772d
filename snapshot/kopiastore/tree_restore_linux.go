package kopiastore

import (
	"context"
	"errors"
	"fmt"
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
	copySize       = 256 << 10
	// restoreWeight is what each worker copies, with a chunk as it came and as it is, the
	// chunks of files that are compared, and as much as a pack for the listings of the
	// folders on the way.
	restoreWeight = restoreWorkers*(2*maxChunk+copySize) + comparers*treeChunk + packSize
)

// ErrCutShort says that a restore of a tree had changed its folder before it failed: what
// is there now is neither the image nor what was there before.
var ErrCutShort = errors.New("cut short")

// RestoreTree makes dir hold exactly the tree of the image. That all of it is
// in the repository is found out before anything in dir is removed, and what fails after
// that is ErrCutShort. What a file in dir has of its content already is not fetched: dir may
// hold anything, and be half written.
func (r *Repository) RestoreTree(ctx context.Context, id snapshot.ImageID, dir string, progress snapshot.Progress) (snapshot.Stats, error) {
	t := &treeRestore{repository: r, dir: dir, progress: progress}
	if err := t.restore(ctx, id); err != nil {
		if t.touched {
			err = fmt.Errorf("%w: %w", ErrCutShort, err)
		}
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
	// touched is true once anything in dir is not as it was.
	touched bool
	// hash tells what a file has, and spare is memory to read it into.
	hash  *unsealer
	spare chan []byte

	total, done, read, changed, fetched, written, files atomic.Int64
}

func (t *treeRestore) stats() snapshot.Stats {
	return snapshot.Stats{
		Total: t.total.Load(), Done: t.done.Load(), Read: t.read.Load(), Changed: t.changed.Load(),
		Fetched: t.fetched.Load(), Written: t.written.Load(), Files: t.files.Load(),
	}
}

func (t *treeRestore) restore(ctx context.Context, id snapshot.ImageID) (err error) {
	// A link in place of the folder has an owner, a time and attributes of its own.
	if t.dir, err = filepath.EvalSymlinks(t.dir); err != nil {
		return err
	}
	release, err := t.load(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	// What could not be written is told to those only who had the file system open then.
	volume, err := os.Open(t.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, volume.Close()) }()
	kept, err := t.prune(ctx)
	if err != nil {
		return err
	}
	if err := t.create(context.WithValue(ctx, fetchedKey{}, &t.fetched), kept); err != nil {
		return err
	}
	if err := t.finishFolders(ctx); err != nil {
		return err
	}
	t.tell()
	if err := unix.Syncfs(int(volume.Fd())); err != nil {
		return fmt.Errorf("make %s durable: %w", t.dir, err)
	}
	return nil
}

// finishFolders comes last, since all that is made in a folder touches its time.
func (t *treeRestore) finishFolders(ctx context.Context) error {
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
	return nil
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

// create makes every entry that was not kept in order, files empty, while workers fill
// those that are there.
func (t *treeRestore) create(ctx context.Context, kept bits) error {
	t.hash, t.spare = &unsealer{hash: t.repository.rep.ContentReader().ContentFormat().HashFunc()}, make(chan []byte, comparers)
	for range comparers {
		t.spare <- nil
	}
	group, ctx := errgroup.WithContext(ctx)
	files := make(chan *storedEntry)
	group.Go(func() error {
		defer close(files)
		number := -1
		for e, err := range t.tree.entries(ctx) {
			if err != nil {
				return err
			}
			number++
			if err := t.make(&e.record, kept.has(number)); err != nil {
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

// make makes an entry, unless it was kept. What was not there before is never taken for
// what was: of two names that a file system holds to be one, the second fails.
func (t *treeRestore) make(e *record, kept bool) error {
	file := t.local(e.Path)
	if e.Type == typeFile {
		t.files.Add(1)
	}
	if e.Link != "" {
		return t.link(e)
	}
	switch e.Type {
	case typeFolder:
		if kept {
			return nil
		}
		return os.Mkdir(file, configDirMode)
	case typeFile:
		if kept && takes(file) {
			return nil
		}
		return makeFile(file, kept)
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

// takes says that a file can be written where it is, and makes it as one that is made now:
// for nobody else until it is finished. It cannot where it has names beside its first,
// which are gone by now: those are other files of the image, or out of the volume.
func takes(file string) bool {
	f, err := openFound(file, os.O_RDWR)
	if err != nil {
		return false
	}
	var st unix.Stat_t
	fits := unix.Fstat(int(f.Fd()), &st) == nil && typeOf(st.Mode) == typeFile && st.Nlink == 1 && f.Chmod(configFileMode) == nil
	return f.Close() == nil && fits
}

func makeFile(file string, instead bool) error {
	if instead {
		if err := unix.Unlink(file); err != nil {
			return fmt.Errorf("remove what is to be replaced: %w", err)
		}
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, configFileMode) //nolint:gosec // checked to be inside
	if err != nil {
		return err
	}
	return f.Close()
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

// setXattrs makes them those wanted. What a security module put on a file is its own to
// remove; a capability is given by whoever had the file before.
func setXattrs(file string, want map[string][]byte) error {
	have, err := listXattrs(file)
	if err != nil {
		return err
	}
	for _, name := range have {
		if _, keep := want[name]; keep || strings.HasPrefix(name, "security.") && name != "security.capability" {
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

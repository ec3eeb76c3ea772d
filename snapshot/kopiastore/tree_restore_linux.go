package kopiastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	kopia "github.com/kopia/kopia/snapshot"
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
	records    []record
	// stored are the files' entries in the image, by path.
	stored map[raw]*kopia.DirEntry

	total, done, fetched, written, files atomic.Int64
}

func (t *treeRestore) stats() snapshot.Stats {
	return snapshot.Stats{
		Total: t.total.Load(), Done: t.done.Load(), Fetched: t.fetched.Load(), Written: t.written.Load(),
		Changed: t.done.Load(), Files: t.files.Load(),
	}
}

func (t *treeRestore) restore(ctx context.Context, id snapshot.ImageID) error {
	if err := t.load(ctx, id); err != nil {
		return err
	}
	if err := t.empty(); err != nil {
		return err
	}
	if err := t.create(context.WithValue(ctx, fetchedKey{}, &t.fetched)); err != nil {
		return err
	}
	for i := range t.records {
		if e := &t.records[i]; e.Type == typeFolder {
			if err := t.finish(e); err != nil {
				return err
			}
		}
	}
	t.tell()
	return syncFilesystem(t.dir)
}

// load reads what the image holds.
func (t *treeRestore) load(ctx context.Context, id snapshot.ImageID) error {
	m, err := t.repository.manifestOf(ctx, id, kindImage)
	if err != nil {
		return err
	}
	volume, records, err := t.repository.tree(ctx, m)
	if err != nil {
		return err
	}
	t.records, t.stored = records, map[raw]*kopia.DirEntry{}
	return t.find(ctx, volume)
}

// find matches each file's record with its stored content, and that with the
// repository's index.
func (t *treeRestore) find(ctx context.Context, volume *kopia.DirEntry) error {
	folders := map[raw]map[string]*kopia.DirEntry{}
	for i := range t.records {
		e := &t.records[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		entry := volume
		if e.Path != "" {
			entry = folders[raw(e.parent())][storedName(path.Base(string(e.Path)))]
		}
		switch e.Type {
		case typeFolder:
			children, err := t.findFolder(ctx, e, entry)
			if err != nil {
				return err
			}
			folders[e.Path] = children
		case typeFile:
			if err := t.findFile(ctx, e, entry); err != nil {
				return err
			}
		}
	}
	return nil
}

func notAsRecorded(e *record) error {
	return fmt.Errorf("%s %q is not stored as its record says: %w", e.Type, e.Path, snapshot.ErrCorrupt)
}

func (t *treeRestore) findFolder(ctx context.Context, e *record, entry *kopia.DirEntry) (map[string]*kopia.DirEntry, error) {
	if entry == nil || entry.Type != kopia.EntryTypeDirectory {
		return nil, notAsRecorded(e)
	}
	children, err := t.repository.folder(ctx, entry)
	if err != nil {
		return nil, fmt.Errorf("directory %q: %w", e.Path, err)
	}
	return children, nil
}

func (t *treeRestore) findFile(ctx context.Context, e *record, entry *kopia.DirEntry) error {
	if entry == nil || entry.Type != kopia.EntryTypeFile || entry.FileSize != e.Size {
		return notAsRecorded(e)
	}
	if err := t.repository.verifyObject(ctx, entry.ObjectID); err != nil {
		return fmt.Errorf("file %q: %w", e.Path, t.repository.damage(err))
	}
	t.stored[e.Path] = entry
	if e.Link == "" {
		t.total.Add(e.Size)
	}
	return nil
}

func (r *Repository) folder(ctx context.Context, entry *kopia.DirEntry) (map[string]*kopia.DirEntry, error) {
	data, err := r.readObject(ctx, entry.ObjectID)
	if err != nil {
		return nil, r.damage(err)
	}
	var d kopia.DirManifest
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrCorrupt, err)
	}
	children := make(map[string]*kopia.DirEntry, len(d.Entries))
	for _, e := range d.Entries {
		children[e.Name] = e
	}
	return children, nil
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
	files := make(chan *record)
	group.Go(func() error {
		defer close(files)
		for i := range t.records {
			e := &t.records[i]
			if err := t.make(e); err != nil {
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
		return os.Link(t.local(e.Link), file)
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

// fill writes a file's content and then what is known of it.
func (t *treeRestore) fill(ctx context.Context, e *record, buf []byte) (err error) {
	f, err := os.OpenFile(t.local(e.Path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := t.write(ctx, f, e, buf); err != nil {
		return err
	}
	return t.finish(e)
}

func (t *treeRestore) write(ctx context.Context, f *os.File, e *record, buf []byte) (err error) {
	or, err := t.repository.openObject(ctx, t.stored[e.Path].ObjectID)
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
		if err := t.writePieces(f, e, b, at); err != nil {
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

package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// pruning goes through a folder and the image side by side, both in order, and removes what
// the image does not have there. Folders stay, and files under the first of their names:
// what takes time to bring is in those alone, and all else is made anew.
type pruning struct {
	restore *treeRestore
	next    func() (*record, error, bool)
	// at is the record that the folder has not come past, and number tells it; nil after
	// the last.
	at     *record
	number int
	// device is that of the volume: into a subvolume, which has its own, nothing can be
	// linked.
	device uint64
	kept   bits
}

// prune returns by their numbers which of the image's entries stay.
func (t *treeRestore) prune(ctx context.Context) (bits, error) {
	st, err := look(t.dir)
	if err != nil {
		return nil, err
	}
	if err := refuseMounts(ctx, t.dir); err != nil {
		return nil, err
	}
	next, stop := iter.Pull2(t.tree.records(ctx))
	defer stop()
	p := &pruning{restore: t, next: next, number: -1, device: device(&st)}
	if err := p.advance(); err != nil {
		return nil, err
	}
	p.kept.set(p.number)
	err = p.folder(ctx, "")
	return p.kept, err
}

func (p *pruning) advance() error {
	e, err, more := p.next()
	if !more {
		e = nil
	}
	p.at = e
	p.number++
	return err
}

func (p *pruning) folder(ctx context.Context, rel raw) error {
	if err := p.restore.lock(rel); err != nil {
		return fmt.Errorf("keep others out of directory %q while it is written: %w", rel, err)
	}
	names, err := folderNames(p.restore.local(rel))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.entry(ctx, raw(path.Join(string(rel), name))); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// find returns what the image has of an entry, nil for nothing. It is called in order.
func (p *pruning) find(rel raw) (*record, error) {
	for p.at != nil && comparePaths(p.at.Path, rel) < 0 {
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if p.at == nil || p.at.Path != rel {
		return nil, nil //nolint:nilnil // it has none
	}
	return p.at, nil
}

func (p *pruning) entry(ctx context.Context, rel raw) error {
	e, err := p.find(rel)
	if err != nil {
		return err
	}
	file := p.restore.local(rel)
	st, err := lookWithin(file)
	if err != nil {
		return err
	}
	kind := typeOf(uint32(st.Mode))
	same := e != nil && e.Type == kind && e.Link == "" && device(&st) == p.device
	switch {
	case same && kind == typeFolder:
		p.kept.set(p.number)
		return p.folder(ctx, rel)
	case same && kind == typeFile:
		p.kept.set(p.number)
		return nil
	case isLostAndFound(rel, kind) && (e == nil || kind == typeFolder):
		return nil
	}
	if err := os.RemoveAll(file); err != nil {
		return fmt.Errorf("remove what the image does not hold: %w", err)
	}
	return nil
}

// refuseMounts finds what is mounted in a folder before anything of that is changed: it is
// none of the volume, and cannot be removed, which nobody is to learn halfway. Where it may
// not look yet, entry does once it may.
func refuseMounts(ctx context.Context, dir string) error {
	names, err := folderNames(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		file := filepath.Join(dir, name)
		st, err := lookWithin(file)
		if err == nil && typeOf(uint32(st.Mode)) == typeFolder {
			err = refuseMounts(ctx, file)
		}
		if err != nil && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	return ctx.Err()
}

func look(file string) (unix.Statx_t, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, file, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st); err != nil {
		return st, fmt.Errorf("look at %s: %w", file, err)
	}
	return st, nil
}

// lookWithin fails where another file system is mounted, or a folder or a file of any. The
// device does not tell: what is mounted may have the volume's, and a subvolume has another.
func lookWithin(file string) (unix.Statx_t, error) {
	st, err := look(file)
	switch {
	case err != nil:
		return st, err
	case st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0:
		return st, fmt.Errorf("look at %s: the kernel does not tell what is mounted: it must be 5.8 or newer", file)
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return st, fmt.Errorf("%s is a mount, and what it holds would be overwritten or removed: unmount it first, or choose another folder", file)
	}
	return st, nil
}

func device(st *unix.Statx_t) uint64 { return unix.Mkdev(st.Dev_major, st.Dev_minor) }

// isLostAndFound is true for the folder that a file system has for itself, and for what
// is in it.
func isLostAndFound(rel raw, kind entryType) bool {
	return rel == lostAndFound && kind == typeFolder || strings.HasPrefix(string(rel), lostAndFound+"/")
}

// lock makes a folder that was there as one that is made now: for nobody else until it is
// finished, who might put a symlink where something is about to be written; and without a
// default ACL, which what is made in it would inherit.
func (t *treeRestore) lock(rel raw) (err error) {
	flags := os.O_RDONLY | unix.O_DIRECTORY | unix.O_NONBLOCK
	if rel != "" {
		flags |= unix.O_NOFOLLOW
	}
	f, err := os.OpenFile(t.local(rel), flags, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Where that cannot be done, a new one would be no more its own.
	owned := f.Chown(os.Geteuid(), os.Getegid()) == nil
	err = f.Chmod(configDirMode)
	t.touched = t.touched || owned || err == nil
	if err != nil {
		return err
	}
	err = unix.Fremovexattr(int(f.Fd()), "system.posix_acl_default")
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("remove its default ACL: %w", err)
	}
	return nil
}

// bits are yes or no by number: one bit for each entry of a tree.
type bits []uint64

const bitsPerWord = 64

func (b *bits) set(n int) {
	for len(*b) <= n/bitsPerWord {
		*b = append(*b, 0)
	}
	(*b)[n/bitsPerWord] |= 1 << (n % bitsPerWord)
}

func (b bits) has(n int) bool {
	return n/bitsPerWord < len(b) && b[n/bitsPerWord]&(1<<(n%bitsPerWord)) != 0
}

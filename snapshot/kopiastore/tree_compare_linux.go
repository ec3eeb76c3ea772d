package kopiastore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/godwit-io/godwit/snapshot"
)

// CompareTree says where dir differs from the image in what it holds: its entries first,
// and where those are the same, the bytes of its files. Owners, modes and times do not
// count: kubelet changes them for who mounts a volume.
func (r *Repository) CompareTree(ctx context.Context, id snapshot.ImageID, dir string, progress snapshot.Progress) (string, snapshot.Stats, error) {
	t := &treeRestore{repository: r, dir: dir, progress: progress}
	d, err := t.compare(ctx, id)
	if err != nil {
		return "", t.verified(), fmt.Errorf("compare the files in %s with image %s: %w", dir, id, err)
	}
	return d.String(), t.verified(), nil
}

// differences are counted, and the first is told.
type differences struct {
	mu    sync.Mutex
	count int
	first string
	path  raw
}

func (d *differences) add(path raw, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.count++; d.count == 1 || path < d.path {
		d.path, d.first = path, fmt.Sprintf(format, args...)
	}
}

// String is empty for none.
func (d *differences) String() string {
	if d.count == 0 {
		return ""
	}
	return fmt.Sprintf("%d entries differ, the first %q: %s", d.count, d.path, d.first)
}

func (t *treeRestore) compare(ctx context.Context, id snapshot.ImageID) (*differences, error) {
	dir, err := filepath.EvalSymlinks(t.dir)
	if err != nil {
		return nil, err
	}
	t.dir = dir
	release, err := t.load(ctx, id)
	if err != nil {
		return nil, err
	}
	defer release()
	d := &differences{}
	if err := t.compareEntries(ctx, d); err != nil || d.count > 0 {
		return d, err
	}
	return d, t.compareFiles(ctx, d)
}

// compareEntries goes through the tree and the image side by side, both in order.
func (t *treeRestore) compareEntries(ctx context.Context, d *differences) error {
	walk, stop := iter.Pull2(walkTree(ctx, t.dir))
	defer stop()
	n, err, _ := walk()
	for e, failed := range t.tree.records(ctx) {
		if err := cmp.Or(failed, err); err != nil {
			return err
		}
		for ; n != nil && comparePaths(n.Path, e.Path) < 0; n, err, _ = walk() {
			d.isNew(n)
		}
		if err != nil {
			return err
		}
		if n == nil || n.Path != e.Path {
			if e.Path != lostAndFound {
				d.add(e.Path, "it is gone")
			}
			continue
		}
		d.compare(e, n)
		n, err, _ = walk()
	}
	for ; n != nil; n, err, _ = walk() {
		d.isNew(n)
	}
	return err
}

func (d *differences) isNew(n *node) {
	if n.Path != lostAndFound && !strings.HasPrefix(string(n.Path), lostAndFound+"/") {
		d.add(n.Path, "it is new")
	}
}

func (d *differences) compare(e *record, n *node) {
	switch {
	case n.Type != e.Type:
		d.add(e.Path, "it was a %s, and is a %s", e.Type, n.Type)
	case e.Type == typeFile && n.Size != e.Size:
		d.add(e.Path, "it had %d bytes, and has %d", e.Size, n.Size)
	case n.Target != e.Target || n.Link != e.Link || n.Major != e.Major || n.Minor != e.Minor:
		d.add(e.Path, "it leads elsewhere than it did")
	}
}

func (t *treeRestore) compareFiles(ctx context.Context, d *differences) error {
	all := func() bool { return true }
	return t.eachFile(ctx, all, func(ctx context.Context, e *storedEntry) error {
		err := t.compareFile(ctx, e)
		if errors.Is(err, snapshot.ErrDiffers) {
			d.add(e.Path, "%v", err)
			return nil
		}
		return err
	})
}

func (t *treeRestore) compareFile(ctx context.Context, e *storedEntry) (err error) {
	f, err := openFound(t.local(e.Path), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return t.sameAsStored(ctx, f, e)
}

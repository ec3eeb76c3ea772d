package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

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
	if err := t.load(ctx, id); err != nil {
		return nil, err
	}
	root, _, err := walkTree(ctx, t.dir)
	if err != nil {
		return nil, err
	}
	d := t.compareEntries(root)
	if d.count > 0 {
		return d, nil
	}
	return d, t.compareFiles(ctx, d)
}

func (t *treeRestore) compareEntries(root *node) *differences {
	there := map[raw]*node{}
	list(root, there)
	d := &differences{}
	for i := range t.records {
		e := &t.records[i]
		n := there[e.Path]
		delete(there, e.Path)
		switch {
		case n == nil && e.Path == lostAndFound:
		case n == nil:
			d.add(e.Path, "it is gone")
		case n.Type != e.Type:
			d.add(e.Path, "it was a %s, and is a %s", e.Type, n.Type)
		case e.Type == typeFile && n.Size != e.Size:
			d.add(e.Path, "it had %d bytes, and has %d", e.Size, n.Size)
		case n.Target != e.Target || n.Link != e.Link || n.Major != e.Major || n.Minor != e.Minor:
			d.add(e.Path, "it leads elsewhere than it did")
		}
	}
	for path := range there {
		if path != lostAndFound && !strings.HasPrefix(string(path), lostAndFound+"/") {
			d.add(path, "it is new")
		}
	}
	return d
}

// list puts all entries of a tree into a map by their paths.
func list(n *node, into map[raw]*node) {
	into[n.Path] = n
	for _, child := range n.children {
		list(child, into)
	}
}

func (t *treeRestore) compareFiles(ctx context.Context, d *differences) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(restoreWorkers)
	for i := range t.records {
		e := &t.records[i]
		if e.Type != typeFile || e.Link != "" {
			continue
		}
		group.Go(func() error {
			err := t.compareFile(ctx, e)
			if errors.Is(err, snapshot.ErrDiffers) {
				d.add(e.Path, "%v", err)
				return nil
			}
			if err != nil {
				return fmt.Errorf("file %q: %w", e.Path, err)
			}
			t.files.Add(1)
			t.tell()
			return nil
		})
	}
	return group.Wait()
}

// compareFile opens what others may have put there: it follows no link, and waits for
// nobody at a pipe's other end.
func (t *treeRestore) compareFile(ctx context.Context, e *record) (err error) {
	f, err := os.OpenFile(t.local(e.Path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return t.sameAsStored(ctx, f, e)
}

package kopiastore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
)

// VerifyTree reads files under dir again, past what is cached where the kernel lets
// go of it, and compares them with the image.
func (r *Repository) VerifyTree(ctx context.Context, id snapshot.ImageID, dir string, share float64, progress snapshot.Progress) (snapshot.Stats, error) {
	t := &treeRestore{repository: r, dir: dir, progress: progress}
	if err := t.verify(ctx, id, share); err != nil {
		return t.verified(), fmt.Errorf("verify the files in %s against image %s: %w", dir, id, err)
	}
	return t.verified(), nil
}

func (t *treeRestore) verified() snapshot.Stats {
	s := t.stats()
	s.Read, s.Changed = s.Done, 0
	return s
}

func (t *treeRestore) verify(ctx context.Context, id snapshot.ImageID, share float64) error {
	release, err := t.load(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	first := true
	chosen := func() bool {
		was := first
		first = false
		return was || rand.Float64() < share //nolint:gosec // which files are read is no secret
	}
	return t.eachFile(ctx, chosen, t.verifyFile)
}

// eachFile does it with each file that is chosen, once whatever names it has, some at a time.
func (t *treeRestore) eachFile(ctx context.Context, chosen func() bool, do func(context.Context, *storedEntry) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(restoreWorkers)
	for e, err := range t.tree.entries(ctx) {
		if err != nil {
			return cmp.Or(group.Wait(), err)
		}
		if e.Type != typeFile || e.Link != "" || !chosen() {
			continue
		}
		group.Go(func() error {
			if err := do(ctx, e); err != nil {
				return fmt.Errorf("file %q: %w", e.Path, err)
			}
			t.files.Add(1)
			t.tell()
			return nil
		})
	}
	return group.Wait()
}

func (t *treeRestore) verifyFile(ctx context.Context, e *storedEntry) (err error) {
	f, err := openFound(t.local(e.Path), os.O_RDONLY)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: it is not there", snapshot.ErrDiffers)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: it is no file", snapshot.ErrDiffers)
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is no file", snapshot.ErrDiffers)
	} else if info.Size() != e.Size {
		return fmt.Errorf("%w: it has %d bytes, and not %d", snapshot.ErrDiffers, info.Size(), e.Size)
	}
	// Only what is durable can be dropped from the cache.
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		return err
	}
	return t.sameAsStored(ctx, f, e)
}

// openFound opens what others may have put there: it follows no link, and waits for
// nobody at a pipe's other end.
func openFound(path string, access int) (*os.File, error) {
	return os.OpenFile(path, access|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) //nolint:gosec // checked to be inside
}

// sameAsStored compares a file with what the image has of it.
func (t *treeRestore) sameAsStored(ctx context.Context, f *os.File, e *storedEntry) (err error) {
	or, err := t.repository.openObject(ctx, e.stored.ObjectID)
	if err != nil {
		return t.repository.damage(err)
	}
	defer func() { err = errors.Join(err, or.Close()) }()
	return t.sameContent(ctx, f, or, e.Size)
}

func (t *treeRestore) sameContent(ctx context.Context, f *os.File, stored io.Reader, size int64) error {
	want, have := make([]byte, copySize), make([]byte, copySize)
	for at := int64(0); at < size; at += copySize {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(copySize, size-at)
		if _, err := io.ReadFull(stored, want[:n]); err != nil {
			return fmt.Errorf("at %d: %w", at, t.repository.damage(err))
		}
		if _, err := f.ReadAt(have[:n], at); err != nil {
			return fmt.Errorf("read %d bytes at %d: %w", n, at, err)
		}
		if !bytes.Equal(want[:n], have[:n]) {
			return fmt.Errorf("%w at %d", snapshot.ErrDiffers, at+firstDifference(want[:n], have[:n]))
		}
		t.done.Add(n)
	}
	return nil
}

func firstDifference(a, b []byte) int64 {
	for i := range a {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	return int64(len(a))
}

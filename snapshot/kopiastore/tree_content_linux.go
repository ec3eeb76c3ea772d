package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	holeSize = 4 << 10
	// treeChunk is the largest that kopia cuts files into.
	treeChunk = 8 << 20
	// comparers are how many chunks of files are read at once.
	comparers = 4
)

// filling is one file whose content is being made that of the image. Nothing but the bytes
// themselves tells which of them are right already, since sizes and times are the same on
// many a file that is not: each chunk is read, and has to have the hash by which the
// repository keeps it.
type filling struct {
	*treeRestore
	file *os.File
	of   *storedEntry
	// had is how long it was; there is nothing behind that.
	had int64
	// solid files have no holes where the image's has some.
	solid bool
}

// fill makes a file's content that of the image and then sets what else is known of it.
func (t *treeRestore) fill(ctx context.Context, e *storedEntry, buf []byte) (err error) {
	f, err := openFound(t.local(e.Path), os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := t.write(ctx, f, e, buf); err != nil {
		return err
	}
	return t.finish(&e.record)
}

func (t *treeRestore) write(ctx context.Context, f *os.File, e *storedEntry, buf []byte) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Size > 0 {
		// What is read is then what the disk has, where the kernel lets go of it.
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	w := &filling{t, f, e, st.Size, e.Sparse && st.Blocks*statBlock >= st.Size}
	chunks, err := t.chunksOf(ctx, e)
	if err != nil {
		return err
	}
	for _, c := range chunks {
		if err := ctx.Err(); err != nil {
			return err
		}
		same, err := w.holds(c)
		if err == nil && !same {
			err = w.fetch(ctx, c, buf)
		}
		if err != nil {
			return fmt.Errorf("at %d: %w", c.Start, err)
		}
	}
	return f.Truncate(e.Size)
}

// chunksOf are the objects that a file's content consists of, as long as it together.
func (t *treeRestore) chunksOf(ctx context.Context, e *storedEntry) ([]object.IndirectObjectEntry, error) {
	id := e.stored.ObjectID
	if _, indirect := id.IndexObjectID(); !indirect {
		return []object.IndirectObjectEntry{{Length: e.Size, Object: id}}, nil
	}
	entries, err := t.repository.readIndirect(ctx, id, e.Size)
	return entries, t.repository.damage(err)
}

// holds says that the file has a chunk. What cannot be read of the file it does not have,
// nor what is kept by another name than its hash.
func (w *filling) holds(c object.IndirectObjectEntry) (bool, error) {
	if c.Length > treeChunk || c.Start+c.Length > w.had {
		return false, nil
	}
	b := spare(<-w.spare, int(c.Length))[:c.Length]
	defer func() { w.spare <- b }()
	if _, err := w.file.ReadAt(b, c.Start); err != nil {
		return false, nil //nolint:nilerr // it is fetched, and written again
	}
	w.read.Add(c.Length)
	if w.hash.id(b) != c.Object.String() {
		return false, nil
	}
	w.done.Add(c.Length)
	if !w.solid {
		return true, nil
	}
	return true, eachHole(b, func(from, n int) error {
		_, err := w.punch(c.Start+int64(from), int64(n))
		return err
	})
}

// fetch writes a chunk as the repository has it.
func (w *filling) fetch(ctx context.Context, c object.IndirectObjectEntry, buf []byte) (err error) {
	or, err := w.repository.openObject(ctx, c.Object)
	if err != nil {
		return w.repository.damage(err)
	}
	defer func() { err = errors.Join(err, or.Close()) }()
	if n := or.Length(); n != c.Length {
		return fmt.Errorf("%d bytes are stored, and not %d: %w", n, c.Length, snapshot.ErrCorrupt)
	}
	for at := int64(0); at < c.Length; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), c.Length-at)]
		if _, err := io.ReadFull(or, b); err != nil {
			return w.repository.damage(err)
		}
		if err := w.put(b, c.Start+at); err != nil {
			return err
		}
		at += int64(len(b))
		w.done.Add(int64(len(b)))
		w.changed.Add(int64(len(b)))
	}
	return nil
}

// put writes bytes, and leaves a sparse file's zeros out.
func (w *filling) put(b []byte, at int64) error {
	if !w.of.Sparse {
		return w.putAll(b, at)
	}
	end := 0
	err := eachHole(b, func(from, n int) error {
		if err := w.putAll(b[end:from], at+int64(end)); err != nil {
			return err
		}
		end = from + n
		if at+int64(from) >= w.had {
			return nil
		}
		if punched, err := w.punch(at+int64(from), int64(n)); punched || err != nil {
			return err
		}
		return w.putAll(b[from:end], at+int64(from))
	})
	if err != nil {
		return err
	}
	return w.putAll(b[end:], at+int64(end))
}

func (w *filling) putAll(b []byte, at int64) error {
	if len(b) == 0 {
		return nil
	}
	_, err := w.file.WriteAt(b, at)
	if err == nil {
		w.written.Add(int64(len(b)))
	}
	return err
}

// punch takes the blocks from under zeros; it says where the file system cannot.
func (w *filling) punch(at, n int64) (punched bool, err error) {
	err = unix.Fallocate(int(w.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
		return false, nil
	}
	return err == nil, err
}

// eachHole goes through the runs of zeros that may be holes.
func eachHole(b []byte, do func(from, n int) error) error {
	for from := 0; from < len(b); {
		end := from
		for end < len(b) && allZero(b[end:min(end+holeSize, len(b))]) {
			end = min(end+holeSize, len(b))
		}
		if end == from {
			from += holeSize
			continue
		}
		if err := do(from, end-from); err != nil {
			return err
		}
		from = end
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

package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// BlockSize is the grain of extents, in bytes.
const BlockSize = 4096

// compareChunk is how much of two images is compared at a time; a multiple of
// BlockSize.
const compareChunk = 1 << 20

// Extent is a range of an image in bytes.
type Extent struct{ Offset, Length int64 }

// End is the first byte after the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// Allocated yields the extents of an image that may hold data, from the block
// that holds byte from on, ascending, never touching one another. What it
// leaves out reads as zeros.
func Allocated(image string, from int64, yield func(Extent) error) error {
	f, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("allocated extents: %w", err)
	}
	defer func() { _ = f.Close() }()
	size, err := sizeOf(f)
	if err != nil {
		return err
	}
	out := merger{yield: yield}
	if err := dataRanges(f, alignDown(from), size, out.add); err != nil {
		return fmt.Errorf("allocated extents of %s: %w", image, err)
	}
	return out.flush()
}

// Delta yields the extents of target that differ from base, from the block
// that holds byte from on, ascending, never touching one another. It is exact
// to BlockSize: ranges whose blocks the two images share are skipped, all else
// is compared. What lies behind the end of base counts as zeros there.
func Delta(base, target string, from int64, yield func(Extent) error) error {
	b, err := os.Open(base)
	if err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	defer func() { _ = b.Close() }()
	t, err := os.Open(target)
	if err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	defer func() { _ = t.Close() }()
	size, err := sizeOf(t)
	if err != nil {
		return err
	}
	bMap, err := mapImage(b, size)
	if err != nil {
		return err
	}
	tMap, err := mapImage(t, size)
	if err != nil {
		return err
	}
	out := merger{yield: yield}
	cmp := comparer{base: b, target: t, out: out.add, bufB: make([]byte, compareChunk), bufT: make([]byte, compareChunk)}
	if err := sweep(bMap, tMap, alignDown(from), size, cmp.compare); err != nil {
		return fmt.Errorf("delta of %s and %s: %w", base, target, err)
	}
	return out.flush()
}

func alignDown(n int64) int64 { return n / BlockSize * BlockSize }

func sizeOf(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("size: %w", err)
	}
	return st.Size(), nil
}

// dataRanges yields the ranges with data as the filesystem tells them, widened
// to whole blocks and cut at size.
func dataRanges(f *os.File, from, size int64, yield func(Extent) error) error {
	for from < size {
		start, err := unix.Seek(int(f.Fd()), from, unix.SEEK_DATA)
		// ENXIO: only a hole is left.
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("seek data at %d: %w", from, err)
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("seek hole at %d: %w", start, err)
		}
		start = max(alignDown(start), from)
		end = min(alignDown(end+BlockSize-1), size)
		if start < end {
			if err := yield(Extent{Offset: start, Length: end - start}); err != nil {
				return err
			}
		}
		from = end
	}
	return nil
}

// merger joins extents that touch before it yields them.
type merger struct {
	yield   func(Extent) error
	pending Extent
}

func (m *merger) add(e Extent) error {
	if m.pending.Length > 0 && m.pending.End() == e.Offset {
		m.pending.Length += e.Length
		return nil
	}
	err := m.flush()
	m.pending = e
	return err
}

func (m *merger) flush() error {
	e := m.pending
	m.pending = Extent{}
	if e.Length == 0 {
		return nil
	}
	return m.yield(e)
}

// comparer compares a range of two images block by block.
type comparer struct {
	base, target *os.File
	bufB, bufT   []byte
	out          func(Extent) error
}

func (c *comparer) compare(e Extent) error {
	for off := e.Offset; off < e.End(); off += compareChunk {
		n := min(compareChunk, e.End()-off)
		b, t := c.bufB[:n], c.bufT[:n]
		if err := readZeroPadded(c.base, b, off); err != nil {
			return err
		}
		if err := readZeroPadded(c.target, t, off); err != nil {
			return err
		}
		for at := int64(0); at < n; at += BlockSize {
			end := min(at+BlockSize, n)
			if bytes.Equal(b[at:end], t[at:end]) {
				continue
			}
			if err := c.out(Extent{Offset: off + at, Length: end - at}); err != nil {
				return err
			}
		}
	}
	return nil
}

func readZeroPadded(f *os.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s at %d: %w", f.Name(), off, err)
	}
	clear(p[n:])
	return nil
}

package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
)

// readBack reads what the window wrote and compares. The sync before it makes
// the device answer, not what waits to be written.
func (d *download) readBack(ctx context.Context, w *window) error {
	if d.verify != VerifyReadBack {
		return nil
	}
	if err := d.sink.Sync(); err != nil {
		return fmt.Errorf("make the volume durable: %w", err)
	}
	buffers := sync.Pool{New: func() any { return new([]byte) }}
	check := func(e Extent, good func([]byte) bool) error {
		p := buffers.Get().(*[]byte)
		defer buffers.Put(p)
		if int64(cap(*p)) < e.Length {
			*p = make([]byte, e.Length)
		}
		b := (*p)[:e.Length]
		if n, err := d.sink.ReadAt(b, e.Offset); n < len(b) {
			return fmt.Errorf("read back %d bytes at %d: %w", len(b), e.Offset, errors.Join(err, io.ErrUnexpectedEOF))
		}
		d.n.read.Add(e.Length)
		if !good(b) {
			return fmt.Errorf("what was read back from the volume at %d is not what was written, so the device is faulty: %w", e.Offset, ErrCorrupt)
		}
		return nil
	}
	if err := d.each(ctx, w.zeros, readSize, func(e Extent) error { return check(e, isZero) }); err != nil {
		return err
	}
	written := make([]Extent, 0, len(w.chunks))
	longest := int64(1)
	for _, c := range w.chunks {
		written = append(written, c.Extent)
		longest = max(longest, c.Length)
	}
	return d.each(ctx, written, longest, func(e Extent) error {
		return check(e, func(b []byte) bool {
			sum, known := w.sums[e.Offset]
			return known && sum == sha256.Sum256(b)
		})
	})
}

package kopiastore

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/kopia/kopia/repo/blob"
)

// buffers keeps memory for spans, since what is made anew for each is garbage
// of twice the size of all that is in use.
type buffers struct {
	mu   sync.Mutex
	free []*spanBuffer
}

// take gives an empty buffer for so many bytes.
func (b *buffers) take(size int64) *spanBuffer {
	if size < spanMax/8 { // few chunks, seldom
		return &spanBuffer{data: make([]byte, 0, size)}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free) - 1; n >= 0 && size <= spanMax {
		taken := b.free[n]
		b.free = b.free[:n]
		taken.Reset()
		return taken
	}
	made := &spanBuffer{data: make([]byte, 0, max(size, spanMax))}
	largePages(made.data)
	return made
}

// give takes a buffer back.
func (b *buffers) give(given *spanBuffer) {
	if cap(given.data) != spanMax {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, given)
}

// spanBuffer is memory of a fixed size for a span and for what is in it.
type spanBuffer struct {
	data []byte
	room room
}

var _ blob.OutputBuffer = (*spanBuffer)(nil)

// Write appends.
func (b *spanBuffer) Write(p []byte) (int, error) {
	if len(p) > cap(b.data)-len(b.data) {
		return 0, fmt.Errorf("%d bytes more than the %d that were asked for: %w", len(p), cap(b.data), io.ErrShortBuffer)
	}
	b.data = append(b.data, p...)
	return len(p), nil
}

// ReadFrom appends all that comes, without another buffer between.
func (b *spanBuffer) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	var more [1]byte
	for {
		into := b.data[len(b.data):cap(b.data)]
		if len(into) == 0 {
			into = more[:]
		}
		n, err := r.Read(into)
		if n > cap(b.data)-len(b.data) {
			_, err := b.Write(into[:n])
			return total, err
		}
		b.data = b.data[:len(b.data)+n]
		total += int64(n)
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Length is how much was written.
func (b *spanBuffer) Length() int { return len(b.data) }

// Reset empties it.
func (b *spanBuffer) Reset() { b.data = b.data[:0] }

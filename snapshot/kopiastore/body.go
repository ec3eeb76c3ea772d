package kopiastore

import (
	"errors"
	"io"
	"sync"
)

var errBodyOver = errors.New("the request is over, and its bytes are somebody else's now")

// body gives the bytes of a blob to a request. A request may go on reading its
// body after it was answered, or given up: kopia uses the buffer for other bytes
// by then, so nothing is read from it once the body is closed.
type body struct {
	mu     sync.Mutex
	closed bool
	bytes  io.ReadSeekCloser
}

// Read reads.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyOver
	}
	return b.bytes.Read(p)
}

// Seek lets a request be sent once more.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyOver
	}
	return b.bytes.Seek(offset, whence)
}

// Close returns when nobody reads the bytes, and nobody will.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.bytes.Close()
}

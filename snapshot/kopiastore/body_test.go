package kopiastore

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

type closer struct{ *bytes.Reader }

func (closer) Close() error { return nil }

// What the transport reads after the request was answered is not the bytes that
// are in the buffer by then.
func TestBodyIsNotReadOnceItIsOver(t *testing.T) {
	t.Parallel()
	b := &body{bytes: closer{bytes.NewReader([]byte("the bytes"))}}
	part := make([]byte, 3)
	if n, err := b.Read(part); n != 3 || err != nil {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	if at, err := b.Seek(0, io.SeekStart); at != 0 || err != nil {
		t.Fatalf("seek to %d: %v", at, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Read(part); n != 0 || !errors.Is(err, errBodyOver) {
		t.Errorf("read %d bytes of a body that is over: %v", n, err)
	}
	if _, err := b.Seek(0, io.SeekStart); !errors.Is(err, errBodyOver) {
		t.Errorf("a body that is over was sent again: %v", err)
	}
}

package snapshottest

import (
	"context"

	"github.com/godwit-io/godwit/snapshot"
)

// UnreadableStore is a store whose nth read, of any kind, and all after it fail.
type UnreadableStore struct {
	snapshot.Store
	Reads *Countdown
}

// Open wraps the reader.
func (u UnreadableStore) Open(ctx context.Context, id snapshot.ImageID) (snapshot.Reader, error) {
	if err := u.Reads.Next(); err != nil {
		return nil, err
	}
	r, err := u.Store.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return unreadable{r, u.Reads}, nil
}

type unreadable struct {
	snapshot.Reader
	reads *Countdown
}

func (u unreadable) Segments(ctx context.Context) ([]snapshot.Segment, error) {
	if err := u.reads.Next(); err != nil {
		return nil, err
	}
	return u.Reader.Segments(ctx)
}

func (u unreadable) Chunks(ctx context.Context, s snapshot.Segment) ([]snapshot.Chunk, error) {
	if err := u.reads.Next(); err != nil {
		return nil, err
	}
	return u.Reader.Chunks(ctx, s)
}

func (u unreadable) Fetch(ctx context.Context, chunks []snapshot.Chunk, o snapshot.FetchOptions, emit func(snapshot.Extent, []byte) error) (int64, error) {
	return u.Reader.Fetch(ctx, chunks, o, func(e snapshot.Extent, b []byte) error {
		if err := u.reads.Next(); err != nil {
			return err
		}
		return emit(e, b)
	})
}

func (u unreadable) Close() error {
	if err := u.reads.Next(); err != nil {
		return err
	}
	return u.Reader.Close()
}

var _ snapshot.Store = UnreadableStore{}

package snapshottest

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/godwit-io/godwit/snapshot"
)

// ErrInjected is what a scripted fault returns.
var ErrInjected = errors.New("injected fault")

// Countdown fails the nth call and all after it; zero never fails.
type Countdown struct {
	N     int64
	calls atomic.Int64
}

// Next counts a call.
func (c *Countdown) Next() error {
	if n := c.calls.Add(1); c.N > 0 && n >= c.N {
		return ErrInjected
	}
	return nil
}

// FaultyStore is a store whose writers fail by a countdown.
type FaultyStore struct {
	snapshot.Store
	Puts *Countdown
}

// Begin wraps the writer.
func (f FaultyStore) Begin(ctx context.Context, image snapshot.Image, parent snapshot.ImageID) (snapshot.Writer, error) {
	w, err := f.Store.Begin(ctx, image, parent)
	if err != nil {
		return nil, err
	}
	return faultyWriter{w, f.Puts}, nil
}

type faultyWriter struct {
	snapshot.Writer
	puts *Countdown
}

func (f faultyWriter) Put(ctx context.Context, offset int64, chunk []byte) (snapshot.PutResult, error) {
	if err := f.puts.Next(); err != nil {
		return snapshot.PutResult{}, err
	}
	return f.Writer.Put(ctx, offset, chunk)
}

func (f faultyWriter) Commit(ctx context.Context) (snapshot.Image, int64, error) {
	if err := f.puts.Next(); err != nil {
		return snapshot.Image{}, 0, err
	}
	return f.Writer.Commit(ctx)
}

var _ snapshot.Store = FaultyStore{}

package snapshottest

import (
	"context"
	"errors"
	"fmt"
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

// Resume is not counted: it writes nothing.
func (f faultyWriter) Resume(ctx context.Context, key string) ([]snapshot.Extent, error) {
	c, err := f.checkpointer()
	if err != nil {
		return nil, err
	}
	return c.Resume(ctx, key)
}

func (f faultyWriter) Checkpoint(ctx context.Context) error {
	if err := f.puts.Next(); err != nil {
		return err
	}
	c, err := f.checkpointer()
	if err != nil {
		return err
	}
	return c.Checkpoint(ctx)
}

func (f faultyWriter) checkpointer() (snapshot.Checkpointer, error) {
	c, ok := f.Writer.(snapshot.Checkpointer)
	if !ok {
		return nil, fmt.Errorf("%T makes no checkpoints", f.Writer)
	}
	return c, nil
}

var (
	_ snapshot.Store        = FaultyStore{}
	_ snapshot.Checkpointer = faultyWriter{}
)

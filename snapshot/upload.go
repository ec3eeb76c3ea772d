package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

// Weigher is a Writer that knows what memory it takes.
type Weigher interface {
	// Weight is what it holds itself, and what each concurrent Put adds.
	Weight() (own, put int64)
}

// Zeroer is a Writer that takes many chunks of zeros at once.
type Zeroer interface {
	// Zero is Put of nil for each chunk in the extent. Changed counts bytes.
	Zero(ctx context.Context, e Extent) (changed int64, err error)
}

// upload is one Backup under way.
type upload struct {
	source      Source
	writer      Writer
	workers     int
	limiter     *Limiter
	budget      *Budget
	pace        *pace
	checkpoints *checkpoints
	n           counters
}

// run hands runs of chunks to the workers, in order of offset, so that a
// Writer has few segments open at a time.
//
// The first worker's memory is taken for the whole run, together with the
// Writer's: it always goes on. The others take theirs before each run of
// chunks, so that transfers which began later get their share, and never while
// they hold one, which nobody else would store.
func (u *upload) run(ctx context.Context, steps []step) error {
	chunk := u.writer.ChunkSize()
	run := max(chunk, readSize-readSize%chunk)
	own, put := u.weight(run)
	release, err := u.budget.Acquire(ctx, own+put)
	if err != nil {
		return fmt.Errorf("wait for memory: %w", err)
	}
	defer release()
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan Extent)
	group.Go(func() error {
		defer close(jobs)
		return u.feed(ctx, steps, run, jobs)
	})
	work := func(e Extent, buf []byte) error {
		if err := u.work(ctx, e, buf[:e.Length]); err != nil {
			return err
		}
		if u.checkpoints.due(time.Now(), u.n.read.Load()) {
			group.Go(func() error { return u.checkpoints.run(ctx) })
		}
		return nil
	}
	left, drained := context.WithCancel(ctx)
	defer drained()
	group.Go(func() error { return u.checkpoints.keep(ctx, left.Done()) })
	group.Go(func() error {
		defer drained()
		buf := make([]byte, min(run, u.source.Size()))
		for e := range jobs {
			if err := work(e, buf); err != nil {
				return err
			}
		}
		return nil
	})
	for range u.workers - 1 {
		group.Go(func() error { return u.help(left, put, min(run, u.source.Size()), jobs, work) })
	}
	return group.Wait()
}

// help works while there is memory for one more, until ctx says that nothing
// is left to do.
func (u *upload) help(ctx context.Context, weight, run int64, jobs <-chan Extent, work func(Extent, []byte) error) error {
	buf := make([]byte, run)
	for {
		release, err := u.budget.Acquire(ctx, weight)
		if err != nil {
			// Who ended it, if not the first worker, tells why.
			return nil
		}
		e, ok := <-jobs
		if ok {
			err = work(e, buf)
		}
		release()
		if !ok || err != nil {
			return err
		}
	}
}

// weight is the memory of the whole run, and what each worker adds.
func (u *upload) weight(run int64) (own, put int64) {
	if w, ok := u.writer.(Weigher); ok {
		own, put = w.Weight()
	}
	return own + int64(u.workers)*run, put
}

func (u *upload) feed(ctx context.Context, steps []step, run int64, jobs chan<- Extent) error {
	for _, s := range steps {
		switch s.do {
		case keepIt:
			if err := u.writer.Keep(ctx, s.Extent); err != nil {
				return fmt.Errorf("keep %d bytes at %d: %w", s.Length, s.Offset, err)
			}
		case zeroIt:
			if err := u.zero(ctx, s.Extent); err != nil {
				return err
			}
		case readIt:
			for at := s.Offset; at < s.End(); at += run {
				select {
				case jobs <- Extent{at, min(run, s.End()-at)}:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
	}
	return nil
}

func (u *upload) zero(ctx context.Context, e Extent) error {
	z, ok := u.writer.(Zeroer)
	if !ok {
		return u.put(ctx, e, nil)
	}
	changed, err := z.Zero(ctx, e)
	if err != nil {
		return fmt.Errorf("store %d zeros at %d: %w", e.Length, e.Offset, err)
	}
	u.n.changed.Add(changed)
	return nil
}

func (u *upload) work(ctx context.Context, e Extent, buf []byte) error {
	if err := u.checkpoints.wait(ctx, u.n.read.Load()); err != nil {
		return err
	}
	if err := u.limiter.Wait(ctx, e.Length, 1); err != nil {
		return err
	}
	if err := u.pace.acquire(ctx); err != nil {
		return err
	}
	n, err := u.source.ReadAt(buf, e.Offset)
	u.pace.release(int64(n))
	if n < len(buf) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %d bytes at %d: %w", len(buf), e.Offset, err)
	}
	u.n.read.Add(e.Length)
	if err := u.put(ctx, e, buf); err != nil {
		return err
	}
	u.n.done.Add(e.Length)
	return nil
}

// put stores the chunks of an extent; a nil buf means that all are zeros.
func (u *upload) put(ctx context.Context, e Extent, buf []byte) error {
	chunk := u.writer.ChunkSize()
	for at := int64(0); at < e.Length; at += chunk {
		length := min(chunk, e.Length-at)
		var data []byte
		if buf != nil && !isZero(buf[at:at+length]) {
			data = buf[at : at+length]
		}
		result, err := u.writer.Put(ctx, e.Offset+at, data)
		if err != nil {
			return fmt.Errorf("store the chunk at %d: %w", e.Offset+at, err)
		}
		u.n.uploaded.Add(result.Uploaded)
		if result.Changed {
			u.n.changed.Add(length)
		}
	}
	return nil
}

// isZero compares b with itself moved by one byte, which runs at memory speed.
func isZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

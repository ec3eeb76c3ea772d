package cbt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// batch is how many blocks a message may have; some 20 KiB.
	batch = 1024
	// patience is how often in a row an answer may break off without having come
	// any further; the pause before each new question doubles.
	patience   = 5
	firstPause = 200 * time.Millisecond
	// silence ends a stream that tells nothing for so long.
	silence = 2 * time.Minute
)

// question is what is asked of a wire, and from where on.
type question struct {
	// base is the driver's handle of the base; empty asks for what is allocated.
	base string
	from int64
	most int32
}

// stream gives the messages of one answer, and io.EOF at its end.
type stream interface {
	recv() (message, error)
}

// wire is a way to a driver, for one snapshot.
type wire interface {
	ask(ctx context.Context, q question) (stream, error)
	close() error
}

// Client asks about one snapshot. It is for one goroutine at a time.
type Client struct {
	wire wire
	// what names the snapshot in errors.
	what string
	most int
	// wait rests before an answer is taken up again; tests have it return at once.
	wait    func(ctx context.Context, d time.Duration) error
	silence time.Duration
}

func newClient(w wire, what string) *Client {
	return &Client{wire: w, what: what, most: mostExtents, wait: wait, silence: silence}
}

// Close closes the connection.
func (c *Client) Close() error {
	if err := c.wire.close(); err != nil {
		return fmt.Errorf("close the connection to the storage: %w", err)
	}
	return nil
}

// Allocated asks which blocks of the snapshot hold data; all others read as
// zeros. The error is an *Error, or that of ctx.
func (c *Client) Allocated(ctx context.Context) (Map, error) {
	return c.answer(ctx, "", 0, "the allocated blocks of "+c.what)
}

// Delta asks which blocks differ from those of the base, which is a snapshot of
// the same volume by the driver's own handle. The error is an *Error, or that of
// ctx; errors.Is(err, snapshot.ErrNoBase) where the base is gone.
func (c *Client) Delta(ctx context.Context, base string) (Map, error) {
	asked := fmt.Sprintf("what changed from snapshot %s to %s", base, c.what)
	if base == "" {
		return Map{}, &Error{Reason: Refused, Asked: asked, Problem: "no base was named"}
	}
	return c.answer(ctx, base, 0, asked)
}

// Tail asks for what lies from an offset on alone, as an answer that broke is
// taken up again; an empty base asks for what is allocated. The Capacity is zero
// where the storage has nothing to tell from there on.
func (c *Client) Tail(ctx context.Context, base string, from int64) (Map, error) {
	return c.answer(ctx, base, from, fmt.Sprintf("blocks of %s since base %q from byte %d on", c.what, base, from))
}

// answer reads streams until one comes to its end. Each is asked for from the
// last block that was told before, so that it has something to tell.
func (c *Client) answer(ctx context.Context, base string, from int64, asked string) (Map, error) {
	p := newParser(c.most)
	p.last.Offset = from
	resumed := 0
	for tries, pause := 0, firstPause; ; {
		before := p.last.End()
		err := c.stream(ctx, question{base: base, from: p.last.Offset, most: batch}, p)
		if ctx.Err() != nil {
			return Map{}, fmt.Errorf("ask the storage for %s: %w", asked, context.Cause(ctx))
		}
		if err == nil || p.last.End() > 0 && p.last.End() == p.capacity && ReasonOf(err) == "" {
			m, err := p.result()
			m.Resumed = resumed
			return m, about(err, asked)
		}
		if err := lasting(err, base != ""); err != nil {
			return Map{}, about(err, asked)
		}
		if p.last.End() > before {
			tries, pause = 0, firstPause
		}
		if tries++; tries > patience {
			reason := Broken
			if p.capacity == 0 {
				reason = Unreachable
			}
			return Map{}, about(&Error{Reason: reason, Problem: fmt.Sprintf("given up at byte %d after %d tries", p.last.End(), tries), Err: err}, asked)
		}
		if err := c.wait(ctx, pause); err != nil {
			return Map{}, fmt.Errorf("ask the storage for %s: %w", asked, err)
		}
		pause *= 2
		if p.last.End() > 0 {
			resumed++
		}
	}
}

// stream asks once and reads to the end of what comes. Its error is an *Error
// where the answer is a lie, and whatever the wire gave where it broke.
func (c *Client) stream(ctx context.Context, q question, p *parser) error {
	// Also what ends a stream that was not read to its end.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(c.silence, func() { cancel(fmt.Errorf("nothing came for %s", c.silence)) })
	defer quiet.Stop()
	s, err := c.wire.ask(ctx, q)
	if err != nil {
		return because(ctx, err)
	}
	p.begin()
	for {
		m, err := s.recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return because(ctx, err)
		}
		quiet.Reset(c.silence)
		if err := p.take(m, int(q.most)); err != nil {
			return err
		}
	}
}

// because gives the reason why the stream was cancelled, where it was.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && status.Code(err) == codes.Canceled {
		return cause
	}
	return err
}

// lasting is err as an *Error where asking again does not mend it, else nil.
func lasting(err error, delta bool) error {
	if ReasonOf(err) != "" {
		return err
	}
	if r := reasonOf(err, delta); r != "" {
		return &Error{Reason: r, Err: err}
	}
	return nil
}

// about names what was asked for in an error.
func about(err error, asked string) error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		return fmt.Errorf("ask the storage for %s: %w", asked, err)
	}
	return &Error{Reason: e.Reason, Asked: asked, Problem: e.Problem, Err: e.Err}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

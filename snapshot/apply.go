package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// windowSize bounds what one Fetch is asked for: enough to read packs in
	// long runs, small enough to stop soon.
	windowSize = 512 << 20
	// zeroSize bounds one call to Zero, which cannot be cancelled.
	zeroSize = 1 << 30
)

// Verify says how far Apply trusts the sink.
type Verify int

const (
	// VerifyNone trusts that what was written is there.
	VerifyNone Verify = iota
	// VerifyReadBack reads again what was written and compares its hash.
	VerifyReadBack
)

// ApplyRequest says which image to bring to a sink.
type ApplyRequest struct {
	Sink Sink
	// To is the image that the sink shall hold.
	To ImageID
	// From is the image that the sink holds now. Empty means unknown content:
	// every chunk is written or zeroed, and what lies behind the image too.
	// An apply that was cut short is finished by the same request, or taken
	// back by the one with To and From exchanged.
	From ImageID
	// Workers fetch and write at once; zero means 4.
	Workers  int
	Verify   Verify
	Progress Progress
}

// Apply makes the sink hold the image To, writing only what differs from the
// image From, and returns once that is durable. Where the sink is larger than
// the image, its tail is left as it is, unless From is empty.
//
// ErrNoBase says that From is gone: an Apply without it is the answer.
func Apply(ctx context.Context, r ApplyRequest, s Store) (Stats, error) {
	d := &download{sink: r.Sink, workers: workers(r.Workers), verify: r.Verify}
	if err := d.apply(ctx, r, s); err != nil {
		return d.n.stats(), fmt.Errorf("apply image %s: %w", r.To, err)
	}
	return d.n.stats(), nil
}

// download is one Apply under way.
type download struct {
	sink    Sink
	workers int
	verify  Verify
	to      Reader
	from    Reader // nil for unknown content
	n       counters
}

func (d *download) apply(ctx context.Context, r ApplyRequest, s Store) (err error) {
	if r.Sink == nil {
		return errors.New("there is no sink")
	}
	if d.to, err = s.Open(ctx, r.To); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.to.Close()) }()
	if need, have := d.to.Image().Size, r.Sink.Size(); have < need {
		return fmt.Errorf("the volume of %d bytes is smaller than the image of %d bytes: make it at least that large", have, need)
	}
	if r.From != "" {
		if d.from, err = s.Open(ctx, r.From); errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: %w", ErrNoBase, err)
		} else if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.from.Close()) }()
	}
	changed, err := d.changed(ctx)
	if err != nil {
		return err
	}
	stop := d.n.report(ctx, r.Progress)
	defer stop()
	if err := d.transfer(ctx, changed); err != nil {
		return err
	}
	return d.finish(ctx)
}

// finish clears an unknown tail and makes all durable.
func (d *download) finish(ctx context.Context) error {
	size := d.to.Image().Size
	if tail := (Extent{size, d.sink.Size() - size}); d.from == nil && tail.Length > 0 {
		w := window{zeros: []Extent{tail}}
		if err := d.clear(ctx, w.zeros); err != nil {
			return err
		}
		if err := d.readBack(ctx, &w); err != nil {
			return err
		}
	}
	if err := d.sink.Sync(); err != nil {
		return fmt.Errorf("make the volume durable: %w", err)
	}
	return nil
}

// segmentPair is a segment that differs; its counterpart has no id where the
// sink's content is unknown.
type segmentPair struct{ to, from Segment }

func (d *download) changed(ctx context.Context) ([]segmentPair, error) {
	to, err := d.to.Segments(ctx)
	if err != nil {
		return nil, err
	}
	held := map[Extent]Segment{}
	if d.from != nil {
		from, err := d.from.Segments(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range from {
			held[s.Extent] = s
		}
	}
	var pairs []segmentPair
	for _, s := range to {
		from := held[s.Extent]
		if from.ID != "" && from.ID == s.ID {
			continue
		}
		d.n.total.Add(s.Length)
		pairs = append(pairs, segmentPair{s, from})
	}
	return pairs, nil
}

// window is a batch of chunks to write and ranges to zero.
type window struct {
	chunks []Chunk
	zeros  []Extent
	size   int64

	mu   sync.Mutex
	sums map[int64][sha256.Size]byte // by offset, for the read-back
}

// transfer finds the differing chunks ahead of the writing of those before.
func (d *download) transfer(ctx context.Context, pairs []segmentPair) error {
	group, ctx := errgroup.WithContext(ctx)
	windows := make(chan *window)
	group.Go(func() error {
		defer close(windows)
		return d.collect(ctx, pairs, windows)
	})
	group.Go(func() error {
		for w := range windows {
			if err := d.write(ctx, w); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

func (d *download) collect(ctx context.Context, pairs []segmentPair, windows chan<- *window) error {
	w := &window{}
	send := func() error {
		select {
		case windows <- w:
			w = &window{}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, p := range pairs {
		if err := d.compare(ctx, p, w); err != nil {
			return fmt.Errorf("segment at %d: %w", p.to.Offset, err)
		}
		if w.size >= windowSize {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}

// compare adds to w what of the segment the sink does not hold.
func (d *download) compare(ctx context.Context, p segmentPair, w *window) error {
	held := map[Extent]Chunk{}
	if p.from.ID != "" {
		from, err := d.from.Chunks(ctx, p.from)
		if err != nil {
			return err
		}
		for _, c := range from {
			held[c.Extent] = c
		}
	}
	to, err := d.to.Chunks(ctx, p.to)
	if err != nil {
		return err
	}
	at := p.to.Offset
	for _, c := range to {
		if c.Offset != at || c.Length <= 0 {
			return fmt.Errorf("its chunks do not follow each other at %d: %w", at, ErrCorrupt)
		}
		at = c.End()
		h, known := held[c.Extent]
		switch {
		case known && (h.Zero && c.Zero || h.ID != "" && h.ID == c.ID):
			d.n.done.Add(c.Length)
			continue
		case c.Zero:
			w.zeros = merge(append(w.zeros, c.Extent))
		default:
			w.chunks = append(w.chunks, c)
		}
		d.n.changed.Add(c.Length)
		w.size += c.Length
	}
	if at != p.to.End() {
		return fmt.Errorf("its chunks end at %d, not at %d: %w", at, p.to.End(), ErrCorrupt)
	}
	return nil
}

func (d *download) write(ctx context.Context, w *window) error {
	if err := d.clear(ctx, w.zeros); err != nil {
		return err
	}
	d.n.done.Add(length(w.zeros))
	if d.verify == VerifyReadBack {
		w.sums = make(map[int64][sha256.Size]byte, len(w.chunks))
	}
	fetched, err := d.to.Fetch(ctx, w.chunks, d.workers, func(c Chunk, b []byte) error {
		if int64(len(b)) != c.Length {
			return fmt.Errorf("chunk at %d has %d bytes, not %d: %w", c.Offset, len(b), c.Length, ErrCorrupt)
		}
		if w.sums != nil {
			sum := sha256.Sum256(b)
			w.mu.Lock()
			w.sums[c.Offset] = sum
			w.mu.Unlock()
		}
		if _, err := d.sink.WriteAt(b, c.Offset); err != nil {
			return fmt.Errorf("write %d bytes at %d: %w", len(b), c.Offset, err)
		}
		d.n.written.Add(c.Length)
		d.n.done.Add(c.Length)
		return nil
	})
	d.n.fetched.Add(fetched)
	if err != nil {
		return err
	}
	return d.readBack(ctx, w)
}

// clear zeroes the extents in pieces, in parallel.
func (d *download) clear(ctx context.Context, extents []Extent) error {
	return d.each(ctx, extents, zeroSize, func(e Extent) error {
		if err := d.sink.Zero(e.Offset, e.Length); err != nil {
			return fmt.Errorf("zero %d bytes at %d: %w", e.Length, e.Offset, err)
		}
		return nil
	})
}

// each calls do for pieces of the extents from as many workers as there are.
func (d *download) each(ctx context.Context, extents []Extent, piece int64, do func(Extent) error) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(d.workers)
	for _, e := range extents {
		for at := e.Offset; at < e.End() && running.Err() == nil; at += piece {
			part := Extent{at, min(piece, e.End()-at)}
			group.Go(func() error { return do(part) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

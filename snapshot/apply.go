package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// defaultFetches keeps two cores busy, and a store that is some tens of
	// milliseconds away.
	defaultFetches = 6
	// defaultWindow is enough to read packs in long runs: each end of a window
	// cuts those that are read then in two.
	defaultWindow = 1 << 30
	// firstWindow is how large the first is, and any where windows take longer than
	// windowTime: what is not noted in the journal is brought again after a kill.
	firstWindow = 256 << 20
	windowTime  = 30 * time.Second
	// zeroCost is what part of a window zeros take up, which are not fetched.
	zeroCost = 8
	// zeroSize bounds one call to Zero, which cannot be cancelled.
	zeroSize = 1 << 30
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
	// Volume, where it is set, is whose image To must be.
	Volume Volume
	// Workers fetch and write at once; zero means 6. Each holds some 14 MiB.
	Workers int
	// Limiter bounds what is written to the sink and read of it, Budget the
	// memory of the Workers, both together with whatever else goes by them.
	Limiter *Limiter
	Budget  *Budget
	// Verify says how far the sink is trusted.
	Verify   VerifyMode
	Progress Progress
	// Journal, where there is one, lets an Apply that was cut short go on where
	// it was when it is asked for again. It must be given to every Apply of
	// that sink. SinkID names the sink, and no other that may be in its place
	// one day. What the journal says was written is not fetched again but hashed,
	// so that one that is wrong does no harm; Notice is told of that.
	Journal Journal
	SinkID  string
	Notice  func(string)
	// Window is how many bytes of the volume are brought at most before they are made
	// durable, read back and noted in the Journal, zeros counting an eighth; zero means
	// 1 GiB. They are fewer where that many take long.
	Window int64
}

// Apply makes the sink hold the image To, writing only what differs from the
// image From, and returns once that is durable. Where the sink is larger than
// the image, its tail is left as it is, unless From is empty.
//
// ErrNoBase says that From is gone: an Apply without it is the answer.
func Apply(ctx context.Context, r ApplyRequest, s Store) (Stats, error) {
	d := &download{sink: r.Sink, verify: r.Verify, options: fetchOptions(r.Workers, r.Budget), limiter: r.Limiter, window: r.Window}
	if err := d.apply(ctx, r, s); err != nil {
		return d.n.stats(), fmt.Errorf("apply image %s: %w", r.To, err)
	}
	return d.n.stats(), nil
}

// download is one Apply or Reconcile under way.
type download struct {
	sink    Sink
	verify  VerifyMode
	options FetchOptions
	limiter *Limiter
	window  int64
	journal *journaled
	to      Reader
	n       counters
	// slow says that the last window took long.
	slow atomic.Bool
}

func fetchOptions(workers int, b *Budget) FetchOptions {
	if workers <= 0 {
		workers = defaultFetches
	}
	return FetchOptions{workers, b}
}

func (d *download) apply(ctx context.Context, r ApplyRequest, s Store) (err error) {
	if err := d.open(ctx, r.To, r.Volume, s); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.to.Close()) }()
	if d.journal, err = r.journaled(); err != nil {
		return err
	}
	var from Reader
	if r.From != "" {
		if from, err = s.Open(ctx, r.From); errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: %w", ErrNoBase, err)
		} else if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, from.Close()) }()
	}
	p := &imagePlan{to: d.to, from: from, n: &d.n, tail: d.tail()}
	pairs, err := p.changed(ctx)
	if err != nil {
		return err
	}
	stop := d.n.report(ctx, r.Progress)
	defer stop()
	claimed, left, err := d.resume(ctx, pairs)
	if err != nil {
		return err
	}
	return d.run(ctx, func(ctx context.Context, w *windows) error {
		if err := d.doubt(ctx, p, claimed, w); err != nil {
			return err
		}
		return p.collect(ctx, left, w)
	}, from == nil)
}

// open opens the image and refuses a sink that it does not fit.
func (d *download) open(ctx context.Context, id ImageID, v Volume, s Store) (err error) {
	if d.sink == nil {
		return errors.New("there is no sink")
	}
	if !d.verify.known() {
		return fmt.Errorf("verify mode %d is not known", d.verify)
	}
	d.to, err = openImage(ctx, id, v, d.sink.Size(), s)
	return err
}

// openImage opens an image for a volume that must hold it.
func openImage(ctx context.Context, id ImageID, v Volume, size int64, s Store) (Reader, error) {
	r, err := s.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	image := r.Image()
	switch {
	case v != Volume{} && image.Volume != v:
		err = fmt.Errorf("it is an image of volume %s, not of %s: name one of its own", image.Volume, v)
	case size < image.Size:
		err = fmt.Errorf("the volume of %d bytes is smaller than the image of %d bytes: make it at least that large", size, image.Size)
	default:
		return r, nil
	}
	return nil, errors.Join(err, r.Close())
}

// tail is what of the sink lies behind the image.
func (d *download) tail() Extent {
	size := d.to.Image().Size
	return Extent{size, d.sink.Size() - size}
}

// window is a batch of chunks to write and ranges to zero.
type window struct {
	chunks []Chunk
	zeros  []Extent
	size   int64
	// end is the offset before which all is in this window or one before it.
	end int64
}

// zero adds zeros, which may follow the last ones.
func (w *window) zero(e Extent) {
	if n := len(w.zeros); n > 0 && w.zeros[n-1].End() == e.Offset {
		w.zeros[n-1].Length += e.Length
		return
	}
	w.zeros = append(w.zeros, e)
}

// windows collects chunks in order of offset and sends them on in batches of a size,
// which grows up to most while they do not take long.
type windows struct {
	size, most int64
	slow       *atomic.Bool
	next       window
	send       func(window) error
}

func (w *windows) add(c Chunk) error {
	if c.Zero {
		w.next.zero(c.Extent)
		w.next.size += c.Length / zeroCost
	} else {
		w.next.chunks = append(w.next.chunks, c)
		w.next.size += c.Length
	}
	w.next.end = c.End()
	if w.next.size < w.size {
		return nil
	}
	return w.flush()
}

func (w *windows) flush() error {
	if len(w.next.chunks)+len(w.next.zeros) == 0 {
		return nil
	}
	full := w.next
	w.next = window{}
	if err := w.send(full); err != nil {
		return err
	}
	w.size = min(2*w.size, w.most)
	if w.slow.Load() {
		w.size = min(firstWindow, w.most)
	}
	return nil
}

// run finds what differs ahead of the writing of what was found before, and
// reads back behind it.
func (d *download) run(ctx context.Context, plan func(context.Context, *windows) error, tail bool) error {
	group, running := errgroup.WithContext(ctx)
	found, written := make(chan window), make(chan window)
	group.Go(func() error {
		defer close(found)
		most := cmp.Or(d.window, defaultWindow)
		w := &windows{size: min(firstWindow, most), most: most, slow: &d.slow, send: func(w window) error { return handOn(running, found, w) }}
		if err := plan(running, w); err != nil {
			return err
		}
		return w.flush()
	})
	group.Go(func() error {
		defer close(written)
		for w := range found {
			begun := time.Now()
			if err := d.write(running, w); err != nil {
				return err
			}
			d.slow.Store(time.Since(begun) > windowTime)
			if err := handOn(running, written, w); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for w := range written {
			if err := d.settle(running, w); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if err := d.sink.Sync(); err != nil {
		return fmt.Errorf("make the volume durable: %w", err)
	}
	if err := d.journal.clear(ctx); err != nil {
		return err
	}
	return d.verifyAll(ctx, tail)
}

func handOn(ctx context.Context, to chan<- window, w window) error {
	select {
	case to <- w:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *download) write(ctx context.Context, w window) error {
	if err := d.clear(ctx, w.zeros); err != nil {
		return err
	}
	fetched, err := d.to.Fetch(ctx, w.chunks, d.options, func(e Extent, b []byte) error {
		if int64(len(b)) != e.Length {
			return fmt.Errorf("the chunks at %d have %d bytes, not %d: %w", e.Offset, len(b), e.Length, ErrCorrupt)
		}
		if err := d.limiter.Wait(ctx, e.Length, 1); err != nil {
			return err
		}
		if n, err := d.sink.WriteAt(b, e.Offset); err != nil || n != len(b) {
			if err == nil {
				err = io.ErrShortWrite
			}
			return fmt.Errorf("write %d bytes at %d: %w", len(b), e.Offset, err)
		}
		d.n.written.Add(e.Length)
		d.n.done.Add(e.Length)
		return nil
	})
	d.n.fetched.Add(fetched)
	return err
}

// clear zeroes the extents in pieces, in parallel.
func (d *download) clear(ctx context.Context, extents []Extent) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(d.options.Workers)
	for _, e := range extents {
		for at := e.Offset; at < e.End() && running.Err() == nil; at += zeroSize {
			part := Extent{at, min(zeroSize, e.End()-at)}
			group.Go(func() error {
				if err := d.sink.Zero(part.Offset, part.Length); err != nil {
					return fmt.Errorf("zero %d bytes at %d: %w", part.Length, part.Offset, err)
				}
				d.n.done.Add(part.Length)
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

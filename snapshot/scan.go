package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

const (
	// scansPerCore keeps every core hashing while others wait for the device.
	scansPerCore = 2
	// scanAhead is how many runs per worker may wait for one before them.
	scanAhead = 4
)

// scan compares a volume with chunks of an image: it reads the volume and
// hashes what it finds, and fetches nothing.
type scan struct {
	source  io.ReaderAt
	id      Identifier
	workers int
	limiter *Limiter
	n       *counters
	// data is what the volume says it has stored; all else reads as zeros and
	// is not read. Nil means that it does not say.
	data []Extent
}

func newScan(source io.ReaderAt, id Identifier, workers int, l *Limiter, n *counters) *scan {
	if workers <= 0 {
		workers = scansPerCore * runtime.GOMAXPROCS(0)
	}
	return &scan{source: source, id: id, workers: workers, limiter: l, n: n}
}

// findHoles asks the volume, where it can tell.
func (s *scan) findHoles() error {
	sparse, ok := s.source.(interface{ Allocated() ([]Extent, error) })
	if !ok {
		return nil
	}
	extents, err := sparse.Allocated()
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err == nil {
		extents, err = widen(extents, math.MaxInt64, 1)
	}
	if err != nil {
		return fmt.Errorf("find the holes of the volume: %w", err)
	}
	s.data = append([]Extent{}, extents...)
	return nil
}

// stored says whether the volume may hold anything but zeros there.
func (s *scan) stored(e Extent) bool {
	if s.data == nil {
		return true
	}
	i, _ := slices.BinarySearchFunc(s.data, e.Offset, func(d Extent, at int64) int {
		if d.End() <= at {
			return -1
		}
		return 1
	})
	return i < len(s.data) && s.data[i].Offset < e.End()
}

// scanRun is chunks that follow each other and are read at once.
type scanRun struct {
	chunks []Chunk
	differ []Chunk
	done   chan struct{}
}

// lister gives chunks in order of offset.
type lister func(ctx context.Context, yield func(Chunk) error) error

// compare hands differ those of the chunks that the volume does not hold, in
// order of offset, from one goroutine.
func (s *scan) compare(ctx context.Context, list lister, differ func(Chunk) error) error {
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan *scanRun)
	ordered := make(chan *scanRun, scanAhead*s.workers)
	group.Go(func() error {
		defer close(jobs)
		defer close(ordered)
		return s.cut(ctx, list, jobs, ordered)
	})
	for range s.workers {
		group.Go(func() error {
			var buf []byte
			for r := range jobs {
				var err error
				if buf, err = s.check(ctx, r, buf); err != nil {
					return err
				}
				close(r.done)
			}
			return nil
		})
	}
	group.Go(func() error {
		for r := range ordered {
			select {
			case <-r.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			for _, c := range r.differ {
				if err := differ(c); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return group.Wait()
}

// cut groups chunks that touch into runs and hands each to a worker.
func (s *scan) cut(ctx context.Context, list lister, jobs, ordered chan<- *scanRun) error {
	var chunks []Chunk
	var size int64
	send := func() error {
		if len(chunks) == 0 {
			return nil
		}
		r := &scanRun{chunks: chunks, done: make(chan struct{})}
		chunks, size = nil, 0
		for _, to := range []chan<- *scanRun{ordered, jobs} {
			select {
			case to <- r:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	err := list(ctx, func(c Chunk) error {
		if n := len(chunks); n > 0 && (chunks[n-1].End() != c.Offset || size+c.Length > readSize) {
			if err := send(); err != nil {
				return err
			}
		}
		chunks, size = append(chunks, c), size+c.Length
		return nil
	})
	if err != nil {
		return err
	}
	return send()
}

func (s *scan) check(ctx context.Context, r *scanRun, buf []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return buf, err
	}
	first, last := r.chunks[0], r.chunks[len(r.chunks)-1]
	all := Extent{first.Offset, last.End() - first.Offset}
	if int64(cap(buf)) < all.Length {
		buf = make([]byte, max(all.Length, readSize))
	}
	b := buf[:all.Length]
	stored := s.stored(all)
	if stored {
		if err := s.limiter.Wait(ctx, all.Length, 1); err != nil {
			return buf, err
		}
		if err := readFull(s.source, b, all.Offset); err != nil {
			return buf, err
		}
		s.n.read.Add(all.Length)
	}
	for _, c := range r.chunks {
		part := b[c.Offset-all.Offset:][:c.Length]
		if !stored && !c.Zero {
			clear(part)
		}
		same := !stored
		switch {
		case !c.Zero:
			same = s.id.ChunkID(part) == c.ID
		case stored:
			same = isZero(part)
		}
		if !same {
			r.differ = append(r.differ, c)
		}
		s.n.done.Add(c.Length)
	}
	return buf, nil
}

// readFull fails where fewer bytes come than were asked for.
func readFull(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(b), offset, err)
}

// zeroChunks lists a range as chunks of zeros.
func zeroChunks(e Extent, yield func(Chunk) error) error {
	for at := e.Offset; at < e.End(); at += readSize {
		if err := yield(Chunk{Extent: Extent{at, min(readSize, e.End()-at)}, Zero: true}); err != nil {
			return err
		}
	}
	return nil
}

// chunksOf lists the chunks of a segment, which must cover it.
func chunksOf(ctx context.Context, r Reader, s Segment) ([]Chunk, error) {
	chunks, err := r.Chunks(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("segment at %d: %w", s.Offset, err)
	}
	at := s.Offset
	for _, c := range chunks {
		if c.Offset != at || c.Length <= 0 {
			return nil, fmt.Errorf("segment at %d: its chunks do not follow each other at %d: %w", s.Offset, at, ErrCorrupt)
		}
		at = c.End()
	}
	if at != s.End() {
		return nil, fmt.Errorf("segment at %d: its chunks end at %d, not at %d: %w", s.Offset, at, s.End(), ErrCorrupt)
	}
	return chunks, nil
}

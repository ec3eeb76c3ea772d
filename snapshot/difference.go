package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Same is true for two Block images of the same size and content, stored in the
// same segments. It reads lists and no data; for an image that is gone it is false.
func Same(ctx context.Context, s Store, a, b ImageID) (bool, error) {
	of := [2][]Segment{}
	for i, id := range []ImageID{a, b} {
		segments, err := segmentsOf(ctx, s, id)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("compare image %s with %s: %w", a, b, err)
		}
		of[i] = segments
	}
	unknown := func(s Segment) bool { return s.ID == "" }
	return slices.Equal(of[0], of[1]) && !slices.ContainsFunc(of[0], unknown), nil
}

func segmentsOf(ctx context.Context, s Store, id ImageID) (segments []Segment, err error) {
	r, err := s.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return r.Segments(ctx)
}

// imagePlan finds what to write by comparing two images: a segment that both
// have is never read.
type imagePlan struct {
	to   Reader
	from Reader // nil for unknown content
	n    *counters
	tail Extent // of the volume, behind the image
}

// segmentPair is a segment that differs; its counterpart has no id where the
// volume's content is unknown.
type segmentPair struct{ to, from Segment }

func (p *imagePlan) changed(ctx context.Context) ([]segmentPair, error) {
	to, err := p.to.Segments(ctx)
	if err != nil {
		return nil, err
	}
	held := map[Extent]Segment{}
	if p.from != nil {
		from, err := p.from.Segments(ctx)
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
		p.n.total.Add(s.Length)
		pairs = append(pairs, segmentPair{s, from})
	}
	return pairs, nil
}

// collect adds what of the pairs the volume does not hold, and a tail that is
// unknown.
func (p *imagePlan) collect(ctx context.Context, pairs []segmentPair, w *windows) error {
	if err := p.compareAll(ctx, pairs, w.add); err != nil {
		return err
	}
	if p.from != nil || p.tail.Length == 0 {
		return nil
	}
	p.n.total.Add(p.tail.Length)
	return w.add(Chunk{Extent: p.tail, Zero: true})
}

// ahead is how many pairs are compared at once: their lists keep more than one processor
// busy, and those that are not cached come from a store that may be far away.
const ahead = 4

// comparison is what a volume does not hold of a segment.
type comparison struct {
	chunks []Chunk
	err    error
}

// compareAll yields what the volume does not hold of the pairs, in order.
func (p *imagePlan) compareAll(ctx context.Context, pairs []segmentPair, yield func(Chunk) error) error {
	comparing, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	queue := make(chan chan comparison, ahead)
	workers.Go(func() {
		defer close(queue)
		for _, pair := range pairs {
			result := make(chan comparison, 1)
			select {
			case queue <- result:
			case <-comparing.Done():
				return
			}
			workers.Go(func() {
				chunks, err := p.compare(comparing, pair)
				result <- comparison{chunks, err}
			})
		}
	})
	for result := range queue {
		c := <-result
		if c.err != nil {
			return c.err
		}
		for _, chunk := range c.chunks {
			if err := yield(chunk); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// compare finds what of the segment the volume does not hold.
func (p *imagePlan) compare(ctx context.Context, pair segmentPair) ([]Chunk, error) {
	var held []Chunk
	if pair.from.ID != "" {
		var err error
		if held, err = chunksOf(ctx, p.from, pair.from); err != nil {
			return nil, err
		}
	}
	to, err := chunksOf(ctx, p.to, pair.to)
	if err != nil {
		return nil, err
	}
	var missing []Chunk
	for _, c := range to {
		for len(held) > 0 && held[0].Offset < c.Offset {
			held = held[1:]
		}
		if len(held) > 0 && held[0].Extent == c.Extent && (held[0].Zero && c.Zero || held[0].ID != "" && held[0].ID == c.ID) {
			p.n.done.Add(c.Length)
			continue
		}
		p.n.changed.Add(c.Length)
		missing = append(missing, c)
	}
	return missing, nil
}

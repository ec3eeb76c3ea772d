package snapshot

import (
	"context"
	"sync"
	"time"
)

const (
	// pacePeriod is how long a number of reads at once is tried before it is judged.
	pacePeriod = 500 * time.Millisecond
	// paceLoss is what part of the rate is not worth another read at once.
	paceLoss = 0.03
	// paceRest is how many periods pass between two trials that changed nothing; it
	// doubles with each of them up to mostPaceRest.
	paceRest, mostPaceRest = 2, 64
)

// pace bounds how many reads of a source are under way at once, by what they bring: the
// storage is the application's too, and more reads than it takes to go at the full rate
// only stand in the application's way. It tries one read less, and one more, and keeps
// what costs nothing or what gains. A nil pace bounds nothing.
type pace struct {
	now func() time.Time

	mu    sync.Mutex
	freed chan struct{} // closed when a read may begin that could not
	under int
	climb climb

	began time.Time
	bytes int64
}

// climb decides on the number of reads at once; it has no clock and no lock.
type climb struct {
	limit, most int
	// step is the trial under way, -1 or 1, and 0 without one; before is the rate that
	// it is held against.
	step   int
	before float64
	// rest is how many periods there are until the next trial, rests how many the last
	// one was worth.
	rest, rests int
	// up is true where the next trial is one more.
	up bool
}

func newPace(most int, now func() time.Time) *pace {
	return &pace{now: now, freed: make(chan struct{}), climb: climb{limit: most, most: most, rest: paceRest, rests: paceRest}}
}

// acquire waits until another read may begin. Whoever got it gives it back by release.
func (p *pace) acquire(ctx context.Context) error {
	if p == nil {
		return nil
	}
	for {
		p.mu.Lock()
		if p.under < p.climb.limit {
			p.under++
			if p.began.IsZero() {
				p.began = p.now()
			}
			p.mu.Unlock()
			return nil
		}
		freed := p.freed
		p.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// release ends a read that brought so many bytes.
func (p *pace) release(bytes int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under--
	p.bytes += bytes
	if now := p.now(); now.Sub(p.began) >= pacePeriod {
		p.climb.judge(float64(p.bytes) / now.Sub(p.began).Seconds())
		p.began, p.bytes = now, 0
	}
	close(p.freed)
	p.freed = make(chan struct{})
}

// judge takes in the rate of a period, and says by limit what the next one tries.
func (c *climb) judge(rate float64) {
	switch {
	case c.step == 0 && c.rest > 0:
		c.rest--
	case c.step == 0:
		c.try(rate)
	case c.step < 0 && rate >= c.before*(1-paceLoss), c.step > 0 && rate > c.before*(1+paceLoss):
		// It stays, and more of the same is tried soon.
		c.step, c.rest, c.rests = 0, 0, paceRest
	default:
		c.limit -= c.step
		c.step, c.up = 0, c.step < 0
		c.rest, c.rests = c.rests, min(2*c.rests, mostPaceRest)
	}
}

// try begins a trial, where there is room for one.
func (c *climb) try(rate float64) {
	if c.limit == 1 {
		c.up = true
	}
	if c.limit == c.most {
		c.up = false
	}
	c.step, c.before = -1, rate
	if c.up {
		c.step = 1
	}
	if next := c.limit + c.step; next < 1 || next > c.most {
		c.step = 0
		return
	}
	c.limit += c.step
}

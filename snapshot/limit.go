package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	day = 24 * time.Hour
	// burst is how long a bucket fills while nobody takes from it.
	burst = 250 * time.Millisecond
)

// Rate bounds what passes in a second; zero is no bound.
type Rate struct {
	// Bytes a second.
	Bytes int64
	// Requests a second.
	Requests int64
	// Paused lets nothing pass at all.
	Paused bool
}

// Window has a rate of its own for some hours of each day.
type Window struct {
	// From and To are times of day, counted from midnight. A window whose To
	// is not after its From ends on the next day.
	From, To time.Duration
	Rate     Rate
}

// Limits are a rate, and others for parts of the day. Where windows overlap,
// the first of them counts.
type Limits struct {
	Rate    Rate
	Windows []Window
	// Zone is where the windows' times of day are; nil means UTC.
	Zone *time.Location
}

func (l Limits) check() error {
	rates := []Rate{l.Rate}
	for _, w := range l.Windows {
		if w.From < 0 || w.From >= day || w.To < 0 || w.To > day {
			return fmt.Errorf("window from %s to %s is not within a day", w.From, w.To)
		}
		rates = append(rates, w.Rate)
	}
	for _, r := range rates {
		if r.Bytes < 0 || r.Requests < 0 {
			return fmt.Errorf("a rate of %d bytes and %d requests a second is negative", r.Bytes, r.Requests)
		}
	}
	return nil
}

// at is the rate that counts now, and when another may.
func (l Limits) at(now time.Time) (Rate, time.Time) {
	zone := l.Zone
	if zone == nil {
		zone = time.UTC
	}
	local := now.In(zone)
	// The date's own arithmetic, since a day with a change of clocks has not 24 hours.
	moment := func(days int, of time.Duration) time.Time {
		return time.Date(local.Year(), local.Month(), local.Day()+days, 0, 0, 0, int(of), zone)
	}
	next := moment(1, 0)
	rate, found := l.Rate, false
	for _, w := range l.Windows {
		for _, edge := range []time.Time{moment(0, w.From), moment(0, w.To)} {
			if edge.After(now) && edge.Before(next) {
				next = edge
			}
		}
		to := moment(0, w.To)
		inside := !now.Before(moment(0, w.From)) && now.Before(to)
		if w.To <= w.From {
			inside = !now.Before(moment(0, w.From)) || now.Before(to)
		}
		if inside && !found {
			rate, found = w.Rate, true
		}
	}
	return rate, next
}

// Limiter bounds what any number of transfers do together, by limits that may
// change while they run. A nil Limiter bounds nothing.
type Limiter struct {
	// turn is held by the one that waits for the buckets: who came first goes first.
	turn chan struct{}

	mu              sync.Mutex
	limits          Limits
	changed         chan struct{} // closed when the limits change
	filled          time.Time
	bytes, requests float64 // what may pass now; below zero is owed
}

// NewLimiter returns a Limiter with full buckets.
func NewLimiter(l Limits) (*Limiter, error) {
	limiter := &Limiter{turn: make(chan struct{}, 1), changed: make(chan struct{})}
	if err := limiter.Set(l); err != nil {
		return nil, err
	}
	return limiter, nil
}

// Set changes the limits, also for those who wait already.
func (l *Limiter) Set(limits Limits) error {
	if err := limits.check(); err != nil {
		return fmt.Errorf("limit transfers: %w", err)
	}
	limits.Windows = append([]Window{}, limits.Windows...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits, l.filled = limits, time.Time{}
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// Limits are those that were set last.
func (l *Limiter) Limits() Limits {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limits
}

// Paused says whether nothing passes now, and when that may change by itself.
func (l *Limiter) Paused(now time.Time) (bool, time.Time) {
	if l == nil {
		return false, time.Time{}
	}
	rate, until := l.Limits().at(now)
	return rate.Paused, until
}

// Wait returns when so many bytes and requests may pass. What is larger than
// a bucket passes at once when its turn comes, and who comes next waits for it.
func (l *Limiter) Wait(ctx context.Context, bytes, requests int64) error {
	if l == nil {
		return ctx.Err()
	}
	if bytes < 0 || requests < 0 {
		return errors.New("less than nothing was asked of a limiter")
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.turn }()
	for {
		wait, changed := l.take(time.Now(), bytes, requests)
		if wait <= 0 {
			return ctx.Err()
		}
		if err := sleep(ctx, wait, changed); err != nil {
			return err
		}
	}
}

// sleep waits for the time to pass or the limits to change.
func sleep(ctx context.Context, wait time.Duration, changed <-chan struct{}) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-changed:
	}
	return nil
}

// take pays for a request from the buckets, or says how long to wait before
// trying again.
func (l *Limiter) take(now time.Time, bytes, requests int64) (time.Duration, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rate, until := l.limits.at(now)
	l.fill(now, rate)
	wait := max(missing(l.bytes, rate.Bytes), missing(l.requests, rate.Requests))
	if rate.Paused {
		wait = until.Sub(now)
	}
	if wait > 0 {
		return min(wait, until.Sub(now)), l.changed
	}
	l.bytes -= float64(bytes)
	l.requests -= float64(requests)
	return 0, l.changed
}

// fill adds what the time since the last call is worth.
func (l *Limiter) fill(now time.Time, rate Rate) {
	elapsed := now.Sub(l.filled)
	if l.filled.IsZero() {
		// Whoever owed by other limits starts anew.
		l.bytes, l.requests, elapsed = 0, 0, burst
	}
	l.filled = now
	l.bytes = filled(l.bytes, rate.Bytes, elapsed)
	l.requests = filled(l.requests, rate.Requests, elapsed)
}

func filled(level float64, perSecond int64, elapsed time.Duration) float64 {
	if perSecond == 0 {
		return 0
	}
	most := max(1, float64(perSecond)*burst.Seconds())
	return min(most, level+float64(perSecond)*elapsed.Seconds())
}

// missing is how long the bucket takes until something may pass.
func missing(level float64, perSecond int64) time.Duration {
	if perSecond == 0 || level > 0 {
		return 0
	}
	return time.Duration((1e-9-level)/float64(perSecond)*float64(time.Second)) + time.Nanosecond
}

package snapshot

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPaceFindsWhatTheStorageTakes plays storages that serve so many reads at once, and
// a pipeline that takes so much: reads beyond what brings anything are left out, and as
// many as it takes are found again when the storage changes.
func TestPaceFindsWhatTheStorageTakes(t *testing.T) {
	t.Parallel()
	const most = 8
	for name, c := range map[string]struct {
		rate func(limit int) float64
		want int
	}{
		"one arm":               {func(int) float64 { return 100 }, 1},
		"three at once":         {func(limit int) float64 { return 100 * float64(min(limit, 3)) }, 3},
		"as many as there are":  {func(limit int) float64 { return 100 * float64(limit) }, most},
		"slower the more":       {func(limit int) float64 { return 100 / float64(limit) }, 1},
		"the pipeline is busy":  {func(limit int) float64 { return min(250, 100*float64(limit)) }, 3},
		"nothing comes through": {func(int) float64 { return 0 }, 1},
	} {
		climb := newPace(most, time.Now).climb
		random := rand.New(rand.NewPCG(1, 2))
		settle := func(rate func(int) float64) (within int) {
			for period := range 600 {
				noise := 1 + (random.Float64()-0.5)*0.02
				climb.judge(rate(climb.limit) * noise)
				if climb.limit < 1 || climb.limit > most {
					t.Fatalf("%s: %d reads at once", name, climb.limit)
				}
				// A trial under way is one off.
				if period >= 300 && climb.limit-climb.step == c.want {
					within++
				}
			}
			return within
		}
		if within := settle(c.rate); within < 270 {
			t.Errorf("%s: %d reads at once in %d of 300 periods, at the end %d", name, c.want, within, climb.limit)
		}
		// From the other end.
		settle(func(int) float64 { return 100 })
		if within := settle(c.rate); within < 200 {
			t.Errorf("%s, after another storage: %d reads at once in %d of 300 periods, at the end %d", name, c.want, within, climb.limit)
		}
	}
}

// TestPaceHolds never lets more reads begin than it says, and lets go who is ended.
func TestPaceHolds(t *testing.T) {
	t.Parallel()
	clock := atomic.Int64{}
	p := newPace(4, func() time.Time { return time.Unix(0, clock.Load()) })
	var under, reads atomic.Int64
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			for reads.Add(1) < 20000 {
				if err := p.acquire(t.Context()); err != nil {
					t.Error(err)
					return
				}
				if n := under.Add(1); n > 4 {
					t.Errorf("%d reads at once", n)
				}
				clock.Add(int64(time.Millisecond))
				under.Add(-1)
				p.release(1 << 20)
			}
		})
	}
	wait.Wait()
	if p.under != 0 {
		t.Errorf("%d reads never ended", p.under)
	}
	for range p.climb.limit {
		if err := p.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.acquire(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("who is ended waits on: %v", err)
	}
}

package snapshot

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func limiter(t *testing.T, l Limits) *Limiter {
	t.Helper()
	limiter, err := NewLimiter(l)
	if err != nil {
		t.Fatal(err)
	}
	return limiter
}

// pass sends n pieces through from several goroutines and tells how long it took.
func pass(t *testing.T, l *Limiter, n int, bytes, requests int64) time.Duration {
	t.Helper()
	start := time.Now()
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := w; i < n; i += 4 {
				if err := l.Wait(t.Context(), bytes, requests); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	return time.Since(start)
}

func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want*95/100 || got > want*105/100+time.Millisecond {
		t.Errorf("%s took %s, want %s", what, got, want)
	}
}

func TestLimiterRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near(t, "no limit", pass(t, limiter(t, Limits{}), 1000, 1<<20, 1), 0)
		near(t, "100 MiB at 10 MiB/s", pass(t, limiter(t, Limits{Rate: Rate{Bytes: 10 << 20}}), 100, 1<<20, 1), 9650*time.Millisecond)
		near(t, "100 requests at 20/s", pass(t, limiter(t, Limits{Rate: Rate{Requests: 20}}), 100, 1<<20, 1), 4750*time.Millisecond)
		near(t, "both", pass(t, limiter(t, Limits{Rate: Rate{Requests: 20, Bytes: 1 << 40}}), 100, 1<<20, 1), 4750*time.Millisecond)
		l := limiter(t, Limits{Rate: Rate{Bytes: 1000}})
		// One of 10 seconds passes at once, and the next pays for it.
		near(t, "a large one", pass(t, l, 1, 10000, 0), 0)
		near(t, "the one after", pass(t, l, 1, 1, 0), 9750*time.Millisecond)
	})
}

func TestLimiterChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, Limits{Rate: Rate{Paused: true}})
		time.AfterFunc(30*time.Hour, func() {
			if err := l.Set(Limits{Rate: Rate{Bytes: 1}}); err != nil {
				t.Error(err)
			}
		})
		time.AfterFunc(31*time.Hour, func() { _ = l.Set(Limits{}) })
		near(t, "a pause", pass(t, l, 10, 1<<20, 1), 31*time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		_ = l.Set(Limits{Rate: Rate{Paused: true}})
		time.AfterFunc(time.Second, cancel)
		if err := l.Wait(ctx, 1, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled wait: %v", err)
		}
	})
	if err := limiter(t, Limits{}).Set(Limits{Rate: Rate{Bytes: -1}}); err == nil {
		t.Error("a negative rate was taken")
	}
	if _, err := NewLimiter(Limits{Windows: []Window{{From: -1}}}); err == nil {
		t.Error("a window before midnight was taken")
	}
	var none *Limiter
	if err := none.Wait(t.Context(), 1<<40, 1); err != nil {
		t.Error(err)
	}
}

func TestLimiterWindows(t *testing.T) {
	zone := time.FixedZone("east", 3*3600)
	l := Limits{Rate: Rate{Bytes: 1}, Zone: zone, Windows: []Window{
		{From: 22 * time.Hour, To: 6 * time.Hour, Rate: Rate{Bytes: 2}},
		{From: 12 * time.Hour, To: 13 * time.Hour, Rate: Rate{Paused: true}},
		{From: 12 * time.Hour, To: 14 * time.Hour, Rate: Rate{Bytes: 3}},
	}}
	at := func(hour, minute int) time.Time { return time.Date(2025, 5, 1, hour, minute, 0, 0, zone) }
	for _, c := range []struct {
		now   time.Time
		bytes int64
		until time.Time
	}{
		{at(0, 0), 2, at(6, 0)}, {at(5, 59), 2, at(6, 0)}, {at(6, 0), 1, at(12, 0)}, {at(12, 0), 0, at(13, 0)},
		{at(13, 0), 3, at(14, 0)}, {at(14, 0), 1, at(22, 0)}, {at(22, 0), 2, at(24, 0)}, {at(23, 59).UTC(), 2, at(24, 0)},
	} {
		rate, until := l.at(c.now)
		if rate.Bytes != c.bytes || !until.Equal(c.until) {
			t.Errorf("at %s: %+v until %s, want %d until %s", c.now, rate, until, c.bytes, c.until)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		midnight := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute
		l := limiter(t, Limits{Windows: []Window{{From: midnight, To: (midnight + 2*time.Hour) % day, Rate: Rate{Paused: true}}}})
		near(t, "a window's pause", pass(t, l, 8, 1, 1), 2*time.Hour)
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		var group sync.WaitGroup
		for i := range 50 {
			group.Go(func() {
				release, err := b.Acquire(t.Context(), int64(i*5)) // some ask for more than there is
				if err != nil {
					t.Error(err)
					return
				}
				if now, _ := b.Held(); now > 100 {
					t.Errorf("%d bytes held of 100", now)
				}
				time.Sleep(time.Second)
				release()
				release()
			})
		}
		group.Wait()
		if now, peak := b.Held(); now != 0 || peak == 0 || peak > 100 {
			t.Errorf("held %d in the end, %d at most", now, peak)
		}
		release, err := b.Acquire(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := b.Acquire(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for memory ended with %v", err)
		}
	})
	if got := NewBudget(0).Size(); got != DefaultBudget {
		t.Errorf("default is %d", got)
	}
	var none *Budget
	if release, err := none.Acquire(t.Context(), 1<<50); err != nil {
		t.Error(err)
	} else {
		release()
	}
}

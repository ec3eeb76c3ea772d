package snapshot

import (
	"context"
	"testing"
	"time"
)

// counted is a Checkpointer that tells each one that is made.
type counted struct{ made chan struct{} }

func (counted) Resume(context.Context, string) ([]Extent, error) { return nil, nil }

func (c counted) Checkpoint(ctx context.Context) error {
	select {
	case c.made <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestCheckpointsAreDue shows how far apart they are, as a run goes on.
func TestCheckpointsAreDue(t *testing.T) {
	begun := time.Now()
	for name, c := range map[string]struct {
		ran   time.Duration
		read  int64
		every CheckpointEvery
		apart time.Duration
		bytes int64
	}{
		"at first":                  {0, 0, CheckpointEvery{}, 5 * time.Second, 512 << 20},
		"after five minutes":        {5 * time.Minute, 10 << 30, CheckpointEvery{}, 5 * time.Second, 512 << 20},
		"after eight hours":         {8 * time.Hour, 1 << 40, CheckpointEvery{}, 450 * time.Second, 16 << 30},
		"after ten days":            {240 * time.Hour, 1 << 40, CheckpointEvery{}, 30 * time.Minute, 16 << 30},
		"as seldom as it was asked": {240 * time.Hour, 0, CheckpointEvery{Interval: time.Hour}, time.Hour, 512 << 20},
		"as often as it was asked":  {0, 0, CheckpointEvery{time.Second, 2 << 20}, time.Second, 1 << 20},
		"by every byte, if need be": {0, 0, CheckpointEvery{time.Second, 1}, time.Second, 1},
	} {
		points := newCheckpoints(nil, c.every, begun)
		points.last, points.lastRead = begun.Add(c.ran), c.read
		for _, at := range []struct {
			later time.Duration
			more  int64
			due   bool
		}{
			{c.apart, 0, false}, {c.apart - 1, c.bytes - 1, false}, {c.apart, 1, true}, {0, c.bytes, true},
		} {
			points.running, points.lastRead = nil, c.read
			if due := points.due(points.last.Add(at.later), c.read+at.more); due != at.due {
				t.Errorf("%s: %s later, %d bytes more: due is %t", name, at.later, at.more, due)
			}
		}
	}
}

// TestRunThatStandsKeepsItsCheckpoint makes one again where nothing is read for long.
func TestRunThatStandsKeepsItsCheckpoint(t *testing.T) {
	to := counted{make(chan struct{})}
	points := newCheckpoints(to, CheckpointEvery{}, time.Now())
	if points.stood(time.Now().Add(standInterval-time.Minute)) || !points.stood(time.Now().Add(standInterval)) || points.stood(time.Now().Add(standInterval)) {
		t.Error("one is due after two hours, and not while it is made")
	}
	points.running, points.stand = nil, time.Millisecond
	left, ended := make(chan struct{}), make(chan error)
	go func() { ended <- points.keep(t.Context(), left) }()
	for range 3 {
		<-to.made
	}
	close(left)
	for {
		select {
		case <-to.made: // One that was under way.
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

package snapshot

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"sync"
	"time"
)

const (
	// defaultCheckpointInterval and defaultCheckpointBytes are how far apart
	// checkpoints are at most in time, and in bytes read.
	defaultCheckpointInterval = 5 * time.Second
	defaultCheckpointBytes    = 1 << 30
	// keepInterval is well below what collections are apart at least.
	keepInterval = 30 * time.Minute
	// standInterval is how often a run that stands still lists its checkpoint anew: one
	// that grows old is taken for that of a run which ended, and a run that lists none for
	// hours ends.
	standInterval = 2 * time.Hour
	// checkpointShare keeps long runs from leaving thousands of checkpoints,
	// each of which is blobs that all other clients must read: one more is due
	// when this share of all that was done is at stake.
	checkpointShare = 64
)

// Checkpointer is a Writer that can go on where an earlier one was cut short.
type Checkpointer interface {
	// Resume takes over what the newest checkpoint of that key holds, and
	// returns it: it must be neither put nor kept again. It is called at most
	// once, first of all; checkpoints are made under the key from then on.
	Resume(ctx context.Context, key string) (done []Extent, err error)
	// Checkpoint makes what was put and kept so far durable, so that a later
	// Resume finds it. Puts may go on meanwhile. It is never listed as an
	// image, and gone once the image is committed.
	Checkpoint(ctx context.Context) error
}

// CheckpointEvery says how much a run that is cut short loses at most, in time
// or in bytes. In runs of hours it is a 64th of all that was done, and never more than
// half an hour of it, or than Interval where that is longer.
type CheckpointEvery struct {
	// Interval is 5 s where it is zero.
	Interval time.Duration
	// Bytes read are 1 GiB where it is zero.
	Bytes int64
}

// key names all that a checkpoint depends on: the moment, what of it is read
// and kept, and how it is cut. A run that reads by another method, or by
// another list of changes, must not trust what this one kept.
func (r BackupRequest) key(chunk int64, steps []step) string {
	h := sha256.New()
	parent := ImageID("")
	if r.Image.Method == MethodDelta {
		parent = r.Parent
	}
	// A hash takes every byte.
	_, _ = fmt.Fprintf(h, "%q %q %q %q %q %d %d\n", r.Moment, r.Image.Volume.String(), r.Image.Round, r.Image.Method, parent, r.Source.Size(), chunk)
	if r.Rewrite {
		_, _ = fmt.Fprintln(h, "rewrite")
	}
	for _, s := range steps {
		_, _ = fmt.Fprintln(h, s.do, s.Offset, s.Length)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// resume takes over what an earlier run of the same moment has done, and
// returns the steps that are left.
func (u *upload) resume(ctx context.Context, r BackupRequest, steps []step) ([]step, error) {
	c, ok := u.writer.(Checkpointer)
	if !ok {
		return steps, nil
	}
	if r.Moment == "" {
		// Nobody goes on from these: they keep what was stored from being
		// collected while the run lasts.
		r.Moment, r.CheckpointEvery = rand.Text(), CheckpointEvery{keepInterval, math.MaxInt64}
	}
	done, err := c.Resume(ctx, r.key(u.writer.ChunkSize(), steps))
	if err != nil {
		return nil, fmt.Errorf("look for a checkpoint: %w", err)
	}
	left := without(steps, done)
	u.n.done.Add(reads(steps) - reads(left))
	u.checkpoints = newCheckpoints(c, r.CheckpointEvery, time.Now())
	return left, nil
}

func reads(steps []step) int64 {
	var n int64
	for _, s := range steps {
		if s.do == readIt {
			n += s.Length
		}
	}
	return n
}

// without cuts what is done, which is sorted and merged, out of the steps.
func without(steps []step, done []Extent) []step {
	var left []step
	for _, s := range steps {
		at := s.Offset
		for len(done) > 0 && done[0].End() <= at {
			done = done[1:]
		}
		for _, d := range done {
			if d.Offset >= s.End() {
				break
			}
			if d.Offset > at {
				left = append(left, step{Extent{at, d.Offset - at}, s.do})
			}
			at = min(d.End(), s.End())
		}
		if at < s.End() {
			left = append(left, step{Extent{at, s.End() - at}, s.do})
		}
	}
	return left
}

// checkpoints decides when one is due, and has readers wait for one that takes
// too long. A nil one does neither.
type checkpoints struct {
	to    Checkpointer
	every CheckpointEvery
	stand time.Duration
	start time.Time

	mu       sync.Mutex
	running  chan struct{} // closed when the one under way is made; nil without one
	last     time.Time
	lastRead int64
}

func newCheckpoints(to Checkpointer, every CheckpointEvery, now time.Time) *checkpoints {
	if every.Interval <= 0 {
		every.Interval = defaultCheckpointInterval
	}
	if every.Bytes <= 0 {
		every.Bytes = defaultCheckpointBytes
	}
	return &checkpoints{to: to, every: every, stand: standInterval, start: now, last: now}
}

// share is half of what may be lost: until a checkpoint is made, what was read
// before it and what was read meanwhile are both at stake.
func (c *checkpoints) share() int64 {
	return max(1, c.every.Bytes/2, c.lastRead/checkpointShare)
}

// due says whether the caller shall make one now; it makes it by run.
func (c *checkpoints) due(now time.Time, read int64) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil || read == c.lastRead || now.Sub(c.last) < c.interval() && read-c.lastRead < c.share() {
		return false
	}
	c.running, c.lastRead = make(chan struct{}), read
	return true
}

// interval is the time between two.
func (c *checkpoints) interval() time.Duration {
	return max(c.every.Interval, min(c.last.Sub(c.start)/checkpointShare, keepInterval))
}

// stood says whether the caller shall make one though nothing was read.
func (c *checkpoints) stood(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil || now.Sub(c.last) < c.stand {
		return false
	}
	c.running = make(chan struct{})
	return true
}

// keep makes those of a run that is paused, until nothing is left to read.
func (c *checkpoints) keep(ctx context.Context, left <-chan struct{}) error {
	if c == nil {
		return nil
	}
	ticker := time.NewTicker(min(c.stand, keepInterval))
	defer ticker.Stop()
	for {
		select {
		case <-left:
			return nil
		case now := <-ticker.C:
			if !c.stood(now) {
				continue
			}
			if err := c.run(ctx); err != nil {
				return err
			}
		}
	}
}

// wait holds up whoever wants to read on while too much is at stake.
func (c *checkpoints) wait(ctx context.Context, read int64) error {
	if c == nil {
		return ctx.Err()
	}
	c.mu.Lock()
	running, atStake, share := c.running, read-c.lastRead, c.share()
	c.mu.Unlock()
	if running == nil || atStake < share {
		return ctx.Err()
	}
	select {
	case <-running:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *checkpoints) run(ctx context.Context) error {
	err := c.to.Checkpoint(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.running)
	// Counted from its end, so that a slow store is not kept busy by them alone.
	c.running, c.last = nil, time.Now()
	if err != nil {
		return fmt.Errorf("make a checkpoint: %w", err)
	}
	return nil
}

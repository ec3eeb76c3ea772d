package snapshot

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// progressInterval keeps Progress to a few calls a second.
const progressInterval = 300 * time.Millisecond

// counters are the Stats of a transfer under way.
type counters struct {
	total, done, read, changed, uploaded, fetched, written atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		Total: c.total.Load(), Done: c.done.Load(), Read: c.read.Load(), Changed: c.changed.Load(),
		Uploaded: c.uploaded.Load(), Fetched: c.fetched.Load(), Written: c.written.Load(),
	}
}

// report tells progress until the returned function is called, and once more then.
func (c *counters) report(ctx context.Context, progress Progress) (stop func()) {
	if progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var told sync.WaitGroup
	told.Go(func() {
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				progress(c.stats())
			}
		}
	})
	return func() {
		cancel()
		told.Wait()
		progress(c.stats())
	}
}

package kopiastore

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
)

// derivations lets one key at a time be derived from a password. Each takes 64 MiB
// and a core, which is what makes a password hard to guess: a process that opens
// several repositories at once would outgrow the memory that it is given.
type derivations struct {
	one *semaphore.Weighted
	// prepare is done before the first: later there is more that it would have to look
	// through, and repositories stay open.
	prepare func()
}

func newDerivations() derivations {
	return derivations{semaphore.NewWeighted(1), sync.OnceFunc(roomForDerivation)}
}

// take waits for the others. What it returns may be called more than once.
func (d derivations) take(ctx context.Context) (free func(), err error) {
	if err := d.one.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other repositories' keys: %w", err)
	}
	d.prepare()
	return sync.OnceFunc(func() { d.one.Release(1) }), nil
}

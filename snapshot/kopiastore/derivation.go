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
type derivations struct{ one *semaphore.Weighted }

func newDerivations() derivations { return derivations{semaphore.NewWeighted(1)} }

// take waits for the others. What it returns may be called more than once.
func (d derivations) take(ctx context.Context) (free func(), err error) {
	if err := d.one.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other repositories' keys: %w", err)
	}
	return sync.OnceFunc(func() { d.one.Release(1) }), nil
}

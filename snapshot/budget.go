package snapshot

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
)

// DefaultBudget is what the transfers of one process may hold in memory
// where nobody said otherwise.
const DefaultBudget = 512 << 20

// Budget bounds the memory that any number of transfers hold together. Who
// asks first gets first. A nil Budget bounds nothing.
//
// Whoever holds a part of it and waits for more may wait for one who does the
// same: take at once what cannot be done without.
type Budget struct {
	size int64
	free *semaphore.Weighted

	mu         sync.Mutex
	held, peak int64
}

// NewBudget returns a budget of so many bytes; zero means DefaultBudget.
func NewBudget(size int64) *Budget {
	if size <= 0 {
		size = DefaultBudget
	}
	return &Budget{size: size, free: semaphore.NewWeighted(size)}
}

// Acquire waits until so many bytes are free and holds them until release is
// called, which may be done more than once. One who asks for more than there
// is gets all of it.
func (b *Budget) Acquire(ctx context.Context, bytes int64) (release func(), err error) {
	if b == nil {
		return func() {}, ctx.Err()
	}
	if bytes < 0 {
		return nil, fmt.Errorf("%d bytes of memory make no sense", bytes)
	}
	bytes = min(bytes, b.size)
	if err := b.free.Acquire(ctx, bytes); err != nil {
		return nil, err
	}
	b.count(bytes)
	return sync.OnceFunc(func() {
		b.count(-bytes)
		b.free.Release(bytes)
	}), nil
}

func (b *Budget) count(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held += bytes
	b.peak = max(b.peak, b.held)
}

// Held is what is held now, and the most that ever was.
func (b *Budget) Held() (now, peak int64) {
	if b == nil {
		return 0, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held, b.peak
}

// Size is what there is.
func (b *Budget) Size() int64 {
	if b == nil {
		return 0
	}
	return b.size
}

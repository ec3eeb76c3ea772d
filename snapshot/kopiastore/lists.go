package kopiastore

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/blob"
)

// indexPrefix is that of all blobs by which kopia knows what its repository holds.
const indexPrefix = "x"

// oneList is a storage that lists all of kopia's indexes once where kopia asks
// for six kinds of them one after the other, as it does to see what others
// wrote: six round trips for each of the four times that a small round looks.
//
// All six answers are then of one moment, the first one's. That is within what
// kopia makes of lists: it takes a marker of an epoch before it lists what is
// in it, and a summary beside what it sums up.
type oneList struct{ blob.Storage }

// lists are the answers within one call of kopia's. Each is given once, since
// who asks again wants to know what is new, and none after a change by the same
// call, nor when the list is old.
type lists struct {
	mu    sync.Mutex
	found []blob.Metadata
	made  time.Time
	asked map[blob.ID]bool // nil without a list
}

// listLife is longer than a store takes for six lists.
const listLife = 5 * time.Second

type listsKey struct{}

// withOneList makes a context for one call to kopia that refreshes.
func withOneList(ctx context.Context) context.Context {
	return context.WithValue(ctx, listsKey{}, &lists{})
}

// ListBlobs answers from the list that the context may carry.
func (s oneList) ListBlobs(ctx context.Context, prefix blob.ID, tell func(blob.Metadata) error) error {
	l, ok := ctx.Value(listsKey{}).(*lists)
	if !ok || len(prefix) <= len(indexPrefix) || !strings.HasPrefix(string(prefix), indexPrefix) {
		return s.Storage.ListBlobs(ctx, prefix, tell)
	}
	found, err := l.of(ctx, prefix, s.Storage)
	if err != nil {
		return err
	}
	for _, b := range found {
		if !strings.HasPrefix(string(b.BlobID), string(prefix)) {
			continue
		}
		if err := tell(b); err != nil {
			return err
		}
	}
	return nil
}

// of returns a list with all of the prefix, made after it was last asked for.
func (l *lists) of(ctx context.Context, prefix blob.ID, from blob.Storage) ([]blob.Metadata, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == nil || l.asked[prefix] || time.Since(l.made) > listLife {
		l.made = time.Now()
		found, err := blob.ListAllBlobs(ctx, from, indexPrefix)
		if err != nil {
			return nil, err
		}
		l.found, l.asked = found, map[blob.ID]bool{}
	}
	l.asked[prefix] = true
	return l.found, nil
}

// PutBlob writes.
func (s oneList) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	defer forget(ctx, id)
	return s.Storage.PutBlob(ctx, id, data, o)
}

// DeleteBlob deletes.
func (s oneList) DeleteBlob(ctx context.Context, id blob.ID) error {
	defer forget(ctx, id)
	return s.Storage.DeleteBlob(ctx, id)
}

// forget drops the list that a change made wrong.
func forget(ctx context.Context, id blob.ID) {
	l, ok := ctx.Value(listsKey{}).(*lists)
	if !ok || !strings.HasPrefix(string(id), indexPrefix) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = nil
}

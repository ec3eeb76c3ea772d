package kopiastore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// memoryStorage is a blob.Storage in memory, shared by all clients of a repository.
type memoryStorage struct {
	blob.DefaultProviderImplementation

	mu    sync.Mutex
	blobs map[blob.ID]stored
	kill  *snapshottest.Countdown // of changes; nil never
}

type stored struct {
	data []byte
	at   time.Time
}

func newMemoryStorage() *memoryStorage { return &memoryStorage{blobs: map[blob.ID]stored{}} }

func (b *memoryStorage) GetBlob(_ context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	b.mu.Lock()
	s, ok := b.blobs[id]
	b.mu.Unlock()
	out.Reset()
	switch {
	case !ok:
		return blob.ErrBlobNotFound
	case length < 0:
		length = int64(len(s.data)) - offset
	case offset < 0 || offset+length > int64(len(s.data)):
		return blob.ErrInvalidRange
	}
	_, err := out.Write(s.data[offset : offset+length])
	return err
}

func (b *memoryStorage) GetMetadata(_ context.Context, id blob.ID) (blob.Metadata, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.blobs[id]
	if !ok {
		return blob.Metadata{}, blob.ErrBlobNotFound
	}
	return blob.Metadata{BlobID: id, Length: int64(len(s.data)), Timestamp: s.at}, nil
}

func (b *memoryStorage) ListBlobs(_ context.Context, prefix blob.ID, tell func(blob.Metadata) error) error {
	b.mu.Lock()
	held := maps.Clone(b.blobs)
	b.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(held)) {
		if !strings.HasPrefix(string(id), string(prefix)) {
			continue
		}
		if err := tell(blob.Metadata{BlobID: id, Length: int64(len(held[id].data)), Timestamp: held[id].at}); err != nil {
			return err
		}
	}
	return nil
}

func (b *memoryStorage) change(do func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kill != nil {
		if err := b.kill.Next(); err != nil {
			return err
		}
	}
	do()
	return nil
}

func (b *memoryStorage) PutBlob(_ context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	var all bytes.Buffer
	if _, err := data.WriteTo(&all); err != nil {
		return err
	}
	now := time.Now()
	if o.GetModTime != nil {
		*o.GetModTime = now
	}
	return b.change(func() { b.blobs[id] = stored{all.Bytes(), now} })
}

func (b *memoryStorage) DeleteBlob(_ context.Context, id blob.ID) error {
	return b.change(func() { delete(b.blobs, id) })
}

func (b *memoryStorage) ConnectionInfo() blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: storageType}
}

func (b *memoryStorage) DisplayName() string { return "bucket" }

// damage flips a bit, cuts a blob off, or loses it.
func (b *memoryStorage) damage(rnd *rand.Rand) (undo func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := slices.DeleteFunc(slices.Sorted(maps.Keys(b.blobs)), func(id blob.ID) bool { return !strings.ContainsRune("pqxn", rune(id[0])) })
	if len(ids) == 0 {
		return func() {}
	}
	id := ids[rnd.IntN(len(ids))]
	whole := b.blobs[id]
	broken := stored{bytes.Clone(whole.data), whole.at}
	switch n := len(broken.data); rnd.IntN(5) {
	case 0:
		broken.data = broken.data[:rnd.IntN(n)]
	case 1:
		delete(b.blobs, id)
		return func() { b.put(id, whole) }
	default:
		broken.data[rnd.IntN(n)] ^= 1 << rnd.IntN(8)
	}
	b.blobs[id] = broken
	return func() { b.put(id, whole) }
}

// damageMetadata changes each pack of kopia's metadata in its first content.
func (b *memoryStorage) damageMetadata(rnd *rand.Rand) (undo func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	whole := maps.Clone(b.blobs)
	for id, s := range whole {
		if strings.HasPrefix(string(id), "q") {
			broken := bytes.Clone(s.data)
			for at := 64; at < len(broken)-64; at += 64 {
				broken[at+rnd.IntN(64)] ^= 1
			}
			b.blobs[id] = stored{broken, s.at}
		}
	}
	return func() {
		for id, s := range whole {
			b.put(id, s)
		}
	}
}

func (b *memoryStorage) put(id blob.ID, s stored) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blobs[id] = s
}

// world is a kopia repository in memory.
func world(t *testing.T) *snapshottest.World {
	b := newMemoryStorage()
	place := folder(t)
	return &snapshottest.World{
		Open: func(t *testing.T, host string) (snapshot.Store, error) {
			o, l := eager(), place
			o.wrap = func(blob.Storage) blob.Storage { return b }
			l.Host, l.CacheDir = host, ""
			r, err := o.open(t.Context(), l, true)
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() {
				if err := r.Close(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
			return r, nil
		},
		Kill: func(n int64) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.kill = nil
			if n > 0 {
				b.kill = &snapshottest.Countdown{N: n}
			}
		},
		Damage:  b.damage,
		Collect: collect,
		Chunk:   256,
	}
}

// collect runs full maintenance at once, with no more care than it takes while nobody
// writes.
func collect(ctx context.Context, s snapshot.Store) error {
	r, ok := s.(*Repository)
	if !ok {
		return fmt.Errorf("%T is no repository", s)
	}
	_, err := r.Maintain(ctx, snapshot.MaintainRequest{Full: true, TakeOver: true})
	return err
}

func TestHistories(t *testing.T) {
	t.Parallel()
	snapshottest.TestHistories(t, 30, "./snapshot/kopiastore", world)
}

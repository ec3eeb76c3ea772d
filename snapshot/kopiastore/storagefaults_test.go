package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/kopia/kopia/repo/blob"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// storageFault is one call to the storage that goes wrong: the nth of those that op names.
type storageFault struct {
	op string
	n  int
	// stale has a list be what it was the time before, and twice a blob be written again;
	// without either the call fails.
	stale, twice bool

	mu    sync.Mutex
	hit   bool
	lists map[blob.ID][]blob.Metadata
}

func (f *storageFault) strikes(op string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op != f.op {
		return false
	}
	f.n--
	f.hit = f.hit || f.n == 0
	return f.n == 0
}

// faultyStorage is a storage with one fault.
type faultyStorage struct {
	blob.Storage
	fault *storageFault
}

func (s faultyStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if s.fault.strikes("get") {
		return snapshottest.ErrInjected
	}
	return s.Storage.GetBlob(ctx, id, offset, length, out)
}

func (s faultyStorage) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	if s.fault.strikes("metadata") {
		return blob.Metadata{}, snapshottest.ErrInjected
	}
	return s.Storage.GetMetadata(ctx, id)
}

func (s faultyStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	if s.fault.strikes("put") {
		if !s.fault.twice {
			return snapshottest.ErrInjected
		}
		if err := s.Storage.PutBlob(ctx, id, data, o); err != nil {
			return err
		}
	}
	return s.Storage.PutBlob(ctx, id, data, o)
}

func (s faultyStorage) DeleteBlob(ctx context.Context, id blob.ID) error {
	if s.fault.strikes("delete") {
		return snapshottest.ErrInjected
	}
	return s.Storage.DeleteBlob(ctx, id)
}

func (s faultyStorage) ListBlobs(ctx context.Context, prefix blob.ID, each func(blob.Metadata) error) error {
	strikes := s.fault.strikes("list")
	if strikes && !s.fault.stale {
		return snapshottest.ErrInjected
	}
	var found []blob.Metadata
	if err := s.Storage.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
		found = append(found, m)
		return nil
	}); err != nil {
		return err
	}
	s.fault.mu.Lock()
	before, ok := s.fault.lists[prefix]
	s.fault.lists[prefix] = found
	s.fault.mu.Unlock()
	if strikes && ok {
		found = before
	}
	for _, m := range found {
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

// TestStorageFaults has each call of a repository's life go wrong once: whatever then
// fails says so, no image holds other bytes than it should, and it goes on from there.
func TestStorageFaults(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		op           string
		stale, twice bool
	}{
		"get fails": {op: "get"}, "metadata fails": {op: "metadata"}, "put fails": {op: "put"}, "delete fails": {op: "delete"},
		"list fails": {op: "list"}, "list is stale": {op: "list", stale: true}, "put is done twice": {op: "put", twice: true},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n = 3*n + 1 {
				fault := &storageFault{op: f.op, n: n, stale: f.stale, twice: f.twice, lists: map[blob.ID][]blob.Metadata{}}
				oneFault(t, fault)
				if !fault.hit {
					t.Logf("%d calls", n)
					return
				}
			}
		})
	}
}

// oneFault lives through a fault, and sees what is left.
func oneFault(t *testing.T, fault *storageFault) {
	t.Helper()
	n := fault.n
	l := folder(t)
	wants := map[string][]byte{"one": noise(2<<20, 1)}
	wants["two"] = append(noise(1<<20, 2), wants["one"][1<<20:]...)
	o := eager()
	o.wrap = func(st blob.Storage) blob.Storage { return faultyStorage{st, fault} }
	err := life(t.Context(), o, l, wants)
	if errors.Is(err, errWrongBytes) {
		t.Fatalf("call %d: %v", n, err)
	}
	own := l
	own.CacheDir = t.TempDir()
	r := open(t, eager(), own)
	if after := restoreAll(t.Context(), r, wants); after != nil {
		t.Fatalf("after call %d (%v): %v", n, err, after)
	}
	image, _, after := backup(t, r, wants["two"], nil)
	if after != nil {
		t.Fatalf("after call %d (%v): %v", n, err, after)
	}
	holds(t, r, image.ID, wants["two"])
}

var errWrongBytes = errors.New("an image holds other bytes than it should")

// life makes two images, removes the first, collects, and restores what is there.
func life(ctx context.Context, o *Opener, l snapshot.Location, wants map[string][]byte) (err error) {
	r, err := o.open(ctx, l, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	var parent snapshot.ImageID
	for _, round := range []string{"one", "two"} {
		image, _, err := snapshot.Backup(ctx, snapshot.BackupRequest{
			Source: snapshottest.NewDevice(wants[round]), Parent: parent,
			Image: snapshot.Image{Volume: snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"}, Round: round, Method: snapshot.MethodScan},
		}, r)
		if err != nil {
			return err
		}
		parent = image.ID
	}
	images, err := r.Images(ctx, snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"})
	if err != nil {
		return err
	}
	first := slices.IndexFunc(images, func(i snapshot.Image) bool { return i.Round == "one" })
	if first < 0 {
		return fmt.Errorf("the image that was made is not listed among %d", len(images))
	}
	if err := r.Forget(ctx, images[first].ID); err != nil {
		return err
	}
	if _, err := r.Maintain(ctx, snapshot.MaintainRequest{Full: true, TakeOver: true}); err != nil {
		return err
	}
	return restoreAll(ctx, r, wants)
}

// restoreAll compares every image that is listed.
func restoreAll(ctx context.Context, r *Repository, wants map[string][]byte) error {
	images, err := r.Images(ctx, snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"})
	if err != nil {
		return err
	}
	for _, image := range images {
		sink := snapshottest.NewDevice(make([]byte, image.Size))
		if _, err := snapshot.Apply(ctx, snapshot.ApplyRequest{Sink: sink, To: image.ID}, r); err != nil {
			return err
		}
		if !bytes.Equal(sink.Bytes(), wants[image.Round]) {
			return fmt.Errorf("round %s, %s: %w", image.Round, image.ID, errWrongBytes)
		}
	}
	return nil
}

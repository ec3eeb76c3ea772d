package kopiastore

import (
	"context"

	"github.com/kopia/kopia/repo/blob"

	"github.com/godwit-io/godwit/snapshot"
)

// listPage is how many blobs a request lists.
const listPage = 1000

// limitedStorage counts each request, and the bytes of blobs both ways.
type limitedStorage struct {
	blob.Storage
	limiter *snapshot.Limiter
}

// GetBlob reads.
func (s limitedStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if err := s.limiter.Wait(ctx, max(0, length), 1); err != nil {
		return err
	}
	if err := s.Storage.GetBlob(ctx, id, offset, length, out); err != nil || length >= 0 {
		return err
	}
	// How long a whole blob is shows when it is there: who comes next waits for it.
	return s.limiter.Wait(ctx, int64(out.Length()), 0)
}

// GetMetadata asks.
func (s limitedStorage) GetMetadata(ctx context.Context, id blob.ID) (blob.Metadata, error) {
	if err := s.limiter.Wait(ctx, 0, 1); err != nil {
		return blob.Metadata{}, err
	}
	return s.Storage.GetMetadata(ctx, id)
}

// PutBlob writes.
func (s limitedStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	if err := s.limiter.Wait(ctx, int64(data.Length()), 1); err != nil {
		return err
	}
	return s.Storage.PutBlob(ctx, id, data, o)
}

// DeleteBlob deletes.
func (s limitedStorage) DeleteBlob(ctx context.Context, id blob.ID) error {
	if err := s.limiter.Wait(ctx, 0, 1); err != nil {
		return err
	}
	return s.Storage.DeleteBlob(ctx, id)
}

// ListBlobs lists, page by page.
func (s limitedStorage) ListBlobs(ctx context.Context, prefix blob.ID, tell func(blob.Metadata) error) error {
	n := 0
	if err := s.limiter.Wait(ctx, 0, 1); err != nil {
		return err
	}
	return s.Storage.ListBlobs(ctx, prefix, func(m blob.Metadata) error {
		if n++; n%listPage == 0 {
			if err := s.limiter.Wait(ctx, 0, 1); err != nil {
				return err
			}
		}
		return tell(m)
	})
}

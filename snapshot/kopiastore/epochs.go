package kopiastore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/kopia/kopia/repo/blob"

	"github.com/godwit-io/godwit/snapshot"
)

// epochPrefix begins the blobs of epochs. They lie beside kopia's own, which know
// nothing of them, since kopia's lists may be older than what was written last, and
// an epoch that is not seen at once is not seen at all.
const epochPrefix = "godwit.epoch."

func epochsOf(app string) blob.ID {
	sum := sha256.Sum256([]byte(app))
	return blob.ID(epochPrefix + hex.EncodeToString(sum[:12]) + ".")
}

// PutEpoch stores an epoch in a blob of its own.
func (r *Repository) PutEpoch(ctx context.Context, e snapshot.Epoch, sealed snapshot.SealedEpoch) error {
	data, err := json.Marshal(sealed)
	if err != nil {
		return fmt.Errorf("write an epoch: %w", err)
	}
	sum := sha256.Sum256(data)
	id := epochsOf(e.App) + blob.ID(hex.EncodeToString(sum[:12]))
	if err := r.spans.PutBlob(ctx, id, smallBlob(data), blob.PutOptions{}); err != nil {
		return explain(r.location, err)
	}
	return nil
}

// Epochs reads those of an application.
func (r *Repository) Epochs(ctx context.Context, app string) ([]snapshot.SealedEpoch, error) {
	var ids []blob.ID
	err := r.spans.ListBlobs(ctx, epochsOf(app), func(b blob.Metadata) error {
		ids = append(ids, b.BlobID)
		return nil
	})
	if err != nil {
		return nil, explain(r.location, err)
	}
	var all []snapshot.SealedEpoch
	for _, id := range ids {
		var found buffer
		if err := r.spans.GetBlob(ctx, id, 0, -1, &found); err != nil {
			return nil, fmt.Errorf("read %s: %w", id, explain(r.location, err))
		}
		var sealed snapshot.SealedEpoch
		if err := json.Unmarshal(found.Bytes(), &sealed); err != nil {
			return nil, fmt.Errorf("read %s: %w: %w", id, snapshot.ErrCorrupt, err)
		}
		all = append(all, sealed)
	}
	return all, nil
}

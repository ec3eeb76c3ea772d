package kopiastore

import (
	"context"
	"fmt"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
)

// recoverAge is how old a pack may be to be recovered, which leaves an hour to have it
// named by an index before it may be collected.
const recoverAge = unsafeAfter - time.Hour

// recoverPacks puts the chunks of packs that a killed run of this client had
// sent, and no index names, into the index, so that they are not sent again.
// Packs of indexes are left to the collection: among them may be a manifest
// whose chunks never arrived.
func (r *Repository) recoverPacks(ctx context.Context, session repo.DirectRepositoryWriter) error {
	manager := session.ContentManager()
	found, err := manager.ListActiveSessions(ctx)
	if err != nil {
		return fmt.Errorf("look for runs that were killed: %w", err)
	}
	me := r.rep.ClientOptions()
	killed := map[content.SessionID]bool{}
	for id, info := range found {
		if info.User == me.Username && info.Host == me.Hostname && !r.sessions.has(id) {
			killed[id] = true
		}
	}
	if len(killed) == 0 {
		return nil
	}
	oldest, first := r.now().Add(-recoverAge), time.Time{}
	err = r.rep.BlobReader().ListBlobs(ctx, content.PackBlobIDPrefixRegular, func(b blob.Metadata) error {
		if !killed[content.SessionIDFromBlobID(b.BlobID)] || b.Timestamp.Before(oldest) {
			return nil
		}
		// One that cannot be read is as good as one that was never sent.
		if _, err := manager.RecoverIndexFromPackBlob(ctx, b.BlobID, b.Length, true); err == nil && (first.IsZero() || b.Timestamp.Before(first)) {
			first = b.Timestamp
		}
		return ctx.Err()
	})
	if err != nil || first.IsZero() {
		return err
	}
	young, cancel := context.WithTimeout(ctx, first.Add(unsafeAfter).Sub(r.now()))
	defer cancel()
	if err := session.Flush(withOneList(young)); err != nil {
		return fmt.Errorf("name what was sent by runs that were killed: %w", err)
	}
	return nil
}

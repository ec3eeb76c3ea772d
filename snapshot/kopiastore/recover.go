package kopiastore

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
)

// recoverAge is how old a pack may be to be recovered, which leaves an hour to have it
// named by an index before it may be collected.
const recoverAge = unsafeAfter - time.Hour

// sessions are kopia's write sessions that are alive in this process, each
// with the storage that it writes to. A session names its packs after itself,
// and marks itself by a blob for as long as there are packs that no index names.
type sessions struct {
	mu    sync.Mutex
	alive map[content.SessionID]*sessionStorage
}

func newSessions() *sessions { return &sessions{alive: map[content.SessionID]*sessionStorage{}} }

func (s *sessions) has(id content.SessionID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive[id] != nil
}

// sessionStorage notes which sessions are alive.
type sessionStorage struct {
	blob.Storage
	sessions *sessions
}

// PutBlob notes a session by its mark.
func (s *sessionStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	if strings.HasPrefix(string(id), string(content.BlobIDPrefixSession)) {
		s.sessions.mu.Lock()
		s.sessions.alive[content.SessionIDFromBlobID(id)] = s
		s.sessions.mu.Unlock()
	}
	return s.Storage.PutBlob(ctx, id, data, o)
}

// DeleteBlob notes that a session's mark went.
func (s *sessionStorage) DeleteBlob(ctx context.Context, id blob.ID) error {
	if err := s.Storage.DeleteBlob(ctx, id); err != nil {
		return err
	}
	if strings.HasPrefix(string(id), string(content.BlobIDPrefixSession)) {
		s.sessions.mu.Lock()
		delete(s.sessions.alive, content.SessionIDFromBlobID(id))
		s.sessions.mu.Unlock()
	}
	return nil
}

// end ends all sessions that write to it: what they left may be recovered.
func (s *sessionStorage) end() {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	maps.DeleteFunc(s.sessions.alive, func(_ content.SessionID, st *sessionStorage) bool { return st == s })
}

// Close ends all sessions that write to it.
func (s *sessionStorage) Close(ctx context.Context) error {
	s.end()
	return s.Storage.Close(ctx)
}

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

package kopiastore

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
)

// sessions are kopia's write sessions that are alive in this process. A session names its
// packs and indexes after itself, and marks itself by a blob for as long as there are packs
// that no index names.
type sessions struct {
	mu    sync.Mutex
	alive map[content.SessionID]marked
	// followers counts the runs that ask which sessions began since they did; those are in
	// begun, alive or not, and some more where runs overlap.
	followers int
	begun     map[content.SessionID]bool
}

// marked is a session that is alive.
type marked struct {
	by    *sessionStorage
	since time.Time
}

func newSessions() *sessions { return &sessions{alive: map[content.SessionID]marked{}} }

// follow notes the sessions that begin from now on, until unfollow is called as often.
func (s *sessions) follow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followers++; s.followers == 1 {
		s.begun = map[content.SessionID]bool{}
	}
}

func (s *sessions) unfollow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followers--; s.followers == 0 {
		s.begun = nil
	}
}

// followed says whether a session that began since wrote a pack.
func (s *sessions) followed(pack blob.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun[content.SessionIDFromBlobID(pack)]
}

func (s *sessions) has(id content.SessionID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, alive := s.alive[id]
	return alive
}

// sessionStorage notes which sessions are alive, and refuses an index that names packs which
// may have been collected before it came: later runs would take the chunks in them for
// stored. It is below what holds requests up, which may take days.
type sessionStorage struct {
	blob.Storage
	sessions *sessions
	now      func() time.Time
}

// PutBlob notes a session by its mark.
func (s *sessionStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	if err := s.note(id); err != nil {
		return err
	}
	return s.Storage.PutBlob(ctx, id, data, o)
}

func (s *sessionStorage) note(id blob.ID) error {
	session := content.SessionIDFromBlobID(id)
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	mark, alive := s.sessions.alive[session]
	switch {
	case session == "" || isPack(id):
	case isMark(id):
		if !alive {
			s.sessions.alive[session] = marked{s, s.now()}
			if s.sessions.begun != nil {
				s.sessions.begun[session] = true
			}
		}
	case alive && s.now().Sub(mark.since) > unsafeAfter:
		return fmt.Errorf("what was stored was named by no index for %s, and may have been collected meanwhile: the run has to be started again",
			s.now().Sub(mark.since).Round(time.Second))
	}
	return nil
}

func isMark(id blob.ID) bool {
	return strings.HasPrefix(string(id), string(content.BlobIDPrefixSession))
}

func isPack(id blob.ID) bool {
	return strings.HasPrefix(string(id), string(content.PackBlobIDPrefixRegular)) || strings.HasPrefix(string(id), string(content.PackBlobIDPrefixSpecial))
}

// DeleteBlob notes that a session's mark went.
func (s *sessionStorage) DeleteBlob(ctx context.Context, id blob.ID) error {
	if err := s.Storage.DeleteBlob(ctx, id); err != nil {
		return err
	}
	if isMark(id) {
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
	maps.DeleteFunc(s.sessions.alive, func(_ content.SessionID, m marked) bool { return m.by == s })
}

// Close ends all sessions that write to it.
func (s *sessionStorage) Close(ctx context.Context) error {
	s.end()
	return s.Storage.Close(ctx)
}

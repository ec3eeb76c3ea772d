package kopiastore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

// soundFor is how long what opened is not opened again to check it. Damage of that
// time is found by whoever uses the repository.
const soundFor = 10 * time.Minute

// Check makes sure that Open would do, and makes what it makes with create. Opening
// takes memory and time, and checks are repeated: once it opened, Check looks for ten
// minutes only whether the repository is still there and the same.
func (o *Opener) Check(ctx context.Context, l snapshot.Location, create bool) error {
	sound, err := o.isSound(ctx, normal(l))
	if err != nil {
		return fmt.Errorf("check repository %s: %w", describe(l), err)
	}
	if sound {
		return nil
	}
	r, err := o.Open(ctx, l, create)
	if err != nil {
		return err
	}
	if err := r.Close(ctx); err != nil {
		return fmt.Errorf("close repository %s: %w", describe(l), err)
	}
	return nil
}

// isSound is true for a repository that opened lately, and whose files have not
// changed since.
func (o *Opener) isSound(ctx context.Context, l snapshot.Location) (bool, error) {
	file := o.sound.file(l, o.now())
	if file == nil {
		return false, nil
	}
	st, err := o.reached(ctx, l, false)
	if err != nil {
		return false, err
	}
	// Opening says best what is wrong with what cannot be read.
	stands, unread := readFormat(ctx, st)
	return unread == nil && bytes.Equal(stands.Repository, file), st.Close(ctx)
}

// soundness remembers what opened lately.
type soundness struct {
	mu     sync.Mutex
	opened map[string]lastOpened
}

type lastOpened struct {
	location snapshot.Location
	// file is kopia's first.
	file []byte
	when time.Time
}

func newSoundness() *soundness { return &soundness{opened: map[string]lastOpened{}} }

func (s *soundness) add(l snapshot.Location, file []byte, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.opened, func(_ string, o lastOpened) bool { return now.Sub(o.when) >= soundFor })
	s.opened[describe(l)] = lastOpened{location: l, file: bytes.Clone(file), when: now}
}

// file is what a location was opened by; nil where it was not, lately.
func (s *soundness) file(l snapshot.Location, now time.Time) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, found := s.opened[describe(l)]
	if !found || now.Sub(o.when) >= soundFor || !reflect.DeepEqual(o.location, l) {
		return nil
	}
	return o.file
}

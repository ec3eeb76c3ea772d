package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// turns says who may be at the clusters: any number of stories beside each other, or
// one alone. All stories of a run have entered before the first of them begins, since
// go test holds parallel ones back until then.
type turns struct {
	lock sync.Mutex
	// changed is closed, and made anew, when the rest is another.
	changed chan struct{}
	// beside counts stories that run, or will; alone is true while one is alone.
	beside int
	alone  bool
}

func newTurns() *turns { return &turns{changed: make(chan struct{})} }

func (s *turns) change(do func()) {
	s.lock.Lock()
	defer s.lock.Unlock()
	do()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *turns) enter() { s.change(func() { s.beside++ }) }

func (s *turns) leave() { s.change(func() { s.beside-- }) }

// awaitAlone lets the other stories end first, those that wait for the same excepted.
// The story is beside others again once it calls what it gets.
func (s *turns) awaitAlone(ctx context.Context) (back func(), err error) {
	s.leave()
	for {
		s.lock.Lock()
		free, changed := s.beside == 0 && !s.alone, s.changed
		if free {
			s.alone = true
			s.lock.Unlock()
			return func() { s.change(func() { s.beside, s.alone = s.beside+1, false }) }, nil
		}
		beside := s.beside
		s.lock.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			s.enter()
			return nil, fmt.Errorf("wait for %d stories to end: %w", beside, ctx.Err())
		}
	}
}

// alone has the clusters to the story itself until the test ends. What the story waited
// for the others does not count in the time that it has from here.
func alone(t *testing.T) context.Context {
	t.Helper()
	began := time.Now()
	back, err := stories.awaitAlone(t.Context())
	must(t, err)
	t.Cleanup(back)
	t.Logf("alone after waiting %s for the others", time.Since(began).Round(time.Second))
	return bounded(t)
}

func TestTurns(t *testing.T) {
	s := newTurns()
	for range 3 {
		s.enter()
	}
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan func()), make(chan func())
	for _, got := range []chan func(){first, second} {
		go func() {
			back, err := s.awaitAlone(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- back
		}()
	}
	var back func()
	select {
	case <-first:
		t.Fatal("alone beside another")
	case <-second:
		t.Fatal("alone beside another")
	case <-time.After(50 * time.Millisecond):
	}
	s.leave()
	select {
	case back = <-first:
		first = nil
	case back = <-second:
		second = nil
	}
	select {
	case <-first:
		t.Fatal("two are alone")
	case <-second:
		t.Fatal("two are alone")
	case <-time.After(50 * time.Millisecond):
	}
	back()
	s.leave()
	select {
	case back = <-first:
	case back = <-second:
	}
	s.enter()
	cancel()
	if _, err := s.awaitAlone(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	back()
	if s.leave(); s.beside != 1 || s.alone {
		t.Errorf("left with %d beside, alone %t", s.beside, s.alone)
	}
}

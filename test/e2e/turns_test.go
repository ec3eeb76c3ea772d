package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/godwit-io/godwit/test/scenario"
)

// longest are stories that begin before others, since what begins last ends last.
func longest() []string {
	return []string{"TestFailover", "TestKilled", "TestKilledAtARule", "TestRollback", "TestStory", "TestStagedThenMoved", "TestApplication", "TestFailback"}
}

// turns says who may be at the clusters: a few stories beside each other, or one alone.
// All stories of a run have entered before the first of them begins, since go test holds
// parallel ones back until then.
type turns struct {
	// atOnce is how many run beside each other.
	atOnce int

	lock sync.Mutex
	// changed is closed, and made anew, when the rest is another.
	changed chan struct{}
	// beside counts stories that run, or will, and are not waiting to be alone; running
	// those of them that run. Alone is true while one is alone.
	beside, running int
	alone           bool
	// pending are the places in longest of those that have not begun.
	pending map[int]bool
}

func newTurns() *turns {
	return &turns{changed: make(chan struct{}), pending: map[int]bool{}, atOnce: storiesAtOnce}
}

// takeOver says in go test's place how many stories run at once: one that waits to be
// alone would take the place of others there.
func (s *turns) takeOver(flags *flag.FlagSet) error {
	if err := scenario.AtOnce(flags, storiesAtOnce); err != nil {
		return err
	}
	const parallel = "test.parallel"
	var err error
	if s.atOnce, err = strconv.Atoi(flags.Lookup(parallel).Value.String()); err != nil {
		return fmt.Errorf("read -%s: %w", parallel, err)
	}
	return flags.Set(parallel, "1000")
}

func (s *turns) change(do func()) {
	s.lock.Lock()
	defer s.lock.Unlock()
	do()
	close(s.changed)
	s.changed = make(chan struct{})
}

// enter is for a story that will begin, leave for one that has entered and will not any
// more, or has ended.
func (s *turns) enter(name string) {
	s.change(func() {
		s.beside++
		if i := slices.Index(longest(), name); i >= 0 {
			s.pending[i] = true
		}
	})
}

func (s *turns) leave(name string) {
	s.change(func() {
		s.beside--
		delete(s.pending, slices.Index(longest(), name))
	})
}

// await waits until something may be, and makes it so.
func (s *turns) await(ctx context.Context, what string, may func() bool, then func()) error {
	for {
		s.lock.Lock()
		free, changed, beside := may(), s.changed, s.beside
		if free {
			then()
		}
		s.lock.Unlock()
		if free {
			s.change(func() {})
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait %s, with %d stories beside: %w", what, beside, ctx.Err())
		}
	}
}

// begin waits for a place beside others, and for those that are longer to have theirs.
// End gives it back.
func (s *turns) begin(ctx context.Context, name string) error {
	place := slices.Index(longest(), name)
	return s.await(ctx, "for a place", func() bool {
		for other := range s.pending {
			if place < 0 || other < place {
				return false
			}
		}
		return s.running < s.atOnce && !s.alone
	}, func() {
		s.running++
		delete(s.pending, place)
	})
}

func (s *turns) end() { s.change(func() { s.running-- }) }

// awaitAlone lets the other stories end first, those that wait for the same excepted;
// meanwhile another has its place. The story is beside others again once it calls what
// it gets.
func (s *turns) awaitAlone(ctx context.Context) (back func(), err error) {
	s.change(func() { s.beside, s.running = s.beside-1, s.running-1 })
	again := func() { s.beside, s.running = s.beside+1, s.running+1 }
	if err := s.await(ctx, "to be alone", func() bool { return s.beside == 0 && !s.alone }, func() { s.alone = true }); err != nil {
		s.change(again)
		return nil, err
	}
	return func() {
		s.change(func() {
			again()
			s.alone = false
		})
	}, nil
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
		s.enter("any")
		must(t, s.begin(t.Context(), "any"))
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
	end := func() {
		s.end()
		s.leave("any")
	}
	var back func()
	select {
	case <-first:
		t.Fatal("alone beside another")
	case <-second:
		t.Fatal("alone beside another")
	case <-time.After(50 * time.Millisecond):
	}
	end()
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
	end()
	select {
	case back = <-first:
	case back = <-second:
	}
	s.enter("any")
	late := make(chan error)
	go func() { late <- s.begin(t.Context(), "any") }()
	select {
	case err := <-late:
		t.Fatalf("one began beside one that is alone (%v)", err)
	case <-time.After(50 * time.Millisecond):
	}
	back()
	must(t, <-late)
	cancel()
	if _, err := s.awaitAlone(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	end()
	if end(); s.beside != 0 || s.running != 0 || s.alone {
		t.Errorf("left with %d beside, %d running, alone %t", s.beside, s.running, s.alone)
	}
}

// TestTurnsGoToTheLongestFirst sees that waiting to be alone takes nobody's place.
func TestTurnsGoToTheLongestFirst(t *testing.T) {
	s := newTurns()
	s.atOnce = 1
	names := []string{"short", longest()[1], longest()[0]}
	for _, name := range names {
		s.enter(name)
	}
	order := make(chan string, len(names))
	var group sync.WaitGroup
	for _, name := range names {
		group.Go(func() {
			if err := s.begin(t.Context(), name); err != nil {
				t.Error(err)
				return
			}
			order <- name
			if name != "short" {
				back, err := s.awaitAlone(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				back()
			}
			s.end()
			s.leave(name)
		})
	}
	group.Wait()
	slices.Reverse(names)
	for _, want := range names {
		if got := <-order; got != want {
			t.Errorf("%s began where %s should have", got, want)
		}
	}
}

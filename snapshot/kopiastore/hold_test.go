package kopiastore

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"

	"github.com/godwit-io/godwit/snapshot"
)

// standing is a store at which a write of some kind takes a day, once it is asked to.
type standing struct {
	kind   string
	before bool
	on     atomic.Bool
	passed atomic.Int64 // nanoseconds
	// indexes are those that came.
	indexes atomic.Int64
}

func (s *standing) now() time.Time { return wallTime().Add(time.Duration(s.passed.Load())) }

func (s *standing) stand(id blob.ID) {
	if strings.HasPrefix(string(id), s.kind) && s.on.CompareAndSwap(true, false) {
		s.passed.Add(int64(25 * time.Hour))
	}
}

func (s *standing) opener() *Opener {
	o := eager()
	o.now = s.now
	o.wrap = func(st blob.Storage) blob.Storage { return standingStorage{st, s} }
	return o
}

type standingStorage struct {
	blob.Storage
	of *standing
}

func (s standingStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	if s.of.before {
		s.of.stand(id)
	}
	err := s.Storage.PutBlob(ctx, id, data, o)
	if !s.of.before {
		s.of.stand(id)
	}
	if strings.HasPrefix(string(id), "x") {
		s.of.indexes.Add(1)
	}
	return err
}

// TestWritesThatStand has single writes take so long that what was stored before them may
// have been collected: nothing is listed over it, and no index names it.
func TestWritesThatStand(t *testing.T) {
	for name, c := range map[string]struct {
		kind   string
		before bool
	}{
		"chunks": {"p", false}, "indexes' pack": {"q", false}, "the index": {"x", true}, "after the index": {"x", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("blocks", func(t *testing.T) { testBlocksStand(t, &standing{kind: c.kind, before: c.before}) })
			t.Run("trees", func(t *testing.T) { testTreesStand(t, &standing{kind: c.kind, before: c.before}) })
		})
	}
}

func (s *standing) refused(t *testing.T, r *Repository, v snapshot.Volume, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), " for 25h0m") || !strings.Contains(err.Error(), "the run has to be started again") {
		t.Errorf("it ended by %v", err)
	}
	if n := s.indexes.Load(); s.kind != "x" && n > 0 {
		t.Errorf("%d indexes came", n)
	}
	images, err := r.Images(t.Context(), v)
	if err != nil || len(images) != 0 {
		t.Errorf("there are %v (%v)", images, err)
	}
	left, err := r.checkpointsOf(t.Context(), v)
	if err != nil || len(left) != 0 {
		t.Errorf("there are checkpoints %v (%v)", left, err)
	}
}

func testBlocksStand(t *testing.T, s *standing) {
	r := open(t, s.opener(), folder(t))
	data := noise(4<<20, 1)
	s.on.Store(true)
	_, _, err := backup(t, r, data, nil)
	s.refused(t, r, snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"}, err)
	image, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, r, image.ID, data)
}

// TestCheckpointsThatStand are not listed either: the next run would go on from them.
func TestCheckpointsThatStand(t *testing.T) {
	for _, kind := range []string{"p", "q", "x"} {
		s := &standing{kind: kind, before: kind == "x"}
		r := open(t, s.opener(), folder(t))
		v := snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"}
		w, err := r.Begin(t.Context(), snapshot.Image{Volume: v, Size: 4 << 20}, "")
		if err != nil {
			t.Fatal(err)
		}
		c := w.(snapshot.Checkpointer)
		if _, err := c.Resume(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Put(t.Context(), 0, noise(int(w.ChunkSize()), 1)); err != nil {
			t.Fatal(err)
		}
		s.on.Store(true)
		s.refused(t, r, v, c.Checkpoint(t.Context()))
		if err := w.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestClockGoesOnInSleep sees that ages are not counted by the clock that Go prefers, which
// stands while the machine sleeps.
func TestClockGoesOnInSleep(t *testing.T) {
	if now := New().now(); now != now.Round(0) {
		t.Errorf("%v counts by the monotonic clock", now)
	}
}

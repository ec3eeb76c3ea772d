package kopiastore

import (
	"strings"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/maintenance"

	"github.com/godwit-io/godwit/snapshot"
)

// meanwhile is a source at which something happens before a read.
type meanwhile struct {
	snapshot.Source
	at   int64
	does func()
}

func (m *meanwhile) ReadAt(p []byte, offset int64) (int, error) {
	if m.at--; m.at == 0 {
		m.does()
	}
	return m.Source.ReadAt(p, offset)
}

// TestCollectedMeanwhile has runs stand still for as long as it takes to collect what they
// stored: they end loudly, and another one begins with what is still there.
func TestCollectedMeanwhile(t *testing.T) {
	data := noise(24<<20, 1)
	run := func(t *testing.T, r *Repository, wrap func(snapshot.Source) snapshot.Source) (snapshot.Image, error) {
		image, _, err := backup(t, r, data, func(b *snapshot.BackupRequest) {
			b.Moment, b.Workers, b.Source = "one", 1, wrap(b.Source)
		})
		return image, err
	}
	again := func(t *testing.T, r *Repository) {
		image, err := run(t, r, func(s snapshot.Source) snapshot.Source { return s })
		if err != nil {
			t.Fatal(err)
		}
		holds(t, r, image.ID, data)
	}
	t.Run("without a checkpoint", func(t *testing.T) {
		r := open(t, eager(), folder(t))
		_, err := run(t, r, func(s snapshot.Source) snapshot.Source {
			return &meanwhile{s, 2, func() { r.now = func() time.Time { return time.Now().Add(unheldAfter + time.Minute) } }}
		})
		if err == nil || !strings.Contains(err.Error(), "held by no checkpoint for 4h1m") {
			t.Fatalf("%v", err)
		}
		again(t, r)
	})
	t.Run("after its checkpoint was swept", func(t *testing.T) {
		l := folder(t)
		other := l
		other.Host, other.CacheDir = "node2", t.TempDir()
		r, sweeper := open(t, eager(), l), open(t, eager(), other)
		_, _, err := backup(t, r, data, func(b *snapshot.BackupRequest) {
			b.Moment, b.Workers, b.CheckpointEvery.Bytes = "one", 1, 2<<20
			b.Source = &dyingSource{Source: b.Source, left: 4}
		})
		if err == nil {
			t.Fatal("it lived")
		}
		_, err = run(t, r, func(s snapshot.Source) snapshot.Source {
			return &meanwhile{s, 1, func() { sweep(t, sweeper) }}
		})
		if err == nil || !strings.Contains(err.Error(), "was removed meanwhile: the run has to be started again") {
			t.Fatalf("%v", err)
		}
		again(t, r)
	})
}

// TestWaitBeforeTheFirstChunk has a run wait for hours, as for memory, before it takes
// anything for stored: it goes on with what the repository holds then.
func TestWaitBeforeTheFirstChunk(t *testing.T) {
	data := noise(3<<20, 1)
	r := open(t, eager(), folder(t))
	full, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.Begin(t.Context(), snapshot.Image{Volume: full.Volume, Size: full.Size, Kind: snapshot.Block, Method: snapshot.MethodDelta, Base: full.ID}, full.ID)
	if err != nil {
		t.Fatal(err)
	}
	r.now = func() time.Time { return time.Now().Add(unheldAfter + time.Hour) }
	err = w.Keep(t.Context(), snapshot.Extent{Length: full.Size})
	if err != nil {
		t.Fatal(err)
	}
	image, _, err := w.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	holds(t, r, image.ID, data)
}

// TestUnheldIsNotDropped holds the time that a run may go unheld against how soon kopia
// drops from its index what was referred to until then.
func TestUnheldIsNotDropped(t *testing.T) {
	s := maintenance.SafetyFull
	if soonest := s.MarginBetweenSnapshotGC + s.DropContentFromIndexExtraMargin; !s.RequireTwoGCCycles || unheldAfter > soonest-time.Hour {
		t.Errorf("kopia drops what nobody refers to after %s, and a run may go unheld for %s", soonest, unheldAfter)
	}
	if unsafeAfter >= s.PackDeleteMinAge || unsafeAfter >= s.MinContentAgeSubjectToGC {
		t.Errorf("what no index names may wait for %s, and kopia collects it after %s", unsafeAfter, min(s.PackDeleteMinAge, s.MinContentAgeSubjectToGC))
	}
}

// sweep collects what no image needs, days later.
func sweep(t *testing.T, r *Repository) {
	t.Helper()
	r.now = func() time.Time { return time.Now().Add(4 * 24 * time.Hour) }
	for range 2 {
		if done, err := r.Maintain(t.Context(), snapshot.MaintainRequest{Full: true}); err != nil {
			t.Fatalf("%+v: %v", done, err)
		}
	}
}

var _ snapshot.Source = (*meanwhile)(nil)

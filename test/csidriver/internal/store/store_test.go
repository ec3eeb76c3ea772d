package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRecords(t *testing.T) {
	s := open(t)
	id, err := s.NewID(Volumes, "a name / with anything")
	if err != nil {
		t.Fatal(err)
	}
	v := Volume{ID: id, Name: "a name / with anything", Size: 4096}
	if debris, err := s.Debris(Volumes); err != nil || len(debris) != 1 {
		t.Errorf("debris %v (%v), want the folder without a record", debris, err)
	}
	if err := s.Write(&v); err != nil {
		t.Fatal(err)
	}
	var got Volume
	if err := s.FindByName(v.Name, &got); err != nil || got.ID != id || got.Size != 4096 {
		t.Errorf("%+v (%v)", got, err)
	}
	for _, id := range []string{"", "..", "../volumes/" + id, ".hidden", "vol-x", string(make([]byte, 300))} {
		if err := s.Read(id, &got); !errors.Is(err, ErrNotFound) {
			t.Errorf("record %q: %v", id, err)
		}
	}
	if err := errors.Join(s.Remove(Volumes, id), s.Remove(Volumes, id)); err != nil {
		t.Error(err)
	}
	if err := s.FindByName(v.Name, &got); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its removal: %v", err)
	}
	if again, err := s.NewID(Volumes, v.Name); err != nil || again == id {
		t.Errorf("id %s came back (%v)", again, err)
	}
}

func TestFindByNameRemovesDebris(t *testing.T) {
	s := open(t)
	id, err := s.NewID(Snapshots, "n")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Image(Snapshots, id), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.FindByName("n", &Snapshot{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(s.Folder(Snapshots, id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("debris is still there (%v)", err)
	}
}

func TestLockLetsInOneAtATime(t *testing.T) {
	s := open(t)
	var inside, entered atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				l, err := s.LockName(t.Context(), Volumes, "n")
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two are inside")
				}
				entered.Add(1)
				inside.Add(-1)
				l.Unlock()
			}
		})
	}
	wg.Wait()
	if entered.Load() != 320 {
		t.Errorf("%d entered", entered.Load())
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir(), "locks", "*")); err != nil || len(left) > 0 {
		t.Errorf("lock files %v are left (%v)", left, err)
	}
}

func TestLockGivesUpWithItsContext(t *testing.T) {
	s := open(t)
	l, err := s.LockName(t.Context(), Volumes, "n")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.LockName(ctx, Volumes, "n"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

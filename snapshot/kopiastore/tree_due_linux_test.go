package kopiastore

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

// TestTreeCheckpointsAreDue shows how far apart they are: never so far that what the run
// goes by may be dropped.
func TestTreeCheckpointsAreDue(t *testing.T) {
	if mostBetween >= unheldAfter/2 || standInterval > unheldAfter/2 {
		t.Errorf("checkpoints are %s apart, or %s, and what nothing holds for %s is not gone by", mostBetween, standInterval, unheldAfter)
	}
	for name, c := range map[string]struct {
		run, since      time.Duration
		isNew, isListed bool
		want            bool
	}{
		"something new, in time":       {run: time.Hour, since: time.Minute, isNew: true, want: true},
		"something new, too early":     {run: 2 * time.Hour, since: time.Minute, isNew: true},
		"after a month":                {run: 30 * 24 * time.Hour, since: mostBetween, isNew: true, isListed: true, want: true},
		"nothing new":                  {run: time.Hour, since: time.Hour, isListed: true},
		"nothing new for long":         {run: 24 * time.Hour, since: standInterval, isListed: true, want: true},
		"nothing new, and none listed": {run: 24 * time.Hour, since: 24 * time.Hour},
	} {
		if got := isDue(c.run, c.since, c.isNew, c.isListed); got != c.want {
			t.Errorf("%s: due is %t", name, got)
		}
	}
}

// TestTreeWaitsBeforeItsFirstFile has a tree wait for hours, as for memory, once it is
// walked over: it goes on with what the repository holds then.
func TestTreeWaitsBeforeItsFirstFile(t *testing.T) {
	r := open(t, New(), folder(t))
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), noise(1<<20, 1), 0o600))
	var asked atomic.Int64
	r.now = func() time.Time {
		if asked.Add(1) <= 2 {
			return time.Now()
		}
		return time.Now().Add(unheldAfter + time.Hour)
	}
	image := snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}
	stored, err := r.BackupTree(t.Context(), dir, image, "", nil)
	must(t, err)
	_, err = r.RestoreTree(t.Context(), stored.ID, t.TempDir(), nil)
	must(t, err)
}

package kopiastore

import (
	"context"
	"testing"

	"github.com/kopia/kopia/repo"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

func folder(t *testing.T) snapshot.Location {
	t.Helper()
	return snapshot.Location{
		Type: snapshot.Filesystem, Path: t.TempDir(), Password: "a long secret", User: "tester", Host: "node1", CacheDir: t.TempDir(),
	}
}

func open(t *testing.T, o *Opener, l snapshot.Location) *Repository {
	t.Helper()
	r, err := o.open(t.Context(), l, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestFolder(t *testing.T) {
	snapshottest.TestStore(t, func(t *testing.T) snapshot.Store { return open(t, New(), folder(t)) })
	t.Run("rounds", func(t *testing.T) { snapshottest.TestRounds(t, open(t, New(), folder(t))) })
	t.Run("epochs", func(t *testing.T) {
		place := folder(t)
		snapshottest.TestEpochs(t, open(t, New(), place), open(t, New(), place))
	})
}

func sessionForTest() repo.WriteSessionOptions { return repo.WriteSessionOptions{Purpose: "test"} }

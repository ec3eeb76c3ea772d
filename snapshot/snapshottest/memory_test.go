package snapshottest_test

import (
	"testing"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

func TestMemory(t *testing.T) {
	snapshottest.TestStore(t, func(*testing.T) snapshot.Store { return snapshottest.NewMemory() })
	t.Run("journal", func(t *testing.T) { snapshottest.TestJournal(t, snapshottest.NewMemory()) })
	t.Run("rounds", func(t *testing.T) { snapshottest.TestRounds(t, snapshottest.NewMemory()) })
	t.Run("epochs", func(t *testing.T) {
		m := snapshottest.NewMemory()
		snapshottest.TestEpochs(t, m, m)
	})
}

func TestHistories(t *testing.T) {
	snapshottest.TestHistories(t, 970, "./snapshot/snapshottest", func(*testing.T) *snapshottest.World {
		return snapshottest.NewMemory().World()
	})
}

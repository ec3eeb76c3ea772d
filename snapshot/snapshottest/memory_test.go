package snapshottest_test

import (
	"testing"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

func TestMemory(t *testing.T) {
	snapshottest.TestStore(t, func(*testing.T) snapshot.Store { return snapshottest.NewMemory() })
	t.Run("rounds", func(t *testing.T) { snapshottest.TestRounds(t, snapshottest.NewMemory()) })
	t.Run("model", func(t *testing.T) {
		for seed := range uint64(40) {
			snapshottest.TestModel(t, snapshottest.NewMemory(), seed, 8)
		}
	})
}

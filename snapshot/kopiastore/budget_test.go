package kopiastore

import (
	"sync"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

// TestBudgetIsShared runs more transfers at once than there is memory for: all
// come through, and together they never hold more.
func TestBudgetIsShared(t *testing.T) {
	const most = 96 << 20 // one transfer with two of its workers
	budget := snapshot.NewBudget(most)
	r := open(t, New(WithBudget(budget)), folder(t))
	var transfers sync.WaitGroup
	for i := range 6 {
		transfers.Go(func() {
			data := noise(24<<20, byte(i))
			image, _, err := backup(t, r, data, func(b *snapshot.BackupRequest) {
				b.Budget, b.Image.Volume.Name = budget, string(rune('a'+i))
			})
			if err != nil {
				t.Error(err)
				return
			}
			holds(t, r, image.ID, data)
		})
	}
	transfers.Wait()
	if now, peak := budget.Held(); now != 0 || peak == 0 || peak > most {
		t.Errorf("%d bytes are held in the end, %d were at most", now, peak)
	} else {
		t.Logf("%d MiB were held at most", peak>>20)
	}
}

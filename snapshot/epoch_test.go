package snapshot_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// slow is a store whose calls take any time.
type slow struct {
	*snapshottest.Memory
	mu     sync.Mutex
	random *rand.Rand
}

func (s *slow) wait() {
	s.mu.Lock()
	d := time.Duration(s.random.IntN(5)) * time.Second
	s.mu.Unlock()
	time.Sleep(d)
}

func (s *slow) PutEpoch(ctx context.Context, e snapshot.Epoch, sealed snapshot.SealedEpoch) error {
	s.wait()
	defer s.wait()
	return s.Memory.PutEpoch(ctx, e, sealed)
}

func (s *slow) Epochs(ctx context.Context, app string) ([]snapshot.SealedEpoch, error) {
	s.wait()
	defer s.wait()
	return s.Memory.Epochs(ctx, app)
}

// TestRaiseAtOnce lets several clusters activate one application at once, in every
// order that random delays give: one of them has it, and the others are told which.
func TestRaiseAtOnce(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			s := &slow{Memory: snapshottest.NewMemory(), random: rand.New(rand.NewPCG(seed, 1))}
			var won sync.Map
			var all sync.WaitGroup
			for i := range 3 {
				all.Go(func() {
					me := fmt.Sprint("cluster-", i)
					for try := range 20 {
						e, err := snapshot.Raise(t.Context(), s, snapshot.RaiseRequest{App: "a", Cluster: me, From: "source", Key: private, Now: time.Now})
						switch {
						case err == nil:
							won.Store(me, e.Number)
							return
						case errors.Is(err, snapshot.ErrSuperseded):
							return
						case !errors.Is(err, snapshot.ErrContended):
							t.Error(err)
							return
						}
						time.Sleep(time.Duration(i*11+try*7) * time.Second)
					}
					t.Errorf("seed %d: %s is never told", seed, me)
				})
			}
			all.Wait()
			n := 0
			won.Range(func(who, number any) bool {
				n++
				if e, err := snapshot.EpochOf(t.Context(), s, "a", public); err != nil || e.Cluster != who || e.Number != number {
					t.Errorf("seed %d: %s won epoch %d, and it says %+v, %v", seed, who, number, e, err)
				}
				return true
			})
			if n != 1 {
				t.Errorf("seed %d: %d clusters have the application", seed, n)
			}
		})
	}
}

package snapshottest

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

// PutEpoch stores an epoch.
func (m *Memory) PutEpoch(_ context.Context, e snapshot.Epoch, sealed snapshot.SealedEpoch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epochs[e.App] = append(m.epochs[e.App], sealed)
	return nil
}

// Epochs lists those of an application.
func (m *Memory) Epochs(_ context.Context, app string) ([]snapshot.SealedEpoch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.epochs[app]), nil
}

// TestEpochs is the contract of snapshot.Epochs. What one client puts, the other,
// of the same repository, is told of.
func TestEpochs(t *testing.T, one, other snapshot.Epochs) {
	t.Helper()
	ctx := t.Context()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Unix(1700000000, 0) }
	if e, err := snapshot.EpochOf(ctx, one, "ns/app", public); err != nil || e.Number != 0 || e.Bars("a") {
		t.Fatalf("nobody activated anything, and it says %+v, %v", e, err)
	}
	// a is the first source; b activates, then fails back to a, and c has nothing
	// to take over from.
	for _, step := range []struct {
		to, from string
		epoch    int64
	}{{"b", "a", 1}, {"b", "a", 1}, {"a", "b", 2}, {"c", "b", 0}, {"b", "a", 3}} {
		s := one
		if step.to == "b" {
			s = other
		}
		e, err := snapshot.Raise(ctx, s, snapshot.RaiseRequest{App: "ns/app", Cluster: step.to, From: step.from, Key: private, Now: now})
		if step.epoch == 0 {
			if !errors.Is(err, snapshot.ErrSuperseded) {
				t.Errorf("%s took over from %s: %+v, %v", step.to, step.from, e, err)
			}
			continue
		}
		if err != nil || e.Number != step.epoch || e.Cluster != step.to {
			t.Fatalf("%s took over from %s: %+v, %v", step.to, step.from, e, err)
		}
		for _, s := range []snapshot.Epochs{one, other} {
			got, err := snapshot.EpochOf(ctx, s, "ns/app", public)
			if err != nil || got != e || !got.Bars("elsewhere") || got.Bars(step.to) {
				t.Errorf("after %s took over it says %+v, %v", step.to, got, err)
			}
		}
	}
	if e, err := snapshot.EpochOf(ctx, one, "ns/other", public); err != nil || e.Number != 0 {
		t.Errorf("another application: %+v, %v", e, err)
	}
	forger := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	if _, err := snapshot.Raise(ctx, one, snapshot.RaiseRequest{App: "ns/app", Cluster: "x", From: "b", Key: forger, Now: now}); !errors.Is(err, snapshot.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if err := one.PutEpoch(ctx, snapshot.Epoch{App: "ns/app", Number: 9, Cluster: "x"}, snapshot.SealedEpoch{Statement: []byte(fmt.Sprintf("%q", "x")), Signature: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.EpochOf(ctx, other, "ns/app", public); !errors.Is(err, snapshot.ErrSignature) {
		t.Errorf("a forged epoch: %v", err)
	}
}

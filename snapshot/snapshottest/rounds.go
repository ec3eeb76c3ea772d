package snapshottest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/godwit-io/godwit/snapshot"
)

// Seal stores a round once.
func (m *Memory) Seal(ctx context.Context, s snapshot.SealedRound) error {
	var p snapshot.RecoveryPoint
	if err := json.Unmarshal(s.Statement, &p); err != nil {
		return err
	}
	for _, i := range p.Images {
		if _, err := m.Image(ctx, i.ID); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.rounds {
		if r.point.App != p.App || r.point.Round != p.Round || r.point.Cluster != p.Cluster {
			continue
		}
		if bytes.Equal(r.round.Statement, s.Statement) && bytes.Equal(r.round.Objects, s.Objects) {
			return nil
		}
		return fmt.Errorf("round %s of %s is sealed already, with other content", p.Round, p.App)
	}
	s.Objects = append([]byte{}, s.Objects...)
	m.rounds = append(m.rounds, memoryRound{p, s})
	return nil
}

// Sealed returns one round.
func (m *Memory) Sealed(_ context.Context, app, round string) (snapshot.SealedRound, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.rounds {
		if r.point.App == app && r.point.Round == round {
			return r.round, nil
		}
	}
	return snapshot.SealedRound{}, fmt.Errorf("round %s of %s: %w", round, app, snapshot.ErrNotFound)
}

// Recoverable lists rounds, newest first.
func (m *Memory) Recoverable(_ context.Context, app string) ([]snapshot.SealedRound, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rounds := slices.Clone(m.rounds)
	slices.SortStableFunc(rounds, func(a, b memoryRound) int { return b.point.Sealed.Compare(a.point.Sealed) })
	var out []snapshot.SealedRound
	for _, r := range rounds {
		if r.point.App == app || app == "" {
			r.round.Objects = nil
			out = append(out, r.round)
		}
	}
	return out, nil
}

// ForgetRound removes a round from the list.
func (m *Memory) ForgetRound(_ context.Context, p snapshot.RecoveryPoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rounds = slices.DeleteFunc(m.rounds, func(r memoryRound) bool {
		return r.point.App == p.App && r.point.Round == p.Round && r.point.Cluster == p.Cluster
	})
	return nil
}

// Package pairingtest holds what tests of pairing share: stores in memory, and
// the contract that every store keeps. It is never linked into a product.
package pairingtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/godwit-io/godwit/pairing"
)

// Grants is a pairing.GrantStore in memory. The zero value is empty and ready.
type Grants struct{ records records[pairing.Grant] }

// Peers is a pairing.PeerStore in memory. The zero value is empty and ready.
type Peers struct{ records records[pairing.Peer] }

var (
	_ pairing.GrantStore = (*Grants)(nil)
	_ pairing.PeerStore  = (*Peers)(nil)
)

// Get is pairing.GrantStore's.
func (s *Grants) Get(_ context.Context, id string) (pairing.Grant, error) { return s.records.get(id) }

// List is pairing.GrantStore's.
func (s *Grants) List(context.Context) ([]pairing.Grant, error) { return s.records.list(""), nil }

// Put is pairing.GrantStore's.
func (s *Grants) Put(_ context.Context, g pairing.Grant) (pairing.Grant, error) {
	return s.records.put(g.ID, g.Version, func(version string) pairing.Grant {
		g.Version = version
		return g
	})
}

// Delete is pairing.GrantStore's.
func (s *Grants) Delete(_ context.Context, id string) error { return s.records.delete(id) }

// Get is pairing.PeerStore's.
func (s *Peers) Get(_ context.Context, d pairing.Direction, pairID string) (pairing.Peer, error) {
	return s.records.get(string(d) + "/" + pairID)
}

// List is pairing.PeerStore's.
func (s *Peers) List(_ context.Context, d pairing.Direction) ([]pairing.Peer, error) {
	return s.records.list(string(d) + "/"), nil
}

// Put is pairing.PeerStore's.
func (s *Peers) Put(_ context.Context, p pairing.Peer) (pairing.Peer, error) {
	return s.records.put(string(p.Direction)+"/"+p.PairID, p.Version, func(version string) pairing.Peer {
		p.Version = version
		return p
	})
}

// Delete is pairing.PeerStore's.
func (s *Peers) Delete(_ context.Context, d pairing.Direction, pairID string) error {
	return s.records.delete(string(d) + "/" + pairID)
}

// records is a map with versions.
type records[T any] struct {
	mu    sync.Mutex
	byKey map[string]versioned[T]
	last  int
}

type versioned[T any] struct {
	version string
	record  T
}

func (r *records[T]) get(key string) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.byKey[key]
	if !ok {
		return v.record, fmt.Errorf("%s: %w", key, pairing.ErrNotFound)
	}
	return v.record, nil
}

func (r *records[T]) list(prefix string) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	var keys []string
	for key := range r.byKey {
		if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, cmp.Compare[string])
	var out []T
	for _, key := range keys {
		out = append(out, r.byKey[key].record)
	}
	return out
}

func (r *records[T]) put(key, version string, with func(version string) T) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if current := r.byKey[key].version; current != version {
		var none T
		return none, fmt.Errorf("%s: %w", key, pairing.ErrConflict)
	}
	r.last++
	next := strconv.Itoa(r.last)
	if r.byKey == nil {
		r.byKey = map[string]versioned[T]{}
	}
	r.byKey[key] = versioned[T]{version: next, record: with(next)}
	return r.byKey[key].record, nil
}

func (r *records[T]) delete(key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byKey, key)
	return nil
}

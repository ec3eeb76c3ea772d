package pairingtest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/godwit-io/godwit/pairing"
)

// moment is on a whole second and in UTC, as stores may keep no finer time.
func moment() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }

// SampleGrant has every field set.
func SampleGrant(id string) pairing.Grant {
	return pairing.Grant{
		ID: id, SecretHash: sha256.Sum256([]byte(id)),
		Scope:          pairing.Scope{Namespaces: []string{"cms", "shop"}, Admin: true},
		BackupLocation: "cms/s3", Bidirectional: true, Created: moment(), Expires: moment().Add(time.Hour),
		Use: &pairing.Use{
			PairID: id, ClusterID: "c1", ClusterName: "one", Namespace: "cms",
			KeyHash: sha256.Sum256([]byte("key")), Time: moment().Add(time.Minute), Settled: true,
		},
	}
}

// SamplePeer has every field set.
func SamplePeer(d pairing.Direction, pairID string) pairing.Peer {
	return pairing.Peer{
		PairID: pairID, Direction: d, ClusterID: "c2", ClusterName: "two", Endpoint: "10.0.0.1:9020",
		Scope: pairing.Scope{Namespaces: []string{"cms"}}, Namespace: "cms", BackupLocation: "cms/s3",
		ClientKey: "client \x00\xff key", Certificate: []byte{1, 2}, Authority: []byte{3, 4},
		SealingKey: "sealing \xfe key", SealingPublicKey: make(ed25519.PublicKey, ed25519.PublicKeySize),
		RepositoryPassword: "password", RepositoryPrefix: "godwit/" + pairID + "/",
		Created: moment(), CertificateExpires: moment().Add(24 * time.Hour),
		Name: "west", Asked: "10.0.0.3:9020", Addresses: []string{"10.0.0.2:9020"}, KeyHash: pairing.KeyHash{1}, FormerKeyHash: pairing.KeyHash{2},
		Left: moment().Add(time.Hour), Twin: "twin", Return: "return",
		NextSealingKey: "next \xfd key", FormerSealingKeys: []ed25519.PublicKey{{1, 2}, {3}}, SealedBefore: []pairing.StatementDigest{{1}, {2}},
		NextRepositoryPassword: "next password", EpochSeed: "seed \xfc",
	}
}

// GrantStore holds a store to the contract of pairing.GrantStore. Each call of
// open gives an empty one.
func GrantStore(t *testing.T, open func(t *testing.T) pairing.GrantStore) {
	t.Helper()
	contract(t, func(t *testing.T) operations[pairing.Grant] {
		s := open(t)
		return operations[pairing.Grant]{
			sample:  SampleGrant,
			get:     s.Get,
			list:    s.List,
			put:     s.Put,
			delete:  s.Delete,
			version: func(g *pairing.Grant) *string { return &g.Version },
			change:  func(g *pairing.Grant) { g.Use = nil; g.BackupLocation = "" },
		}
	})
}

// PeerStore holds a store to the contract of pairing.PeerStore. Each call of
// open gives an empty one.
func PeerStore(t *testing.T, open func(t *testing.T) pairing.PeerStore) {
	t.Helper()
	for _, d := range []pairing.Direction{pairing.Outgoing, pairing.Incoming} {
		t.Run(string(d), func(t *testing.T) {
			contract(t, func(t *testing.T) operations[pairing.Peer] {
				s := open(t)
				return operations[pairing.Peer]{
					sample:  func(id string) pairing.Peer { return SamplePeer(d, id) },
					get:     func(ctx context.Context, id string) (pairing.Peer, error) { return s.Get(ctx, d, id) },
					list:    func(ctx context.Context) ([]pairing.Peer, error) { return s.List(ctx, d) },
					put:     s.Put,
					delete:  func(ctx context.Context, id string) error { return s.Delete(ctx, d, id) },
					version: func(p *pairing.Peer) *string { return &p.Version },
					change:  func(p *pairing.Peer) { p.ClientKey, p.Certificate, p.Scope = "", nil, pairing.Scope{} },
				}
			})
		})
	}
	t.Run("directions are apart", func(t *testing.T) {
		s := open(t)
		for _, d := range []pairing.Direction{pairing.Outgoing, pairing.Incoming} {
			if _, err := s.Put(t.Context(), SamplePeer(d, "p1")); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Delete(t.Context(), pairing.Outgoing, "p1"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), pairing.Incoming, "p1"); err != nil {
			t.Errorf("deleting the outgoing side took the incoming one along: %v", err)
		}
	})
}

type operations[T any] struct {
	sample  func(id string) T
	get     func(context.Context, string) (T, error)
	list    func(context.Context) ([]T, error)
	put     func(context.Context, T) (T, error)
	delete  func(context.Context, string) error
	version func(*T) *string
	change  func(*T)
}

func contract[T any](t *testing.T, open func(t *testing.T) operations[T]) {
	t.Helper()
	t.Run("keeps every field", func(t *testing.T) { keepsEveryField(t, open(t)) })
	t.Run("replaces one version only", func(t *testing.T) { replacesOneVersion(t, open(t)) })
	t.Run("one of many wins", func(t *testing.T) { oneOfManyWins(t, open(t)) })
	t.Run("deletes", func(t *testing.T) { deletes(t, open(t)) })
}

func keepsEveryField[T any](t *testing.T, s operations[T]) {
	if _, err := s.get(t.Context(), "p1"); !errors.Is(err, pairing.ErrNotFound) {
		t.Fatalf("get from an empty store: %v, want ErrNotFound", err)
	}
	want := s.sample("p1")
	stored, err := s.put(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if *s.version(&stored) == "" {
		t.Error("put gave no version")
	}
	got, err := s.get(t.Context(), "p1")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, stored) {
		t.Errorf("got\n%+v\nput returned\n%+v", got, stored)
	}
	*s.version(&got) = ""
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if _, err := s.put(t.Context(), s.sample("p2")); err != nil {
		t.Fatal(err)
	}
	all, err := s.list(t.Context())
	if err != nil || len(all) != 2 {
		t.Errorf("list: %d records, %v, want 2", len(all), err)
	}
}

func replacesOneVersion[T any](t *testing.T, s operations[T]) {
	first, err := s.put(t.Context(), s.sample("p1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.put(t.Context(), s.sample("p1")); !errors.Is(err, pairing.ErrConflict) {
		t.Errorf("create what is there: %v, want ErrConflict", err)
	}
	next := first
	s.change(&next)
	second, err := s.put(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	if *s.version(&second) == *s.version(&first) {
		t.Error("the version did not change")
	}
	if _, err := s.put(t.Context(), first); !errors.Is(err, pairing.ErrConflict) {
		t.Errorf("replace an old version: %v, want ErrConflict", err)
	}
	got, err := s.get(t.Context(), "p1")
	if err != nil || !reflect.DeepEqual(got, second) {
		t.Errorf("got\n%+v, %v\nwant\n%+v", got, err, second)
	}
}

func oneOfManyWins[T any](t *testing.T, s operations[T]) {
	base, err := s.put(t.Context(), s.sample("p1"))
	if err != nil {
		t.Fatal(err)
	}
	const rivals = 8
	errs := make([]error, rivals)
	var wg sync.WaitGroup
	for i := range rivals {
		wg.Go(func() {
			mine := base
			s.change(&mine)
			_, errs[i] = s.put(t.Context(), mine)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, pairing.ErrConflict):
			t.Errorf("lost with %v, want ErrConflict", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d won", won, rivals)
	}
}

func deletes[T any](t *testing.T, s operations[T]) {
	stored, err := s.put(t.Context(), s.sample("p1"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.delete(t.Context(), "p1"); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	if _, err := s.get(t.Context(), "p1"); !errors.Is(err, pairing.ErrNotFound) {
		t.Errorf("get after delete: %v, want ErrNotFound", err)
	}
	if _, err := s.put(t.Context(), stored); !errors.Is(err, pairing.ErrConflict) {
		t.Errorf("replace what was deleted: %v, want ErrConflict", err)
	}
}

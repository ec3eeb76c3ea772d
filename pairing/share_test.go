package pairing_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
)

// third is another target, of the same source.
func third(t *testing.T, c *clusters) *clusters {
	t.Helper()
	authority, err := pairing.NewAuthority("third-id", c.now)
	if err != nil {
		t.Fatal(err)
	}
	other := &clusters{now: c.now}
	other.issuer = &pairing.Issuer{
		Grants: &other.grants, Peers: &other.peers, Ring: pairing.NewRing(authority), ClusterName: "third",
		Now: c.issuer.Now, Random: rand.Reader,
	}
	other.joiner = &pairing.Joiner{
		Peers: c.joiner.Peers, Exchange: other, ClusterID: c.joiner.ClusterID, ClusterName: "source", Now: c.joiner.Now, Random: rand.Reader,
	}
	return other
}

func (c *clusters) mintThird(t *testing.T, scope pairing.Scope) pairing.Token {
	t.Helper()
	token, err := pairing.Mint(t.Context(), &c.grants, pairing.MintRequest{
		Scope: scope, Endpoint: "10.0.0.3:9020", ClusterID: "third-id", ClusterName: "third", CAFingerprint: c.issuer.Ring.Current().Fingerprint(),
	}, c.now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestSharedRepository pairs with a second target that uses the first one's repository:
// both open it, trust what the source seals, and sign epochs that the other reads.
func TestSharedRepository(t *testing.T) {
	c := newClusters(t)
	first, _ := joined(t, c)
	other := third(t, c)
	token := other.mintThird(t, cms())
	second, err := other.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms", Name: "south", SharesWith: first.PairID})
	if err != nil {
		t.Fatal(err)
	}
	there := other.incoming(t, token.ID)
	for side, p := range map[string]pairing.Peer{"source": second, "target": there} {
		if p.RepositoryPrefix != first.RepositoryPrefix || p.RepositoryPassword != first.RepositoryPassword || p.RepositoryID() != first.PairID || p.MakesRepository() {
			t.Errorf("the %s has another repository: %s", side, p.RepositoryPrefix)
		}
		if !p.Verify([]byte("round"), signed(t, first, "round")) {
			t.Errorf("the %s does not know the source's seal", side)
		}
		mine, err := first.EpochPublicKey()
		if err != nil {
			t.Fatal(err)
		}
		if its, err := p.EpochPublicKey(); err != nil || !its.Equal(mine) {
			t.Errorf("the %s signs epochs by a key of its own: %v", side, err)
		}
	}
	if others, err := pairing.Sharers(t.Context(), c.joiner.Peers, first); err != nil || len(others) != 1 || others[0].PairID != second.PairID {
		t.Errorf("the first pair shares with %v: %v", others, err)
	}
	for name, p := range map[string]pairing.Peer{"owner": first, "sharer": second} {
		_, password := pairing.NextPassword(t.Context(), c.joiner.Peers, p, rand.Reader)
		_, key := pairing.NextSealingKey(t.Context(), c.joiner.Peers, p, rand.Reader)
		for _, err := range []error{password, key} {
			if !errors.Is(err, pairing.ErrRequest) || !strings.Contains(err.Error(), "delete those") {
				t.Errorf("%s: what both targets hold was replaced for one of them: %v", name, err)
			}
		}
	}
}

// TestSharedRepositoryRefused asks for what must not be shared: nothing stays behind.
func TestSharedRepositoryRefused(t *testing.T) {
	c := newClusters(t)
	first, _ := joined(t, c)
	other := third(t, c)
	replacing := first
	replacing.PairID, replacing.RepositoryPrefix, replacing.Version, replacing.NextSealingKey = "aa00", "godwit/aa00/", "", "next"
	elsewhere := first
	elsewhere.PairID, elsewhere.RepositoryPrefix, elsewhere.Version, elsewhere.Namespace = "bb00", "godwit/bb00/", "", "shop"
	shares := first
	shares.PairID, shares.Version = "cc00", ""
	for _, p := range []pairing.Peer{replacing, elsewhere, shares} {
		if _, err := c.joiner.Peers.Put(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	for with, words := range map[string]string{
		"none": "no such pair", "aa00": "just being replaced", "bb00": "belongs to namespace shop", "cc00": "name that one",
	} {
		token := other.mintThird(t, cms())
		_, err := other.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms", Name: "south", SharesWith: with})
		if !errors.Is(err, pairing.ErrRequest) || !strings.Contains(err.Error(), words) {
			t.Errorf("with %s: %v", with, err)
		}
		if _, err := c.joiner.Peers.Get(t.Context(), pairing.Outgoing, token.ID); !errors.Is(err, pairing.ErrNotFound) {
			t.Errorf("with %s: keys are left: %v", with, err)
		}
	}
	_, err := c.joiner.Join(t.Context(), c.mint(t, cms()), pairing.ClusterPair{Namespace: "cms", Name: "again", SharesWith: first.PairID})
	if !errors.Is(err, pairing.ErrRequest) || !strings.Contains(err.Error(), "same cluster") {
		t.Errorf("a second pair to the same cluster: %v", err)
	}
}

// oldTarget knows of no shared repositories.
type oldTarget struct{ *clusters }

func (o oldTarget) Redeem(ctx context.Context, t pairing.Token, r pairing.RedeemRequest) (pairing.Redeemed, error) {
	r.Shared = nil
	return o.clusters.Redeem(ctx, t, r)
}

// TestSharedRepositoryNeedsBoth sees that a target which makes a repository of its own
// instead is not taken for one that shares.
func TestSharedRepositoryNeedsBoth(t *testing.T) {
	c := newClusters(t)
	first, _ := joined(t, c)
	other := third(t, c)
	other.joiner.Exchange = oldTarget{other}
	_, err := other.joiner.Join(t.Context(), other.mintThird(t, cms()), pairing.ClusterPair{Namespace: "cms", Name: "south", SharesWith: first.PairID})
	if !errors.Is(err, pairing.ErrAnswer) || !strings.Contains(err.Error(), "update Godwit on the target") {
		t.Errorf("%v", err)
	}
}

// TestSharedRepositoryMalformed sends a target what no source of ours sends.
func TestSharedRepositoryMalformed(t *testing.T) {
	c := newClusters(t)
	first, _ := joined(t, c)
	seed := pairing.Secret(strings.Repeat("s", 32))
	for name, s := range map[string]pairing.SharedRepository{
		"another folder":  {Prefix: "godwit/../others/", Password: first.RepositoryPassword, EpochSeed: seed},
		"the root":        {Prefix: "godwit//", Password: first.RepositoryPassword, EpochSeed: seed},
		"no prefix":       {Password: first.RepositoryPassword, EpochSeed: seed},
		"a weak password": {Prefix: first.RepositoryPrefix, Password: "hunter2", EpochSeed: seed},
		"no epochs":       {Prefix: first.RepositoryPrefix, Password: first.RepositoryPassword},
	} {
		other := third(t, c)
		other.joiner.Peers = &pairingtest.Peers{}
		other.joiner.Exchange = sharing{other, s}
		_, err := other.joiner.Join(t.Context(), other.mintThird(t, cms()), pairing.ClusterPair{Namespace: "cms", Name: "south"})
		if !errors.Is(err, pairing.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sharing sends a repository along that the source does not mean.
type sharing struct {
	*clusters
	repository pairing.SharedRepository
}

func (s sharing) Redeem(ctx context.Context, t pairing.Token, r pairing.RedeemRequest) (pairing.Redeemed, error) {
	r.Shared = &s.repository
	return s.clusters.Redeem(ctx, t, r)
}

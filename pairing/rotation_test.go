package pairing_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
)

// joined gives both sides of a pair that stands.
func joined(t *testing.T, c *clusters) (source, target pairing.Peer) {
	t.Helper()
	source, err := c.joiner.Join(t.Context(), c.mint(t, cms()), pairing.ClusterPair{Namespace: "cms", Name: "west"})
	if err != nil {
		t.Fatal(err)
	}
	return source, c.incoming(t, source.PairID)
}

func (c *clusters) incoming(t *testing.T, pairID string) pairing.Peer {
	t.Helper()
	p, err := c.peers.Get(t.Context(), pairing.Incoming, pairID)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func signed(t *testing.T, p pairing.Peer, statement string) []byte {
	t.Helper()
	key, err := p.SealingPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return ed25519.Sign(key, []byte(statement))
}

// changeKey takes the source's steps and returns the peer of before and after.
func changeKey(t *testing.T, c *clusters, p pairing.Peer, before ...string) (old, now pairing.Peer) {
	t.Helper()
	p, err := pairing.NextSealingKey(t.Context(), c.joiner.Peers, p, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var digests []pairing.StatementDigest
	for _, s := range before {
		digests = append(digests, pairing.DigestOf([]byte(s)))
	}
	change, err := p.ChangeSealingKey(digests)
	if err != nil {
		t.Fatal(err)
	}
	// The answer is lost, and it is asked for once more.
	for range 2 {
		if err := c.issuer.ReplaceSealingKey(t.Context(), c.incoming(t, p.PairID), change); err != nil {
			t.Fatal(err)
		}
	}
	now, err = pairing.TurnToNextSealingKey(t.Context(), c.joiner.Peers, p, change)
	if err != nil {
		t.Fatal(err)
	}
	return p, now
}

func TestSealingKeyReplaced(t *testing.T) {
	c := newClusters(t)
	first, _ := joined(t, c)
	one, two := signed(t, first, "round one"), signed(t, first, "round two")
	old, second := changeKey(t, c, first, "round two", "round one")
	three := signed(t, second, "round three")
	forged := signed(t, old, "round four, by a thief of the first key")
	_, third := changeKey(t, c, second, "round one", "round three")
	for side, p := range map[string]pairing.Peer{"source": third, "target": c.incoming(t, first.PairID)} {
		for statement, c := range map[string]struct {
			signature []byte
			counts    bool
		}{
			"round one":   {one, true},
			"round two":   {two, false}, // It was removed before the second replacement.
			"round three": {three, true},
			"round five":  {signed(t, third, "round five"), true},
			"round four, by a thief of the first key": {forged, false},
			"round six, by a thief of the second key": {signed(t, second, "round six, by a thief of the second key"), false},
		} {
			if got := p.Verify([]byte(statement), c.signature); got != c.counts {
				t.Errorf("%s: %s counts: %v, want %v", side, statement, got, c.counts)
			}
		}
		if p.Verify([]byte("round one"), three) {
			t.Errorf("%s: a signature over another statement counts", side)
		}
	}
	if !third.SameSealingKey(third) || third.SameSealingKey(second) || third.SameSealingKey(old) {
		t.Error("it does not tell which key seals")
	}
}

func TestSealingKeyRefused(t *testing.T) {
	c := newClusters(t)
	source, target := joined(t, c)
	p, err := pairing.NextSealingKey(t.Context(), c.joiner.Peers, source, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	again, err := pairing.NextSealingKey(t.Context(), c.joiner.Peers, p, rand.Reader)
	if err != nil || again.NextSealingKey != p.NextSealingKey {
		t.Errorf("a replacement that had begun began again: %v", err)
	}
	honest, err := p.ChangeSealingKey([]pairing.StatementDigest{{1}, {2}})
	if err != nil {
		t.Fatal(err)
	}
	_, thief, _ := ed25519.GenerateKey(nil)
	stranger := p
	stranger.SealingKey = pairing.Secret(thief.Seed())
	byStranger, err := stranger.ChangeSealingKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other := p
	other.PairID = "another"
	ofAnother, err := other.ChangeSealingKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*pairing.SealingChange){
		"by who has the certificate and not the key": func(c *pairing.SealingChange) { *c = byStranger },
		"of another pair":                    func(c *pairing.SealingChange) { *c = ofAnother },
		"a key of somebody else":             func(c *pairing.SealingChange) { c.Key, _, _ = ed25519.GenerateKey(nil) },
		"no key":                             func(c *pairing.SealingChange) { c.Key = nil },
		"a recovery point more":              func(c *pairing.SealingChange) { c.Before = append(c.Before, pairing.StatementDigest{3}) },
		"a recovery point less":              func(c *pairing.SealingChange) { c.Before = c.Before[:1] },
		"in no order":                        func(c *pairing.SealingChange) { c.Before = []pairing.StatementDigest{{2}, {1}} },
		"too many":                           func(c *pairing.SealingChange) { c.Before = make([]pairing.StatementDigest, pairing.MostSealedBefore+1) },
		"without the new key's signature":    func(c *pairing.SealingChange) { c.ByTheNew = nil },
		"without the former key's signature": func(c *pairing.SealingChange) { c.ByFormer = nil },
	} {
		asked := honest
		change(&asked)
		if err := c.issuer.ReplaceSealingKey(t.Context(), target, asked); !errors.Is(err, pairing.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now := c.incoming(t, p.PairID); !now.SealingPublicKey.Equal(target.SealingPublicKey) || len(now.SealedBefore) > 0 {
		t.Error("what was refused changed something")
	}
	if _, err := p.ChangeSealingKey(make([]pairing.StatementDigest, pairing.MostSealedBefore+1)); err == nil {
		t.Error("more recovery points than are kept were taken")
	}
}

// TestReplayedRedemption cannot bring a replaced sealing key back.
func TestReplayedRedemption(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	var spent pairing.RedeemRequest
	exchange := recording{c, &spent}
	c.joiner.Exchange = exchange
	source, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms", Name: "west"})
	if err != nil {
		t.Fatal(err)
	}
	_, now := changeKey(t, c, source)
	c.now = c.now.Add(time.Minute)
	if _, err := c.issuer.Redeem(t.Context(), spent); err != nil {
		t.Fatal(err)
	}
	if !c.incoming(t, source.PairID).SealingPublicKey.Equal(now.SealingPublicKey) {
		t.Error("the replaced key is back")
	}
}

type recording struct {
	*clusters
	spent *pairing.RedeemRequest
}

func (r recording) Redeem(ctx context.Context, t pairing.Token, request pairing.RedeemRequest) (pairing.Redeemed, error) {
	*r.spent = request
	return r.clusters.Redeem(ctx, t, request)
}

func opensAll(context.Context, pairing.Peer) error { return nil }

func TestPasswordReplaced(t *testing.T) {
	c := newClusters(t)
	ctx := t.Context()
	source, target := joined(t, c)
	epochs, err := target.EpochPublicKey()
	if err != nil {
		t.Fatal(err)
	}
	// The way back: incoming at the source, outgoing at the target, of one repository.
	shares := func(store pairing.PeerStore, d pairing.Direction, of pairing.Peer) {
		t.Helper()
		back := pairing.Peer{
			PairID: "back", Direction: d, ClusterID: of.ClusterID, Twin: of.PairID,
			RepositoryPassword: of.RepositoryPassword, RepositoryPrefix: of.RepositoryPrefix,
		}
		if _, err := store.Put(ctx, back); err != nil {
			t.Fatal(err)
		}
	}
	shares(c.joiner.Peers, pairing.Incoming, source)
	shares(&c.peers, pairing.Outgoing, target)
	for n := range 2 {
		if source, err = pairing.NextPassword(ctx, c.joiner.Peers, source, rand.Reader); err != nil {
			t.Fatal(err)
		}
		next := source.NextRepositoryPassword
		if again, err := pairing.NextPassword(ctx, c.joiner.Peers, source, rand.Reader); err != nil || again.NextRepositoryPassword != next {
			t.Fatalf("a replacement that had begun began again: %v", err)
		}
		for range 2 {
			if err := c.issuer.ReplacePassword(ctx, c.incoming(t, source.PairID), next, opensAll); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if source, err = pairing.TurnToNextPassword(ctx, c.joiner.Peers, source); err != nil {
				t.Fatal(err)
			}
		}
		if source, err = pairing.PasswordReplaced(ctx, c.joiner.Peers, source); err != nil {
			t.Fatal(err)
		}
		if source.NextRepositoryPassword != "" {
			t.Error("the replacement has no end")
		}
		for _, at := range []struct {
			name  string
			store pairing.PeerStore
			d     pairing.Direction
			id    string
		}{
			{"source", c.joiner.Peers, pairing.Outgoing, source.PairID}, {"source, way back", c.joiner.Peers, pairing.Incoming, "back"},
			{"target", &c.peers, pairing.Incoming, source.PairID}, {"target, way back", &c.peers, pairing.Outgoing, "back"},
		} {
			p, err := at.store.Get(ctx, at.d, at.id)
			if err != nil {
				t.Fatal(err)
			}
			if p.RepositoryPassword != next {
				t.Errorf("turn %d: %s has another password", n, at.name)
			}
			if key, err := p.EpochPublicKey(); err != nil || !key.Equal(epochs) {
				t.Errorf("turn %d: %s checks epochs by another key: %v", n, at.name, err)
			}
		}
	}
}

func TestPasswordRefused(t *testing.T) {
	c := newClusters(t)
	source, target := joined(t, c)
	good := pairing.Secret(base64.RawURLEncoding.EncodeToString(make([]byte, 32)))
	closed := errors.New("it does not open")
	back := target
	back.RepositoryPrefix = "godwit/another/"
	for name, try := range map[string]func() error{
		"by the other direction": func() error { return c.issuer.ReplacePassword(t.Context(), back, good, opensAll) },
		"a short one":            func() error { return c.issuer.ReplacePassword(t.Context(), target, "short", opensAll) },
		"none":                   func() error { return c.issuer.ReplacePassword(t.Context(), target, "", opensAll) },
		"one that does not open it": func() error {
			return c.issuer.ReplacePassword(t.Context(), target, good, func(_ context.Context, p pairing.Peer) error {
				if p.RepositoryPassword != good {
					t.Error("another password was tried")
				}
				return closed
			})
		},
		"asked for at the other direction": func() error {
			back := source
			back.RepositoryPrefix = "godwit/another/"
			_, err := pairing.NextPassword(t.Context(), &pairingtest.Peers{}, back, rand.Reader)
			return err
		},
	} {
		if err := try(); !errors.Is(err, pairing.ErrRequest) && !errors.Is(err, closed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c.incoming(t, source.PairID).RepositoryPassword != target.RepositoryPassword {
		t.Error("what was refused changed something")
	}
}

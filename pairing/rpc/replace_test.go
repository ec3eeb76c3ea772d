package rpc_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/pairing/rpc"
)

const byReplacing = "A thief of a pair's certificate that replaces its secrets"

func replacingAttempts() []attempt {
	steals := func(change func(*pairing.SealingChange)) func(*testing.T, *target) error {
		return func(t *testing.T, c *target) error {
			peer := c.join(t)
			// The certificate is stolen, and the sealing key is not.
			_, forged, err := ed25519.GenerateKey(nil)
			if err != nil {
				t.Fatal(err)
			}
			peer.SealingKey, peer.NextSealingKey = pairing.Secret(forged.Seed()), pairing.Secret(forged.Seed())
			asked, err := peer.ChangeSealingKey([]pairing.StatementDigest{{1}})
			if err != nil {
				t.Fatal(err)
			}
			change(&asked)
			return rpc.ReplaceSealingKey(t.Context(), rpc.Client{Now: time.Now}, peer, asked)
		}
	}
	return []attempt{
		{byReplacing, "the sealing key, without the one that it has", steals(func(*pairing.SealingChange) {}), "not signed by the key that is to be replaced", ""},
		{byReplacing, "the sealing key, by one that is none", steals(func(c *pairing.SealingChange) { c.Key = []byte("short") }), "no Ed25519 public key", ""},
		{byReplacing, "the sealing key, by somebody else's", steals(func(c *pairing.SealingChange) { c.ByTheNew = make([]byte, ed25519.SignatureSize) }), "not signed by the new key", ""},
		{byReplacing, "the password, by one that does not open the repository", func(t *testing.T, c *target) error {
			c.storage = errors.New("the password is wrong")
			peer, err := pairing.NextPassword(t.Context(), &pairingtest.Peers{}, unstored(c.join(t)), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return rpc.ReplacePassword(t.Context(), rpc.Client{Now: time.Now}, peer)
		}, "cannot open the repository by the new password", ""},
		{byReplacing, "the password, by a word", func(t *testing.T, c *target) error {
			peer := c.join(t)
			peer.NextRepositoryPassword = "password"
			return rpc.ReplacePassword(t.Context(), rpc.Client{Now: time.Now}, peer)
		}, "the new password is none", ""},
	}
}

func unstored(p pairing.Peer) pairing.Peer {
	p.Version = ""
	return p
}

// TestReplaced takes new secrets over the wire to the side that has to know them.
func TestReplaced(t *testing.T) {
	c := newTarget(t, "target-id")
	store := &pairingtest.Peers{}
	peer, err := store.Put(t.Context(), unstored(c.join(t)))
	if err != nil {
		t.Fatal(err)
	}
	if peer, err = pairing.NextPassword(t.Context(), store, peer, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if peer, err = pairing.NextSealingKey(t.Context(), store, peer, rand.Reader); err != nil {
		t.Fatal(err)
	}
	change, err := peer.ChangeSealingKey([]pairing.StatementDigest{{2}, {1}})
	if err != nil {
		t.Fatal(err)
	}
	client := rpc.Client{Now: time.Now}
	if err := errors.Join(rpc.ReplacePassword(t.Context(), client, peer), rpc.ReplaceSealingKey(t.Context(), client, peer, change)); err != nil {
		t.Fatal(err)
	}
	there, err := c.peers.Get(t.Context(), pairing.Incoming, peer.PairID)
	if err != nil {
		t.Fatal(err)
	}
	if there.RepositoryPassword != peer.NextRepositoryPassword || !there.SealingPublicKey.Equal(change.Key) || len(there.SealedBefore) != 2 {
		t.Errorf("the target has %+v", there)
	}
	c.log.await(t, "sealing key replaced")
	c.log.await(t, "repository password replaced")
	for what, secret := range map[string]pairing.Secret{"password": peer.NextRepositoryPassword, "sealing key": peer.NextSealingKey} {
		if strings.Contains(c.log.String(), secret.Reveal()) {
			t.Errorf("the log has the %s", what)
		}
	}
}

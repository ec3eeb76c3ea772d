package pairing

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
)

const (
	// MostSealedBefore bounds what a pair remembers of what former keys signed.
	MostSealedBefore = 20000
	// mostFormerKeys bounds those keys; what the oldest signed counts no more.
	mostFormerKeys = 32
)

// StatementDigest tells a signed statement from all others.
type StatementDigest [sha256.Size]byte

// DigestOf is the digest of a statement.
func DigestOf(statement []byte) StatementDigest { return sha256.Sum256(statement) }

// Verify reports whether the pair's source signed the statement: by its sealing key,
// or by a former one before that was replaced. A signature cannot say when it was
// made, so what the former keys signed is known one by one: whoever has a former key
// signs nothing more by it.
func (p Peer) Verify(statement, signature []byte) bool {
	if verify(p.sealingPublic(), statement, signature) {
		return true
	}
	if _, known := slices.BinarySearchFunc(p.SealedBefore, DigestOf(statement), compareDigests); !known {
		return false
	}
	return slices.ContainsFunc(p.FormerSealingKeys, func(k ed25519.PublicKey) bool { return verify(k, statement, signature) })
}

func verify(key ed25519.PublicKey, statement, signature []byte) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, statement, signature)
}

func compareDigests(a, b StatementDigest) int { return bytes.Compare(a[:], b[:]) }

// sealingPublic is that of the key that this side holds, if it does.
func (p Peer) sealingPublic() ed25519.PublicKey {
	key, err := p.SealingPrivateKey()
	if err != nil {
		return p.SealingPublicKey
	}
	public, _ := key.Public().(ed25519.PublicKey)
	return public
}

// SameSealingKey is true where p and q seal by the same key, and no other is about
// to take its place.
func (p Peer) SameSealingKey(q Peer) bool {
	return p.NextSealingKey == "" && q.NextSealingKey == "" && p.sealingPublic().Equal(q.sealingPublic())
}

// SealingChange is how a source asks for another sealing key: signed by the old key
// and by the new one, so that neither a stolen certificate nor a key of somebody
// else's is enough.
type SealingChange struct {
	Key ed25519.PublicKey
	// Before are the digests of all that counts of what was signed until now.
	Before             []StatementDigest
	ByFormer, ByTheNew []byte
}

// statement is what both keys sign.
func (c SealingChange) statement(pairID string) []byte {
	text := append([]byte("godwit: the sealing key of pair "+pairID+" is replaced by "), c.Key...)
	for _, digest := range c.Before {
		text = append(text, digest[:]...)
	}
	return text
}

// NextSealingKey stores the key that is to take the place of the present one, and
// gives the one of a replacement that has begun. Nothing is sealed from then on until
// it is over.
func NextSealingKey(ctx context.Context, peers PeerStore, p Peer, random io.Reader) (Peer, error) {
	if p.NextSealingKey != "" {
		return p, nil
	}
	if err := replaceable(ctx, peers, p, "sealing key"); err != nil {
		return Peer{}, err
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return Peer{}, fmt.Errorf("make sealing key: %w", err)
	}
	p.NextSealingKey = Secret(seed)
	p, err := peers.Put(ctx, p)
	if err != nil {
		return Peer{}, fmt.Errorf("store the next sealing key of pair %s: %w", p.PairID, err)
	}
	return p, nil
}

// ChangeSealingKey makes the request for the next key.
func (p Peer) ChangeSealingKey(before []StatementDigest) (SealingChange, error) {
	if len(before) > MostSealedBefore {
		return SealingChange{}, fmt.Errorf("pair %s: its repository has %d recovery points, and the sealing key is replaced with %d at most: have its schedules keep fewer, then try again",
			p.PairID, len(before), MostSealedBefore)
	}
	former, err := p.SealingPrivateKey()
	if err != nil {
		return SealingChange{}, err
	}
	if len(p.NextSealingKey) != ed25519.SeedSize {
		return SealingChange{}, fmt.Errorf("pair %s: there is no next sealing key", p.PairID)
	}
	next := ed25519.NewKeyFromSeed([]byte(p.NextSealingKey.Reveal()))
	public, _ := next.Public().(ed25519.PublicKey)
	c := SealingChange{Key: public, Before: slices.SortedFunc(slices.Values(before), compareDigests)}
	statement := c.statement(p.PairID)
	c.ByFormer, c.ByTheNew = ed25519.Sign(former, statement), ed25519.Sign(next, statement)
	return c, nil
}

// TurnToNextSealingKey has this side seal by the new key.
func TurnToNextSealingKey(ctx context.Context, peers PeerStore, p Peer, c SealingChange) (Peer, error) {
	p = p.sealedBy(c)
	p.SealingKey, p.NextSealingKey = p.NextSealingKey, ""
	p, err := peers.Put(ctx, p)
	if err != nil {
		return Peer{}, fmt.Errorf("store the new sealing key of pair %s: %w", p.PairID, err)
	}
	return p, nil
}

func (p Peer) sealedBy(c SealingChange) Peer {
	former := append(slices.Clone(p.FormerSealingKeys), p.sealingPublic())
	p.FormerSealingKeys = former[max(0, len(former)-mostFormerKeys):]
	p.SealingPublicKey, p.SealedBefore = c.Key, c.Before
	return p
}

// ReplaceSealingKey has the target trust another key from now on. The same again
// changes nothing.
func (i *Issuer) ReplaceSealingKey(ctx context.Context, p Peer, c SealingChange) error {
	refuse := func(why string) error {
		return fmt.Errorf("replace the sealing key of pair %s: %w: %s", p.PairID, ErrRequest, why)
	}
	switch {
	case len(c.Key) != ed25519.PublicKeySize:
		return refuse("the new one is no Ed25519 public key")
	case len(c.Before) > MostSealedBefore:
		return refuse("it lists too many recovery points")
	case !slices.IsSortedFunc(c.Before, compareDigests):
		return refuse("its recovery points are in no order")
	case !verify(c.Key, c.statement(p.PairID), c.ByTheNew):
		return refuse("it is not signed by the new key")
	case p.SealingPublicKey.Equal(c.Key):
		return nil
	case !verify(p.SealingPublicKey, c.statement(p.PairID), c.ByFormer):
		return refuse("it is not signed by the key that is to be replaced")
	}
	if _, err := i.Peers.Put(ctx, p.sealedBy(c)); err != nil {
		return fmt.Errorf("replace the sealing key of pair %s: store peer: %w", p.PairID, err)
	}
	return nil
}

// JoinDigests writes digests one after the other.
func JoinDigests(digests []StatementDigest) []byte {
	var out []byte
	for _, d := range digests {
		out = append(out, d[:]...)
	}
	return out
}

// SplitDigests reads what JoinDigests wrote.
func SplitDigests(raw []byte) ([]StatementDigest, error) {
	if len(raw)%sha256.Size != 0 {
		return nil, fmt.Errorf("%w: the list of recovery points is cut short", ErrRequest)
	}
	var out []StatementDigest
	for d := range slices.Chunk(raw, sha256.Size) {
		out = append(out, StatementDigest(d))
	}
	return out, nil
}

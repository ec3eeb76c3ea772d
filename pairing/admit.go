package pairing

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// DefaultGrace is how long after its end a certificate can still be renewed by
// whoever holds its key.
const DefaultGrace = 30 * 24 * time.Hour

const pairAgain = "pair again with a new token"

// Admit gives the peer whose verified client certificate leaf is. Whether the
// pair still stands is read anew at each call.
func (i *Issuer) Admit(ctx context.Context, leaf *x509.Certificate) (Peer, error) {
	// A connection may outlive the certificate that opened it.
	if i.Now().After(leaf.NotAfter) {
		return Peer{}, fmt.Errorf("%w: it expired at %s", ErrCertificate, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	peer, err := i.bearer(ctx, leaf)
	if err != nil {
		return Peer{}, err
	}
	return i.settleKey(ctx, peer, leaf)
}

// bearer finds the pair that a certificate names, and refuses one that is over.
func (i *Issuer) bearer(ctx context.Context, leaf *x509.Certificate) (Peer, error) {
	id, err := IdentityOf(leaf)
	if err != nil {
		return Peer{}, err
	}
	peer, err := i.Peers.Get(ctx, Incoming, id.PairID)
	if errors.Is(err, ErrNotFound) || (err == nil && peer.ClusterID != id.ClusterID) {
		return Peer{}, fmt.Errorf("pair %s of cluster %s: %w: delete this ClusterPair, or make a new token on the target", id.PairID, id.ClusterID, ErrRevoked)
	}
	if err != nil {
		return Peer{}, fmt.Errorf("read pair %s: %w", id.PairID, err)
	}
	if !peer.Left.IsZero() {
		return Peer{}, fmt.Errorf("pair %s of cluster %s: %w: the source itself removed it at %s: %s",
			id.PairID, id.ClusterID, ErrRevoked, peer.Left.UTC().Format(time.RFC3339), pairAgain)
	}
	key := KeyHash(sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
	if peer.KeyHash != (KeyHash{}) && key != peer.KeyHash && key != peer.FormerKeyHash {
		return Peer{}, fmt.Errorf("pair %s of cluster %s: %w: its key was replaced: if the source still uses this one, somebody else has its keys: revoke the pair, and %s",
			id.PairID, id.ClusterID, ErrCertificate, pairAgain)
	}
	return peer, nil
}

// settleKey ends the former key once the new one is in use.
func (i *Issuer) settleKey(ctx context.Context, peer Peer, leaf *x509.Certificate) (Peer, error) {
	key := KeyHash(sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
	if peer.FormerKeyHash == (KeyHash{}) || key != peer.KeyHash {
		return peer, nil
	}
	settled := peer
	settled.FormerKeyHash = KeyHash{}
	settled, err := i.Peers.Put(ctx, settled)
	if errors.Is(err, ErrConflict) {
		// Another call of the same pair was faster.
		return i.bearer(ctx, leaf)
	}
	if err != nil {
		return Peer{}, fmt.Errorf("end the former key of pair %s: %w", peer.PairID, err)
	}
	return settled, nil
}

// Recover signs a new certificate for a peer whose last one expired within the
// grace. The request must be made with the key of the old certificate: who does
// not hold that key can do nothing with the new one.
func (i *Issuer) Recover(ctx context.Context, expired, certificateRequest []byte) (*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(expired)
	if err != nil {
		return nil, fmt.Errorf("recover: %w: %w", ErrRequest, err)
	}
	now := i.Now()
	if now.Sub(leaf.NotAfter) > i.grace() {
		return nil, fmt.Errorf("recover: %w: it expired at %s, and is past renewal: %s", ErrCertificate, leaf.NotAfter.UTC().Format(time.RFC3339), pairAgain)
	}
	// It is checked as of its last moment; its end is looked at above.
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: i.Ring.Pool(now), Intermediates: x509.NewCertPool(), CurrentTime: leaf.NotAfter,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil, fmt.Errorf("recover: %w: %w", ErrCertificate, err)
	}
	csr, err := parseRequest(certificateRequest)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	if keyHash(csr) != sha256.Sum256(leaf.RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("recover: %w: the request is not made with the certificate's key", ErrCertificate)
	}
	peer, err := i.bearer(ctx, leaf)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	return i.Renew(ctx, peer, certificateRequest)
}

func (i *Issuer) grace() time.Duration {
	if i.Grace == 0 {
		return DefaultGrace
	}
	return i.Grace
}

// Leave notes that the source removed the pair. Its calls are refused from then
// on; what the target keeps of the pair goes when its owner removes it there.
func (i *Issuer) Leave(ctx context.Context, peer Peer) error {
	peer.Left = i.Now()
	if _, err := i.Peers.Put(ctx, peer); err != nil {
		return fmt.Errorf("end pair %s: %w", peer.PairID, err)
	}
	return nil
}

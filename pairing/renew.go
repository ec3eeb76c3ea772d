package pairing

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"
)

// RenewalDue reports whether two thirds of the certificate's life are over, so
// that a third is left to try again in.
func (p Peer) RenewalDue(now time.Time) bool {
	leaf, err := x509.ParseCertificate(p.Certificate)
	if err != nil {
		return false
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return now.After(leaf.NotAfter.Add(-life / 3))
}

// Renew signs a new certificate for a peer that showed a valid one, which may be
// for another key than that one was.
func (i *Issuer) Renew(ctx context.Context, peer Peer, certificateRequest []byte) (*x509.Certificate, error) {
	id := Identity{PairID: peer.PairID, ClusterID: peer.ClusterID}
	leaf, err := i.Ring.Current().Issue(certificateRequest, id, i.ttl(), i.Now())
	if err != nil {
		return nil, fmt.Errorf("renew certificate of pair %s: %w", peer.PairID, err)
	}
	peer.CertificateExpires = leaf.NotAfter
	// The key that asks stays good until the new one is used, should the answer
	// be lost; the one before it is over.
	if key := KeyHash(sha256.Sum256(leaf.RawSubjectPublicKeyInfo)); key != peer.KeyHash {
		peer.KeyHash, peer.FormerKeyHash = key, peer.asking()
	}
	if _, err := i.Peers.Put(ctx, peer); err != nil {
		return nil, fmt.Errorf("renew certificate of pair %s: store peer: %w", peer.PairID, err)
	}
	return leaf, nil
}

// asking is the key that an admitted caller holds: using the newer one ends the
// former, so that while there is a former it is the one in use.
func (p Peer) asking() KeyHash {
	if p.FormerKeyHash != (KeyHash{}) {
		return p.FormerKeyHash
	}
	return p.KeyHash
}

// Renewed is the target's answer to a request for another certificate.
type Renewed struct {
	// Certificate and Authority are DER; Authority is the one that signed.
	Certificate []byte
	Authority   []byte
}

// Renew replaces the certificate of an Outgoing peer once it is due, and
// otherwise returns the peer as it is. One that expired while this cluster was
// away is recovered by its key.
func (j *Joiner) Renew(ctx context.Context, peer Peer) (Peer, error) {
	if !peer.RenewalDue(j.Now()) {
		return peer, nil
	}
	ask := j.Exchange.Renew
	if j.Now().After(peer.CertificateExpires) {
		ask = j.Exchange.Recover
	}
	return j.replace(ctx, peer, peer.ClientKey, ask)
}

// Rotate replaces key and certificate of an Outgoing peer. The old key is over
// as soon as the new one is used.
func (j *Joiner) Rotate(ctx context.Context, peer Peer) (Peer, error) {
	// A certificate that has expired proves nothing, and cannot vouch for another key.
	peer, err := j.Renew(ctx, peer)
	if err != nil {
		return Peer{}, err
	}
	key, err := newKey()
	if err != nil {
		return Peer{}, fmt.Errorf("rotate the key of pair %s: %w", peer.PairID, err)
	}
	return j.replace(ctx, peer, key, j.Exchange.Renew)
}

func (j *Joiner) replace(ctx context.Context, peer Peer, key Secret, ask func(context.Context, Peer, []byte) (Renewed, error)) (Peer, error) {
	request, err := newRequest(key)
	if err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: %w", peer.PairID, err)
	}
	answer, err := ask(ctx, peer, request)
	if err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: %w", peer.PairID, err)
	}
	// The answer came from the paired cluster itself, which may have replaced
	// its authority since.
	authority := peer.Authority
	if len(answer.Authority) > 0 {
		authority = answer.Authority
	}
	ca, err := checkAuthority(authority, peer.ClusterID)
	if err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: %w: %w", peer.PairID, ErrAnswer, err)
	}
	want := Identity{PairID: peer.PairID, ClusterID: j.ClusterID}
	leaf, err := checkClientCertificate(answer.Certificate, ca, key, want, j.Now())
	if err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: %w: %w", peer.PairID, ErrAnswer, err)
	}
	peer.ClientKey, peer.Authority = key, ca.Raw
	peer.Certificate, peer.CertificateExpires = leaf.Raw, leaf.NotAfter
	if peer, err = j.Peers.Put(ctx, peer); err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: store: %w", peer.PairID, err)
	}
	return peer, nil
}

func checkAuthority(der []byte, clusterID string) (*x509.Certificate, error) {
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	if !ca.IsCA || ca.Subject.SerialNumber != clusterID {
		return nil, fmt.Errorf("%w: its authority is not cluster %s's", ErrCertificate, clusterID)
	}
	return ca, nil
}

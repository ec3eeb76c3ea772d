package pairing

import (
	"context"
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

// Renew signs a new certificate for a peer that showed a valid one.
func (i *Issuer) Renew(ctx context.Context, peer Peer, certificateRequest []byte) (*x509.Certificate, error) {
	id := Identity{PairID: peer.PairID, ClusterID: peer.ClusterID}
	leaf, err := i.Authority.Issue(certificateRequest, id, i.ttl(), i.Now())
	if err != nil {
		return nil, fmt.Errorf("renew certificate of pair %s: %w", peer.PairID, err)
	}
	peer.CertificateExpires = leaf.NotAfter
	if _, err := i.Peers.Put(ctx, peer); err != nil {
		return nil, fmt.Errorf("renew certificate of pair %s: store peer: %w", peer.PairID, err)
	}
	return leaf, nil
}

// Renew replaces the certificate of an Outgoing peer once it is due, and
// otherwise returns the peer as it is.
func (j *Joiner) Renew(ctx context.Context, peer Peer) (Peer, error) {
	if !peer.RenewalDue(j.Now()) {
		return peer, nil
	}
	request, err := newRequest(peer.ClientKey)
	if err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: %w", peer.PairID, err)
	}
	der, err := j.Exchange.Renew(ctx, peer, request)
	if err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: %w", peer.PairID, err)
	}
	ca, err := x509.ParseCertificate(peer.Authority)
	if err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: read authority: %w", peer.PairID, err)
	}
	want := Identity{PairID: peer.PairID, ClusterID: j.ClusterID}
	leaf, err := checkClientCertificate(der, ca, peer.ClientKey, want, j.Now())
	if err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: %w: %w", peer.PairID, ErrAnswer, err)
	}
	peer.Certificate, peer.CertificateExpires = leaf.Raw, leaf.NotAfter
	if peer, err = j.Peers.Put(ctx, peer); err != nil {
		return Peer{}, fmt.Errorf("renew certificate of pair %s: store: %w", peer.PairID, err)
	}
	return peer, nil
}

package pairing

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"
)

// Exchange carries a redemption to the target that a token names.
type Exchange interface {
	// Redeem asks the target's Issuer. It pins the target by the token's
	// fingerprint and keeps the sentinel errors of this package.
	Redeem(ctx context.Context, t Token, r RedeemRequest) (Redeemed, error)
	// Renew asks the target of a pair that stands for a new certificate, DER.
	Renew(ctx context.Context, p Peer, certificateRequest []byte) ([]byte, error)
}

// Joiner is the source's side of the exchange.
type Joiner struct {
	Peers    PeerStore
	Exchange Exchange
	// ClusterID and ClusterName are this cluster's.
	ClusterID   string
	ClusterName string
	Now         func() time.Time
	Random      io.Reader
}

// Join redeems a token for the ClusterPair in namespace and returns the peer.
// It may be called as often as one likes: a pair that stands is returned as it
// is, at the token's endpoint.
//
// The keys are stored before the token is spent. Should this process die in
// between, the next call asks with the same keys and gets the same answer.
func (j *Joiner) Join(ctx context.Context, t Token, namespace string) (Peer, error) {
	if err := errors.Join(t.validate(), checkNamespace(namespace)); err != nil {
		return Peer{}, fmt.Errorf("join: %w", err)
	}
	if t.ClusterID == j.ClusterID {
		return Peer{}, fmt.Errorf("join by token %s: %w: redeem the token on the other cluster", t.ID, ErrSelf)
	}
	peer, err := j.prepare(ctx, t, namespace)
	if err != nil {
		return Peer{}, fmt.Errorf("join by token %s: %w", t.ID, err)
	}
	if peer.Joined() {
		return j.move(ctx, peer, t.Endpoint)
	}
	request, err := j.request(t, peer)
	if err != nil {
		return Peer{}, fmt.Errorf("join by token %s: %w", t.ID, err)
	}
	answer, err := j.Exchange.Redeem(ctx, t, request)
	if Refused(err) {
		// The keys are of no use any more; an answer that was only lost is not
		// a refusal and keeps them.
		err = errors.Join(err, j.Peers.Delete(ctx, Outgoing, peer.PairID))
	}
	if err != nil {
		// These words name the token or the endpoint already.
		return Peer{}, err
	}
	peer, err = j.accept(peer, t, answer)
	if err != nil {
		return Peer{}, fmt.Errorf("join by token %s: %w", t.ID, err)
	}
	if peer, err = j.Peers.Put(ctx, peer); err != nil {
		return Peer{}, fmt.Errorf("store pair %s: %w", peer.PairID, err)
	}
	return peer, nil
}

// prepare finds the stored peer of the token or stores a new one with keys only.
func (j *Joiner) prepare(ctx context.Context, t Token, namespace string) (Peer, error) {
	peer, err := j.Peers.Get(ctx, Outgoing, t.ID)
	if err == nil {
		if peer.Namespace != namespace {
			return Peer{}, fmt.Errorf("%w: %q: the pair belongs to the ClusterPair in namespace %q: make a token for each ClusterPair",
				ErrNamespace, namespace, peer.Namespace)
		}
		return peer, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return Peer{}, fmt.Errorf("read pair: %w", err)
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(j.Random, seed); err != nil {
		return Peer{}, fmt.Errorf("make sealing key: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return Peer{}, err
	}
	public, _ := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	peer, err = j.Peers.Put(ctx, Peer{
		PairID: t.ID, Direction: Outgoing, ClusterID: t.ClusterID, ClusterName: t.ClusterName,
		Endpoint: t.Endpoint, Namespace: namespace, ClientKey: key,
		SealingKey: Secret(seed), SealingPublicKey: public, Created: j.Now(),
	})
	if err != nil {
		return Peer{}, fmt.Errorf("store keys: %w", err)
	}
	return peer, nil
}

// move follows a target whose address changed.
func (j *Joiner) move(ctx context.Context, peer Peer, endpoint string) (Peer, error) {
	if peer.Endpoint == endpoint {
		return peer, nil
	}
	peer.Endpoint = endpoint
	peer, err := j.Peers.Put(ctx, peer)
	if err != nil {
		return Peer{}, fmt.Errorf("store new endpoint of pair %s: %w", peer.PairID, err)
	}
	return peer, nil
}

func (j *Joiner) request(t Token, peer Peer) (RedeemRequest, error) {
	csr, err := newRequest(peer.ClientKey)
	if err != nil {
		return RedeemRequest{}, err
	}
	return RedeemRequest{
		TokenID: t.ID, Secret: t.Secret, ClusterID: j.ClusterID, ClusterName: j.ClusterName,
		Namespace: peer.Namespace, CertificateRequest: csr, SealingPublicKey: peer.SealingPublicKey,
	}, nil
}

// accept checks the answer against the token and our keys before it is kept.
func (j *Joiner) accept(peer Peer, t Token, answer Redeemed) (Peer, error) {
	ca, err := x509.ParseCertificate(answer.Authority)
	if err != nil {
		return Peer{}, fmt.Errorf("%w: its authority: %w", ErrAnswer, err)
	}
	if FingerprintOf(ca) != t.CAFingerprint {
		return Peer{}, fmt.Errorf("%w: its authority is not the one that the token pins", ErrAnswer)
	}
	if answer.PairID != t.ID || answer.ClusterID != t.ClusterID {
		return Peer{}, fmt.Errorf("%w: pair %q of cluster %q", ErrAnswer, clip(answer.PairID), clip(answer.ClusterID))
	}
	if err := answer.Scope.validate(); err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if !answer.Scope.Admin && answer.Scope.Covers(peer.Namespace) != nil {
		return Peer{}, fmt.Errorf("%w: it covers %s, and not %s", ErrAnswer, answer.Scope, peer.Namespace)
	}
	if answer.RepositoryPassword == "" || answer.RepositoryPrefix == "" {
		return Peer{}, fmt.Errorf("%w: no repository", ErrAnswer)
	}
	want := Identity{PairID: t.ID, ClusterID: j.ClusterID}
	leaf, err := checkClientCertificate(answer.Certificate, ca, peer.ClientKey, want, j.Now())
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	peer.Certificate, peer.Authority, peer.CertificateExpires = leaf.Raw, ca.Raw, leaf.NotAfter
	peer.ClusterName, peer.Scope, peer.BackupLocation = answer.ClusterName, answer.Scope, answer.BackupLocation
	peer.RepositoryPassword, peer.RepositoryPrefix = answer.RepositoryPassword, answer.RepositoryPrefix
	peer.Endpoint = t.Endpoint
	return peer, nil
}

// checkClientCertificate says whether a certificate that we were given is ours
// and will be taken by the one who gave it.
func checkClientCertificate(der []byte, ca *x509.Certificate, key Secret, want Identity, now time.Time) (*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	signer, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	if !samePublicKey(signer.Public(), leaf.PublicKey) {
		return nil, fmt.Errorf("%w: it is not for our key", ErrCertificate)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	id, err := IdentityOf(leaf)
	if err != nil {
		return nil, err
	}
	if id != want {
		return nil, fmt.Errorf("%w: it names pair %s and cluster %s", ErrCertificate, id.PairID, id.ClusterID)
	}
	return leaf, nil
}

package pairing

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Exchange carries a redemption to the target that a token names.
type Exchange interface {
	// Redeem asks the target's Issuer. It pins the target by the token's
	// fingerprint and keeps the sentinel errors of this package.
	Redeem(ctx context.Context, t Token, r RedeemRequest) (Redeemed, error)
	// Renew asks the target of a pair that stands for a new certificate, by the
	// one that is still good; Recover by the key of one that has expired.
	Renew(ctx context.Context, p Peer, certificateRequest []byte) (Renewed, error)
	Recover(ctx context.Context, p Peer, certificateRequest []byte) (Renewed, error)
	// Leave tells the target that the pair was removed here.
	Leave(ctx context.Context, p Peer) error
}

// ClusterPair names the object of the source that a pair belongs to.
type ClusterPair struct {
	Namespace, Name string
	// Bidirectional asks for the other direction as well, by way of this side's
	// BackupLocation, namespace/name.
	Bidirectional  bool
	BackupLocation string
	// SharesWith is the id of another pair of the namespace, whose repository this one
	// is to use; empty for a repository of its own.
	SharesWith string
}

// Offer makes a token of this cluster by which the target may pair the other way.
type Offer func(ctx context.Context, p ClusterPair) (Token, error)

// Joiner is the source's side of the exchange.
type Joiner struct {
	Peers    PeerStore
	Exchange Exchange
	// ClusterID and ClusterName are this cluster's.
	ClusterID   string
	ClusterName string
	// Offer is nil where this cluster cannot be reached from others.
	Offer  Offer
	Now    func() time.Time
	Random io.Reader
}

// Join redeems a token for a ClusterPair and returns the peer.
// It may be called as often as one likes: a pair that stands is returned as it
// is, at the token's endpoint.
//
// The keys are stored before the token is spent. Should this process die in
// between, the next call asks with the same keys and gets the same answer.
func (j *Joiner) Join(ctx context.Context, t Token, p ClusterPair) (Peer, error) {
	if err := errors.Join(t.validate(), checkNamespace(p.Namespace), checkName(p.Name)); err != nil {
		return Peer{}, fmt.Errorf("join: %w", err)
	}
	if t.ClusterID == j.ClusterID {
		return Peer{}, fmt.Errorf("join by token %s: %w: redeem the token on the other cluster", t.ID, ErrSelf)
	}
	peer, err := j.prepare(ctx, t, p)
	if err != nil {
		return Peer{}, fmt.Errorf("join by token %s: %w", t.ID, err)
	}
	if peer.Joined() {
		return j.Move(ctx, peer, t.Endpoint)
	}
	request, err := j.request(t, peer)
	if err == nil && p.Bidirectional && j.Offer != nil {
		peer, request.Return, err = j.offer(ctx, peer, p)
	}
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
func (j *Joiner) prepare(ctx context.Context, t Token, p ClusterPair) (Peer, error) {
	peer, err := j.Peers.Get(ctx, Outgoing, t.ID)
	if err == nil {
		if peer.Namespace != p.Namespace || peer.Name != p.Name && peer.Name != "" {
			return Peer{}, fmt.Errorf("%w: %q: the pair belongs to ClusterPair %q in namespace %q: make a token for each ClusterPair",
				ErrNamespace, p.Namespace, peer.Name, peer.Namespace)
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
	peer = Peer{
		PairID: t.ID, Direction: Outgoing, ClusterID: t.ClusterID, ClusterName: t.ClusterName,
		Endpoint: t.Endpoint, Namespace: p.Namespace, Name: p.Name, ClientKey: key,
		SealingKey: Secret(seed), SealingPublicKey: public, Created: j.Now(),
	}
	if p.SharesWith != "" {
		if peer, err = j.share(ctx, peer, p.SharesWith); err != nil {
			return Peer{}, err
		}
	}
	if peer, err = j.Peers.Put(ctx, peer); err != nil {
		return Peer{}, fmt.Errorf("store keys: %w", err)
	}
	return peer, nil
}

// offer makes the token for the other direction. The one of an earlier try is
// void with it, since a pair has one twin.
func (j *Joiner) offer(ctx context.Context, peer Peer, p ClusterPair) (Peer, Secret, error) {
	token, err := j.Offer(ctx, p)
	if err != nil {
		return Peer{}, "", fmt.Errorf("make a token for the other direction: %w", err)
	}
	line, err := token.Encode()
	if err != nil {
		return Peer{}, "", err
	}
	peer.Twin = token.ID
	peer, err = j.Peers.Put(ctx, peer)
	return peer, Secret(line), err
}

// Superseded lists the Outgoing peers of a ClusterPair that belong to another
// token than the one it has now.
func Superseded(ctx context.Context, peers PeerStore, p ClusterPair, now string) ([]Peer, error) {
	all, err := peers.List(ctx, Outgoing)
	if err != nil {
		return nil, fmt.Errorf("list pairs: %w", err)
	}
	return slices.DeleteFunc(all, func(peer Peer) bool {
		return peer.PairID == now || peer.Namespace != p.Namespace || peer.Name != p.Name
	}), nil
}

// Follow keeps what an answer said of the target: where it answered, at which
// other addresses it can be reached, and by which authority it signs now. Where
// that is another, the certificate is replaced at once, and not only when due.
func (j *Joiner) Follow(ctx context.Context, peer Peer, endpoint string, addresses []string, signs Fingerprint) (Peer, error) {
	known, err := peer.AuthorityFingerprint()
	if err != nil {
		return Peer{}, err
	}
	if signs != (Fingerprint{}) && signs != known {
		if peer, err = j.replace(ctx, peer, peer.ClientKey, j.Exchange.Renew); err != nil {
			return Peer{}, err
		}
	}
	const most = 8
	var good []string
	for _, address := range addresses {
		if CheckEndpoint(address) == nil && len(good) < most {
			good = append(good, address)
		}
	}
	stored, err := j.Peers.Get(ctx, Outgoing, peer.PairID)
	if err != nil {
		return Peer{}, fmt.Errorf("read pair %s: %w", peer.PairID, err)
	}
	if stored.Endpoint == endpoint && slices.Equal(stored.Addresses, good) {
		return stored, nil
	}
	stored.Endpoint, stored.Addresses = endpoint, good
	if stored, err = j.Peers.Put(ctx, stored); err != nil {
		return Peer{}, fmt.Errorf("store the addresses of pair %s: %w", peer.PairID, err)
	}
	return stored, nil
}

// Move follows a target whose address changed. Who answers there still has to
// prove that it is the paired cluster.
func (j *Joiner) Move(ctx context.Context, peer Peer, endpoint string) (Peer, error) {
	if endpoint == "" || peer.Asked == endpoint {
		return peer, nil
	}
	peer.Endpoint, peer.Asked = endpoint, endpoint
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
		Namespace: peer.Namespace, Name: peer.Name, CertificateRequest: csr, SealingPublicKey: peer.SealingPublicKey,
		Shared: peer.shared(),
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
	if s := peer.shared(); s != nil && (s.Prefix != answer.RepositoryPrefix || s.Password != answer.RepositoryPassword) {
		return Peer{}, fmt.Errorf("%w: it has made a repository of its own, and was to share one: update Godwit on the target, then pair by a new token", ErrAnswer)
	}
	want := Identity{PairID: t.ID, ClusterID: j.ClusterID}
	leaf, err := checkClientCertificate(answer.Certificate, ca, peer.ClientKey, want, j.Now())
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	peer.Certificate, peer.Authority, peer.CertificateExpires = leaf.Raw, ca.Raw, leaf.NotAfter
	peer.ClusterName, peer.Scope, peer.BackupLocation = answer.ClusterName, answer.Scope, answer.BackupLocation
	peer.RepositoryPassword, peer.RepositoryPrefix = answer.RepositoryPassword, answer.RepositoryPrefix
	peer.Endpoint, peer.Asked = t.Endpoint, t.Endpoint
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

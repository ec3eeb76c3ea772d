package pairing

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"time"
)

// repeatWindow is how long the holder of the certificate's key gets the answer
// to a spent token again, should the first one not have reached its store.
const repeatWindow = 10 * time.Minute

// RedeemRequest is what the source sends to spend a token.
type RedeemRequest struct {
	TokenID string
	Secret  Secret
	// ClusterID and ClusterName are the source's.
	ClusterID   string
	ClusterName string
	// Namespace and Name are those of the source's ClusterPair.
	Namespace string
	Name      string
	// Return is a token of the source, as Token.Encode wrote it, by which the
	// target may pair the other way; empty where the pair is for one direction.
	Return Secret
	// CertificateRequest is PKCS#10 DER.
	CertificateRequest []byte
	SealingPublicKey   ed25519.PublicKey
	// Shared is a repository that the source has already; nil to make one for the pair.
	Shared *SharedRepository
}

// Redeemed is the target's answer.
type Redeemed struct {
	PairID string
	// Certificate and Authority are DER.
	Certificate []byte
	Authority   []byte
	// ClusterID and ClusterName are the target's.
	ClusterID          string
	ClusterName        string
	Scope              Scope
	RepositoryPassword Secret
	RepositoryPrefix   string
	BackupLocation     string
}

// Issuer is the target's side of the exchange.
type Issuer struct {
	Grants GrantStore
	Peers  PeerStore
	// Ring holds this cluster's authorities.
	Ring *Ring
	// ClusterName is this cluster's; its id is the authority's.
	ClusterName string
	// CertificateTTL is DefaultCertificateTTL when zero.
	CertificateTTL time.Duration
	// Grace is DefaultGrace when zero.
	Grace  time.Duration
	Now    func() time.Time
	Random io.Reader
}

// Redeem spends a token. The first to redeem it has it; the holder of the same
// key may ask again within minutes and is told the same, so that a source that
// died before it could store the answer loses nothing.
func (i *Issuer) Redeem(ctx context.Context, r RedeemRequest) (Redeemed, error) {
	use, err := i.check(r)
	if err != nil {
		return Redeemed{}, fmt.Errorf("redeem token: %w", err)
	}
	grant, err := i.grant(ctx, r)
	if err != nil {
		return Redeemed{}, fmt.Errorf("redeem token %s: %w", r.TokenID, err)
	}
	grant, err = i.spend(ctx, grant, use)
	if err != nil {
		return Redeemed{}, fmt.Errorf("redeem token %s: %w", r.TokenID, err)
	}
	// The certificate comes before the peer, so that a request that cannot be
	// signed leaves no pair behind.
	now := i.Now()
	leaf, err := i.Ring.Current().Issue(r.CertificateRequest, Identity{PairID: grant.ID, ClusterID: r.ClusterID}, i.ttl(), now)
	if err != nil {
		return Redeemed{}, fmt.Errorf("redeem token %s: %w", r.TokenID, err)
	}
	peer, err := i.peer(ctx, grant, r, leaf.NotAfter)
	if err != nil {
		return Redeemed{}, fmt.Errorf("redeem token %s: %w", r.TokenID, err)
	}
	return Redeemed{
		PairID: grant.ID, Certificate: leaf.Raw, Authority: i.Ring.Current().Certificate(),
		ClusterID: i.Ring.Current().ClusterID(), ClusterName: i.ClusterName, Scope: peer.Scope,
		RepositoryPassword: peer.RepositoryPassword, RepositoryPrefix: peer.RepositoryPrefix,
		BackupLocation: peer.BackupLocation,
	}, nil
}

// check refuses what is malformed before any store is asked.
func (i *Issuer) check(r RedeemRequest) (Use, error) {
	if err := errors.Join(
		checkID("token id", r.TokenID), checkID("cluster id", r.ClusterID),
		checkClusterName(r.ClusterName), checkNamespace(r.Namespace), checkName(r.Name), r.Shared.validate(r.TokenID),
	); err != nil {
		return Use{}, err
	}
	if len(r.SealingPublicKey) != ed25519.PublicKeySize {
		return Use{}, fmt.Errorf("%w: the sealing key is no Ed25519 public key", ErrRequest)
	}
	csr, err := parseRequest(r.CertificateRequest)
	if err != nil {
		return Use{}, err
	}
	return Use{
		PairID: r.TokenID, ClusterID: r.ClusterID, ClusterName: r.ClusterName,
		Namespace: r.Namespace, KeyHash: keyHash(csr),
	}, nil
}

// grant finds the token's grant. Who does not hold the secret learns nothing
// more than that.
func (i *Issuer) grant(ctx context.Context, r RedeemRequest) (Grant, error) {
	grant, err := i.Grants.Get(ctx, r.TokenID)
	if errors.Is(err, ErrNotFound) {
		return Grant{}, fmt.Errorf("%w: it was taken back, or made on another cluster: %s", ErrTokenUnknown, remedy)
	}
	if err != nil {
		return Grant{}, fmt.Errorf("read grant: %w", err)
	}
	if !grant.Matches([]byte(r.Secret.Reveal())) {
		return Grant{}, fmt.Errorf("%w: %s", ErrTokenSecret, remedy)
	}
	if r.ClusterID == i.Ring.Current().ClusterID() {
		return Grant{}, fmt.Errorf("%w: redeem the token on the other cluster", ErrSelf)
	}
	// An admin's ClusterPair may live in a namespace of its own.
	if grant.Scope.Admin {
		return grant, nil
	}
	if err := grant.Scope.Covers(r.Namespace); err != nil {
		return Grant{}, fmt.Errorf("the token is for another namespace: %w", err)
	}
	return grant, nil
}

const remedy = `make a new token with "godwitctl generate clusterpair" on the target`

// spend marks the grant as used. Of two that redeem at once the store lets one win.
func (i *Issuer) spend(ctx context.Context, grant Grant, use Use) (Grant, error) {
	use.Time = i.Now()
	if grant.Use != nil {
		return grant, i.repeat(*grant.Use, use)
	}
	if !use.Time.Before(grant.Expires) {
		return Grant{}, fmt.Errorf("%w at %s: %s", ErrTokenExpired, grant.Expires.UTC().Format(time.RFC3339), remedy)
	}
	grant.Use = &use
	stored, err := i.Grants.Put(ctx, grant)
	if errors.Is(err, ErrConflict) {
		return Grant{}, fmt.Errorf("%w, by another at the same moment: %s", ErrTokenUsed, remedy)
	}
	if err != nil {
		return Grant{}, fmt.Errorf("mark grant as used: %w", err)
	}
	return stored, nil
}

// repeat admits the same caller, as proved by its key, for a short while.
func (i *Issuer) repeat(first, again Use) error {
	same := first.KeyHash == again.KeyHash && first.ClusterID == again.ClusterID && first.Namespace == again.Namespace
	if same && again.Time.Sub(first.Time) < repeatWindow {
		return nil
	}
	return fmt.Errorf("%w at %s by cluster %s: %s",
		ErrTokenUsed, first.Time.UTC().Format(time.RFC3339), first.ClusterID, remedy)
}

// peer finds the peer of a spent grant or makes it.
func (i *Issuer) peer(ctx context.Context, grant Grant, r RedeemRequest, expires time.Time) (Peer, error) {
	peer, err := i.Peers.Get(ctx, Incoming, grant.ID)
	switch {
	case errors.Is(err, ErrNotFound) && grant.Use.Settled:
		return Peer{}, fmt.Errorf("%w: %s", ErrRevoked, remedy)
	case errors.Is(err, ErrNotFound):
		peer, err = i.newPeer(ctx, grant, r)
	}
	if err != nil {
		return Peer{}, fmt.Errorf("read peer: %w", err)
	}
	peer.CertificateExpires, peer.KeyHash, peer.FormerKeyHash = expires, grant.Use.KeyHash, KeyHash{}
	// A repeated request may bring another sealing key; the one that the source
	// asked with last is the one it holds, until it replaces it.
	if len(peer.FormerSealingKeys) == 0 {
		peer.SealingPublicKey = r.SealingPublicKey
	}
	if grant.Bidirectional && r.Return != "" {
		back, err := ParseToken(r.Return.Reveal())
		if err != nil || back.ClusterID != r.ClusterID {
			return Peer{}, fmt.Errorf("%w: the token for the other direction is not the source's", ErrRequest)
		}
		peer.Return, peer.Twin = r.Return, back.ID
	}
	if peer, err = i.Peers.Put(ctx, peer); err != nil {
		return Peer{}, fmt.Errorf("store peer: %w", err)
	}
	if grant.Use.Settled {
		return peer, nil
	}
	use := *grant.Use
	use.Settled = true
	grant.Use = &use
	if _, err := i.Grants.Put(ctx, grant); err != nil {
		return Peer{}, fmt.Errorf("settle grant: %w", err)
	}
	return peer, nil
}

// newPeer gives the pair a repository of its own, unless the source lets it share one;
// the one that serves the other direction of a pair shares that pair's, so that what
// goes back is a difference to what came.
func (i *Issuer) newPeer(ctx context.Context, grant Grant, r RedeemRequest) (Peer, error) {
	peer := Peer{
		PairID: grant.ID, Direction: Incoming, ClusterID: r.ClusterID, ClusterName: r.ClusterName,
		Scope: grant.Scope, Namespace: r.Namespace, Name: r.Name, BackupLocation: grant.BackupLocation,
		RepositoryPrefix: prefixOf(grant.ID),
		Created:          i.Now(),
	}
	twin, err := TwinOf(ctx, i.Peers, peer)
	switch {
	case err == nil && !twin.Joined():
		return Peer{}, fmt.Errorf("%w: the direction that this one goes back to has not been joined yet: ask again", ErrConflict)
	case err == nil && twin.ClusterID == r.ClusterID:
		peer.RepositoryPassword, peer.RepositoryPrefix, peer.EpochSeed = twin.RepositoryPassword, twin.RepositoryPrefix, twin.EpochSeed
		return peer, nil
	case err != nil && !errors.Is(err, ErrNotFound):
		return Peer{}, err
	case r.Shared != nil:
		peer.RepositoryPassword, peer.RepositoryPrefix, peer.EpochSeed = r.Shared.Password, r.Shared.Prefix, r.Shared.EpochSeed
		return peer, nil
	}
	if peer.RepositoryPassword, err = newPassword(i.Random); err != nil {
		return Peer{}, err
	}
	return peer, nil
}

func (i *Issuer) ttl() time.Duration {
	if i.CertificateTTL == 0 {
		return DefaultCertificateTTL
	}
	return i.CertificateTTL
}

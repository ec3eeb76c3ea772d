package pairing

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// DefaultTokenTTL is how long a token is good when nothing is said.
const DefaultTokenTTL = time.Hour

// Grant is what the target keeps of a token. The secret itself is not in it.
type Grant struct {
	ID string
	// SecretHash is the SHA-256 of the secret; 256 random bits need no slow hash.
	SecretHash [sha256.Size]byte
	Scope      Scope
	// BackupLocation is namespace/name of the target's BackupLocation, or empty.
	BackupLocation string
	// Bidirectional lets the source offer the other direction.
	Bidirectional    bool
	Created, Expires time.Time
	// Use is nil until the token is redeemed.
	Use *Use
	// Version is the store's; empty means that the grant is not stored yet.
	Version string
}

// Use says who redeemed a token.
type Use struct {
	PairID      string
	ClusterID   string
	ClusterName string
	// Namespace is where the redeeming cluster's ClusterPair lives.
	Namespace string
	// KeyHash is the SHA-256 of the public key that the certificate was made
	// for. Only the holder of that key can have the answer repeated.
	KeyHash KeyHash
	Time    time.Time
	// Settled is true once the peer is stored. From then on a missing peer
	// means that the pair was revoked, and not that storing it was cut short.
	Settled bool
}

// GrantStore keeps grants. Implementations pass pairingtest.GrantStore.
type GrantStore interface {
	// Get returns ErrNotFound where there is none.
	Get(ctx context.Context, id string) (Grant, error)
	List(ctx context.Context) ([]Grant, error)
	// Put creates a grant without Version, and otherwise replaces exactly that
	// Version; it returns ErrConflict where another was faster. What it returns
	// has the new Version.
	Put(ctx context.Context, g Grant) (Grant, error)
	// Delete is done where there is none.
	Delete(ctx context.Context, id string) error
}

// Matches compares a secret with the grant's, in constant time.
func (g Grant) Matches(secret []byte) bool {
	hash := sha256.Sum256(secret)
	return subtle.ConstantTimeCompare(hash[:], g.SecretHash[:]) == 1
}

// MintRequest says what a token is to be good for.
type MintRequest struct {
	Scope Scope
	// BackupLocation is namespace/name of this cluster's BackupLocation.
	BackupLocation string
	// Bidirectional lets the source offer the other direction.
	Bidirectional bool
	// TTL is DefaultTokenTTL when zero.
	TTL time.Duration
	// Endpoint is this cluster's host:port as the source sees it.
	Endpoint string
	// ClusterID, ClusterName and CAFingerprint are this cluster's.
	ClusterID     string
	ClusterName   string
	CAFingerprint Fingerprint
}

// Mint makes a token on the target, and stores the grant that it stands for.
func Mint(ctx context.Context, grants GrantStore, r MintRequest, now time.Time, random io.Reader) (Token, error) {
	ttl := r.TTL
	if ttl == 0 {
		ttl = DefaultTokenTTL
	}
	if ttl < 0 {
		return Token{}, fmt.Errorf("mint token: %w: a time to live of %s", ErrRequest, ttl)
	}
	if err := r.Scope.validate(); err != nil {
		return Token{}, fmt.Errorf("mint token: %w", err)
	}
	raw := make([]byte, pairIDSize+secretSize)
	if _, err := io.ReadFull(random, raw); err != nil {
		return Token{}, fmt.Errorf("mint token: read random bytes: %w", err)
	}
	token := Token{
		ID: hex.EncodeToString(raw[:pairIDSize]), Secret: Secret(raw[pairIDSize:]), Endpoint: r.Endpoint,
		ClusterID: r.ClusterID, ClusterName: r.ClusterName, CAFingerprint: r.CAFingerprint,
	}
	if err := token.validate(); err != nil {
		return Token{}, fmt.Errorf("mint token: %w", err)
	}
	_, err := grants.Put(ctx, Grant{
		ID: token.ID, SecretHash: sha256.Sum256(raw[pairIDSize:]), Scope: r.Scope,
		BackupLocation: r.BackupLocation, Bidirectional: r.Bidirectional, Created: now, Expires: now.Add(ttl),
	})
	if err != nil {
		return Token{}, fmt.Errorf("store grant %s: %w", token.ID, err)
	}
	return token, nil
}

// pairIDSize keeps a pair's id short enough for object names and metrics while
// two of them never meet.
const pairIDSize = 12

// VoidOpen takes back every token that is not used yet, and says how many.
func VoidOpen(ctx context.Context, grants GrantStore) (int, error) {
	all, err := grants.List(ctx)
	if err != nil {
		return 0, fmt.Errorf("list grants: %w", err)
	}
	voided := 0
	for _, g := range all {
		if g.Use != nil {
			continue
		}
		if err := grants.Delete(ctx, g.ID); err != nil {
			return voided, fmt.Errorf("void token %s: %w", g.ID, err)
		}
		voided++
	}
	return voided, nil
}

package pairing

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// Direction says which way a pair's data goes, seen from here.
type Direction string

const (
	// Outgoing is the source's side: this cluster sends to the peer.
	Outgoing Direction = "outgoing"
	// Incoming is the target's side: the peer sends to this cluster.
	Incoming Direction = "incoming"
)

// Peer is one side of one pair.
type Peer struct {
	PairID    string
	Direction Direction
	// ClusterID and ClusterName are the other cluster's.
	ClusterID   string
	ClusterName string
	// Endpoint is the other cluster's host:port (Outgoing).
	Endpoint string
	Scope    Scope
	// Namespace and Name are those of the source's ClusterPair.
	Namespace string
	Name      string
	// BackupLocation is namespace/name of the target's BackupLocation, or empty.
	BackupLocation string
	// ClientKey is ours as PKCS#8 DER, Certificate what the target's authority
	// signed for it, Authority that authority's own certificate (all Outgoing, DER).
	ClientKey   Secret
	Certificate []byte
	Authority   []byte
	// SealingKey signs our recovery points (Outgoing, an Ed25519 seed);
	// SealingPublicKey checks those of the source (both directions).
	SealingKey       Secret
	SealingPublicKey ed25519.PublicKey
	// NextSealingKey is to take the place of SealingKey, and is not yet known to the
	// target (Outgoing). FormerSealingKeys were replaced: of what they signed, only
	// the statements whose digest is in SealedBefore count.
	NextSealingKey    Secret
	FormerSealingKeys []ed25519.PublicKey
	SealedBefore      []StatementDigest
	// RepositoryPassword and RepositoryPrefix are those of the pair's repository.
	RepositoryPassword Secret
	RepositoryPrefix   string
	// NextRepositoryPassword is set for as long as the password is being replaced
	// (Outgoing), and is the same as RepositoryPassword towards the end.
	NextRepositoryPassword Secret
	// EpochSeed is what EpochKey comes from once the password was replaced.
	EpochSeed Secret
	Created   time.Time
	// CertificateExpires is when the source's certificate ends.
	CertificateExpires time.Time
	// Asked is the address that the ClusterPair named last, and Addresses are more
	// at which the target says it answers (Outgoing).
	Asked     string
	Addresses []string
	// KeyHash is of the public key that the certificate was made for last, and
	// FormerKeyHash of the one before, until the new key has been used (Incoming).
	KeyHash, FormerKeyHash KeyHash
	// Left is when the source said that it removed the pair (Incoming).
	Left time.Time
	// Return is the token by which this cluster may pair the other way, until
	// that is done (Incoming).
	Return Secret
	// Twin is the pair that serves the other direction, if the two were made together.
	Twin string
	// Version is the store's; empty means that the peer is not stored yet.
	Version string
}

// KeyHash is the SHA-256 of a public key (SubjectPublicKeyInfo).
type KeyHash [sha256.Size]byte

// PeerStore keeps peers. Implementations pass pairingtest.PeerStore.
type PeerStore interface {
	// Get returns ErrNotFound where there is none.
	Get(ctx context.Context, d Direction, pairID string) (Peer, error)
	List(ctx context.Context, d Direction) ([]Peer, error)
	// Put creates a peer without Version, and otherwise replaces exactly that
	// Version; it returns ErrConflict where another was faster. What it returns
	// has the new Version.
	Put(ctx context.Context, p Peer) (Peer, error)
	// Delete is done where there is none.
	Delete(ctx context.Context, d Direction, pairID string) error
}

// Joined is false for an Outgoing peer whose token is not redeemed yet.
func (p Peer) Joined() bool { return p.Direction == Incoming || len(p.Certificate) > 0 }

// TLSCertificate is what an Outgoing peer shows to the target.
func (p Peer) TLSCertificate() (tls.Certificate, error) {
	if p.Direction != Outgoing || !p.Joined() {
		return tls.Certificate{}, fmt.Errorf("pair %s: %w: there is none yet", p.PairID, ErrCertificate)
	}
	key, err := parseKey(p.ClientKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pair %s: %w", p.PairID, err)
	}
	leaf, err := x509.ParseCertificate(p.Certificate)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pair %s: read certificate: %w", p.PairID, err)
	}
	return tls.Certificate{Certificate: [][]byte{p.Certificate}, PrivateKey: key, Leaf: leaf}, nil
}

// SealingPrivateKey is the key that signs our recovery points.
func (p Peer) SealingPrivateKey() (ed25519.PrivateKey, error) {
	if len(p.SealingKey) != ed25519.SeedSize {
		return nil, fmt.Errorf("pair %s: this side holds no sealing key", p.PairID)
	}
	return ed25519.NewKeyFromSeed([]byte(p.SealingKey.Reveal())), nil
}

// AuthorityFingerprint is what the token pinned.
func (p Peer) AuthorityFingerprint() (Fingerprint, error) {
	ca, err := x509.ParseCertificate(p.Authority)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("pair %s: read authority: %w", p.PairID, err)
	}
	return FingerprintOf(ca), nil
}

// FingerprintOf is the SHA-256 of a certificate's public key.
func FingerprintOf(c *x509.Certificate) Fingerprint {
	return sha256.Sum256(c.RawSubjectPublicKeyInfo)
}

// Revoke removes a pair on the target. Open calls of the other cluster are
// refused from then on, and its token cannot be redeemed again.
func Revoke(ctx context.Context, grants GrantStore, peers PeerStore, pairID string) error {
	// The grant goes first, so that no repeated redemption brings the peer back.
	if err := grants.Delete(ctx, pairID); err != nil {
		return fmt.Errorf("revoke pair %s: delete grant: %w", pairID, err)
	}
	if err := peers.Delete(ctx, Incoming, pairID); err != nil {
		return fmt.Errorf("revoke pair %s: delete peer: %w", pairID, err)
	}
	return nil
}

func prefixOf(pairID string) string { return "godwit/" + pairID + "/" }

// MakesRepository is true for the direction whose source makes the repository where
// there is none. The way back only uses it: made there too, where that side's
// BackupLocation leads elsewhere, each side would have a repository of its own, and
// neither would notice.
func (p Peer) MakesRepository() bool { return p.RepositoryPrefix == prefixOf(p.PairID) }

package pairing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

const uriScheme = "godwit"

func (id Identity) uri() *url.URL {
	return &url.URL{Scheme: uriScheme, Host: "pair", Path: "/" + id.PairID + "/cluster/" + id.ClusterID}
}

func clusterURI(clusterID string) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: "cluster", Path: "/" + clusterID}
}

// IdentityOf reads the identity from a client certificate that was verified
// against the authority before.
func IdentityOf(leaf *x509.Certificate) (Identity, error) {
	if len(leaf.URIs) != 1 {
		return Identity{}, fmt.Errorf("%w: it names no pair", ErrCertificate)
	}
	uri := leaf.URIs[0]
	parts := strings.Split(strings.TrimPrefix(uri.Path, "/"), "/")
	if len(parts) != 3 || parts[1] != "cluster" {
		return Identity{}, fmt.Errorf("%w: it names no pair", ErrCertificate)
	}
	id := Identity{PairID: parts[0], ClusterID: parts[2]}
	// Written again and compared, so that there is one spelling only.
	if uri.String() != id.uri().String() {
		return Identity{}, fmt.Errorf("%w: it names no pair", ErrCertificate)
	}
	if err := errors.Join(checkID("pair id", id.PairID), checkID("cluster id", id.ClusterID)); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return id, nil
}

// VerifyServer checks that a server's chain ends at authority and that its
// certificate is the server's of that cluster. Names and addresses do not
// count: a cluster may be reached under many, and its authority signs no other
// server. Errors are ErrImpostor.
func VerifyServer(chain []*x509.Certificate, authority *x509.Certificate, clusterID string, now time.Time) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: it shows no certificate", ErrImpostor)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return fmt.Errorf("%w: %w", ErrImpostor, err)
	}
	want := clusterURI(clusterID).String()
	if !slices.ContainsFunc(chain[0].URIs, func(u *url.URL) bool { return u.String() == want }) {
		return fmt.Errorf("%w: its certificate is not cluster %s's", ErrImpostor, clusterID)
	}
	return nil
}

// VerifyPinned checks that a server's chain holds an authority with the
// fingerprint, and then the chain as VerifyServer does.
func VerifyPinned(chain []*x509.Certificate, pin Fingerprint, clusterID string, now time.Time) error {
	for _, c := range chain {
		if c.IsCA && FingerprintOf(c) == pin {
			return VerifyServer(chain, c, clusterID, now)
		}
	}
	return fmt.Errorf("%w: no authority with the fingerprint %s in its certificates", ErrImpostor, pin)
}

// parseRequest admits the keys that are strong and cheap to check, and proves
// that the caller holds the private one.
func parseRequest(der []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate request: %w", ErrRequest, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: certificate request: %w", ErrRequest, err)
	}
	switch key := csr.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return nil, fmt.Errorf("%w: certificate request: a curve other than P-256 and P-384", ErrRequest)
		}
	case ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("%w: certificate request: a key that is neither ECDSA nor Ed25519", ErrRequest)
	}
	return csr, nil
}

func keyHash(csr *x509.CertificateRequest) KeyHash {
	return sha256.Sum256(csr.RawSubjectPublicKeyInfo)
}

func newKey() (Secret, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make key: %w", err)
	}
	return marshalKey(key)
}

func newRequest(secret Secret) ([]byte, error) {
	key, err := parseKey(secret)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

func marshalKey(key crypto.Signer) (Secret, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encode key: %w", err)
	}
	return Secret(der), nil
}

// parseKey never puts the parser's words, which may quote its input, in an error.
func parseKey(secret Secret) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey([]byte(secret.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("%w: the private key is not readable", ErrCertificate)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: the private key cannot sign", ErrCertificate)
	}
	return signer, nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

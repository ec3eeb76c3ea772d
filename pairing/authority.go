package pairing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

const (
	// DefaultCertificateTTL is how long a client certificate is good.
	DefaultCertificateTTL = 24 * time.Hour
	// ServerCertificateTTL is how long the server's is; it is made anew from
	// the authority in memory, long before.
	ServerCertificateTTL = 7 * 24 * time.Hour
	authorityTTL         = 10 * 365 * 24 * time.Hour
	// skew is how far two clusters' clocks may be apart.
	skew = 10 * time.Minute
)

// Identity is what a client certificate says: who, by which pair. Which
// namespaces that covers is not in it, since a certificate cannot be taken back.
type Identity struct {
	PairID    string
	ClusterID string
}

// Authority signs certificates for the clusters that send to this one, and for
// this cluster's own server.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	clusterID   string
}

// NewAuthority makes the authority of a cluster.
func NewAuthority(clusterID string, now time.Time) (*Authority, error) {
	if err := checkID("cluster id", clusterID); err != nil {
		return nil, fmt.Errorf("make pairing authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make pairing authority: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "godwit pairing authority", SerialNumber: clusterID},
		URIs:                  []*url.URL{clusterURI(clusterID)},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityTTL),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make pairing authority: %w", err)
	}
	secret, err := marshalKey(key)
	if err != nil {
		return nil, fmt.Errorf("make pairing authority: %w", err)
	}
	return ParseAuthority(der, secret)
}

// ParseAuthority reads what Certificate and Key gave.
func ParseAuthority(certificate []byte, secret Secret) (*Authority, error) {
	ca, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("read pairing authority: %w", err)
	}
	key, err := parseKey(secret)
	if err != nil {
		return nil, fmt.Errorf("read pairing authority: %w", err)
	}
	if !samePublicKey(key.Public(), ca.PublicKey) {
		return nil, errors.New("read pairing authority: the key does not belong to the certificate")
	}
	if !ca.IsCA || ca.Subject.SerialNumber == "" {
		return nil, errors.New("read pairing authority: the certificate is not one of an authority")
	}
	return &Authority{certificate: ca, key: key, clusterID: ca.Subject.SerialNumber}, nil
}

// Certificate is the authority's own, DER.
func (a *Authority) Certificate() []byte { return a.certificate.Raw }

// Key is the authority's private key, PKCS#8 DER, for the one place that keeps it.
func (a *Authority) Key() (Secret, error) { return marshalKey(a.key) }

// ClusterID is the cluster whose authority it is.
func (a *Authority) ClusterID() string { return a.clusterID }

// Expires is when the authority's own certificate ends.
func (a *Authority) Expires() time.Time { return a.certificate.NotAfter }

// Fingerprint is what tokens pin.
func (a *Authority) Fingerprint() Fingerprint { return FingerprintOf(a.certificate) }

// Pool holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Issue signs a client certificate for the public key of a PKCS#10 request.
// Nothing else of the request is taken over.
func (a *Authority) Issue(request []byte, id Identity, ttl time.Duration, now time.Time) (*x509.Certificate, error) {
	csr, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkID("pair id", id.PairID), checkID("cluster id", id.ClusterID)); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "godwit pair " + id.PairID},
		URIs:        []*url.URL{id.uri()},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(ttl),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, csr.PublicKey)
}

// ServerCertificate makes a key and certificate for this cluster's server. It
// bears the cluster's id, which is what clients check; hosts, names or
// addresses, serve those who check names.
func (a *Authority) ServerCertificate(hosts []string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make server certificate: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "godwit cluster " + a.clusterID},
		URIs:        []*url.URL{clusterURI(a.clusterID)},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(ServerCertificateTTL),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	leaf, err := a.sign(template, key.Public())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make server certificate: %w", err)
	}
	// The authority goes along so that whoever holds only its fingerprint can
	// find it in the chain.
	return tls.Certificate{
		Certificate: [][]byte{leaf.Raw, a.certificate.Raw}, PrivateKey: key, Leaf: leaf,
	}, nil
}

func (a *Authority) sign(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	if template.NotAfter.After(a.certificate.NotAfter) {
		template.NotAfter = a.certificate.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate %q: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

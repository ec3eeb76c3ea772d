// Package pki makes the certificates and kubeconfigs of sandbox clusters and of the object store.
// An authority signs leaves; both are PEM files in one folder. What is there is kept: Ensure
// functions can run at every start. It never talks to an API server.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority is a certificate authority kept in a folder as NAME.crt and NAME.key.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return a.pem }

// Subject is whom a leaf certificate is for.
type Subject struct {
	File          string // NAME.crt and NAME.key in the authority's folder
	CommonName    string
	Organizations []string
	Names         []string // DNS names and IP addresses that it may serve under
}

// Leaf is an issued certificate with its key, both PEM.
type Leaf struct {
	Cert, Key []byte
}

// EnsureAuthority reads the authority of that name from dir, or makes it.
func EnsureAuthority(dir, name, commonName string, now time.Time) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	leaf, err := read(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		leaf, err = newAuthority(dir, name, commonName, now)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority %s in %s: %w", name, dir, err)
	}
	cert, key, err := parse(leaf)
	if err != nil {
		return nil, fmt.Errorf("certificate authority %s in %s: %w", name, dir, err)
	}
	return &Authority{dir: dir, cert: cert, key: key, pem: leaf.Cert}, nil
}

func newAuthority(dir, name, commonName string, now time.Time) (Leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Leaf{}, err
	}
	tmpl, err := template(commonName, now)
	if err != nil {
		return Leaf{}, err
	}
	tmpl.KeyUsage |= x509.KeyUsageCertSign
	tmpl.BasicConstraintsValid, tmpl.IsCA = true, true
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return Leaf{}, err
	}
	return write(dir, name, der, key)
}

// Ensure issues a leaf, or returns the one in the folder if it was issued by this authority for the
// same names and is good for another month.
func (a *Authority) Ensure(s Subject, now time.Time) (Leaf, error) {
	if leaf, err := read(a.dir, s.File); err == nil {
		if cert, _, err := parse(leaf); err == nil && a.serves(cert, s, now) {
			return leaf, nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Leaf{}, err
	}
	tmpl, err := template(s.CommonName, now)
	if err != nil {
		return Leaf{}, err
	}
	tmpl.Subject.Organization = s.Organizations
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	for _, n := range s.Names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return Leaf{}, fmt.Errorf("issue certificate %s: %w", s.File, err)
	}
	return write(a.dir, s.File, der, key)
}

func (a *Authority) serves(cert *x509.Certificate, s Subject, now time.Time) bool {
	if cert.CheckSignatureFrom(a.cert) != nil || cert.Subject.CommonName != s.CommonName || now.AddDate(0, 1, 0).After(cert.NotAfter) {
		return false
	}
	for _, n := range s.Names {
		if cert.VerifyHostname(n) != nil {
			return false
		}
	}
	return true
}

// EnsureSigningKey keeps an RSA key pair for service account tokens as NAME.key and NAME.pub.
func EnsureSigningKey(dir, name string) error {
	keyFile, pubFile := filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	if _, err := os.Stat(pubFile); err == nil {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(keyFile, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)); err != nil {
		return err
	}
	return writePEM(pubFile, "PUBLIC KEY", pub)
}

func template(commonName string, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-24 * time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}, nil
}

func write(dir, name string, der []byte, key *ecdsa.PrivateKey) (Leaf, error) {
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Leaf{}, err
	}
	if err := writePEM(filepath.Join(dir, name+".key"), "EC PRIVATE KEY", keyDER); err != nil {
		return Leaf{}, err
	}
	if err := writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der); err != nil {
		return Leaf{}, err
	}
	return read(dir, name)
}

// writePEM replaces the file in one step: a start that was killed must not leave half a key.
func writePEM(path, kind string, der []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func read(dir, name string) (Leaf, error) {
	cert, err := os.ReadFile(filepath.Join(dir, name+".crt"))
	if err != nil {
		return Leaf{}, err
	}
	key, err := os.ReadFile(filepath.Join(dir, name+".key"))
	return Leaf{Cert: cert, Key: key}, err
}

func parse(l Leaf) (*x509.Certificate, crypto.Signer, error) {
	cb, _ := pem.Decode(l.Cert)
	kb, _ := pem.Decode(l.Key)
	if cb == nil || kb == nil {
		return nil, nil, errors.New("no PEM block in certificate or key file: remove both to have them made again")
	}
	cert, err := x509.ParseCertificate(cb.Bytes)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(kb.Bytes)
	return cert, key, err
}

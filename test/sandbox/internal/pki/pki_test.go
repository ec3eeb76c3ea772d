package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

func TestEnsureKeepsWhatServes(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, err := EnsureAuthority(dir, "ca", "test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	s := Subject{File: "api", CommonName: "api", Names: []string{"localhost", "10.0.0.1"}}
	first, err := a.Ensure(s, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := EnsureAuthority(dir, "ca", "test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	second, err := again.Ensure(s, now)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Cert, second.Cert) {
		t.Error("a certificate that serves was replaced")
	}
	s.Names = append(s.Names, "10.0.0.2")
	third, err := again.Ensure(s, now)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM())
	pair, err := tls.X509KeyPair(third.Cert, third.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range s.Names {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err != nil {
			t.Errorf("certificate does not serve %s: %v", name, err)
		}
	}
	late, err := again.Ensure(s, now.AddDate(9, 11, 15))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(late.Cert, third.Cert) {
		t.Error("a certificate about to expire was kept")
	}
}

func TestEnsureSigningKeyKeepsTheKey(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if err := EnsureSigningKey(dir, "sa"); err != nil {
			t.Fatal(err)
		}
	}
}

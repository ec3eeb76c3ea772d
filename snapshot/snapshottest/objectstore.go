package snapshottest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

// ObjectStore is a versitygw of its own, with TLS.
type ObjectStore struct {
	Endpoint string
	CA       []byte
	// Root holds a folder per bucket.
	Root string
}

const (
	storeKey    = "testaccess"
	storeSecret = "testsecret123"
)

// StartObjectStore runs one until the test ends.
func StartObjectStore(t *testing.T) *ObjectStore {
	t.Helper()
	return startObjectStore(t, nil, nil)
}

// StartGuardedObjectStore runs one that has users, and keeps versions of the objects
// of buckets that ask for that.
func StartGuardedObjectStore(t *testing.T) *ObjectStore {
	t.Helper()
	return startObjectStore(t, []string{"--iam-dir", t.TempDir(), "--iam-cache-disable"}, []string{"--versioning-dir", t.TempDir()})
}

func startObjectStore(t *testing.T, options, posix []string) *ObjectStore {
	t.Helper()
	gateway := storeTool().binary(t)
	s := &ObjectStore{Endpoint: freePort(t), Root: t.TempDir()}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	s.CA = writeCertificate(t, cert, key)
	args := append([]string{"--quiet", "--port", s.Endpoint, "--access", storeKey, "--secret", storeSecret, "--cert", cert, "--key", key}, options...)
	args = append(append(append(args, "posix"), posix...), s.Root)
	cmd := exec.Command(gateway, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.await(t)
	return s
}

func storeTool() tool {
	return tool{variable: "GODWIT_VERSITYGW", name: "versitygw", pkg: "github.com/versity/versitygw/cmd/versitygw", vers: "v1.8.0"}
}

// Admin gives a command to the store as its owner, such as create-user.
func (s *ObjectStore) Admin(t *testing.T, command ...string) {
	t.Helper()
	args := append([]string{"admin", "--access", storeKey, "--secret", storeSecret, "--endpoint-url", "https://" + s.Endpoint, "--allow-insecure"}, command...)
	if out, err := exec.Command(storeTool().binary(t), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
}

func (s *ObjectStore) await(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", s.Endpoint)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the object store does not listen: %v", err)
		case <-tick.C:
		}
	}
}

// Location makes a bucket and points at a repository in it.
func (s *ObjectStore) Location(t *testing.T, bucket string) snapshot.Location {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.Root, bucket), 0o750); err != nil {
		t.Fatal(err)
	}
	return snapshot.Location{
		Type: snapshot.S3, Endpoint: s.Endpoint, Bucket: bucket, Prefix: "pairs/one/", Region: "us-east-1",
		AccessKeyID: storeKey, SecretAccessKey: storeSecret, CABundle: s.CA,
		Password: "a long secret", User: "tester", Host: "node1", CacheDir: t.TempDir(),
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// writeCertificate signs its own, which makes it its own CA.
func writeCertificate(t *testing.T, certFile, keyFile string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "object store"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, content := range map[string][]byte{certFile: cert, keyFile: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}

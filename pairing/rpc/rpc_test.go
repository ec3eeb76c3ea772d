package rpc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/pairing/rpc"
)

// target is a cluster's server on loopback, with all that it logs.
type target struct {
	id        string
	endpoint  string
	grants    pairingtest.Grants
	peers     pairingtest.Peers
	authority *pairing.Authority
	ring      *pairing.Ring
	storage   error
	log       lockedBuffer
	mu        sync.Mutex
	ahead     time.Duration
}

func (t *target) now() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Add(t.ahead)
}

func (t *target) wait(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ahead += d
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newTarget(t *testing.T, id string, changes ...func(*rpc.Config)) *target {
	t.Helper()
	authority, err := pairing.NewAuthority(id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := &target{id: id, authority: authority, ring: pairing.NewRing(authority)}
	config := rpc.Config{
		Issuer: &pairing.Issuer{
			Grants: &c.grants, Peers: &c.peers, Ring: c.ring, ClusterName: "the " + id,
			Now: c.now, Random: rand.Reader,
		},
		StorageCheck: func(context.Context, pairing.Peer) error { return c.storage },
		Log:          slog.New(slog.NewJSONHandler(&c.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, change := range changes {
		change(&config)
	}
	server := rpc.NewServer(config).GRPC()
	// Whatever is served beside the PairingService must be guarded as well.
	healthv1.RegisterHealthServer(server, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.endpoint = listener.Addr().String()
	go server.Serve(listener) //nolint:errcheck // it ends with Stop
	t.Cleanup(server.Stop)
	return c
}

func (t *target) mint(tb testing.TB) pairing.Token {
	tb.Helper()
	token, err := pairing.Mint(tb.Context(), &t.grants, pairing.MintRequest{
		Scope: pairing.Scope{Namespaces: []string{"cms"}}, BackupLocation: "cms/s3", Endpoint: t.endpoint,
		ClusterID: t.id, CAFingerprint: t.authority.Fingerprint(),
	}, t.now(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func newSource(id string) *pairing.Joiner {
	return &pairing.Joiner{
		Peers: &pairingtest.Peers{}, Exchange: rpc.Client{Now: time.Now},
		ClusterID: id, ClusterName: "the " + id, Now: time.Now, Random: rand.Reader,
	}
}

func (t *target) join(tb testing.TB) pairing.Peer {
	tb.Helper()
	peer, err := newSource("source-id").Join(tb.Context(), t.mint(tb), pairing.ClusterPair{Namespace: "cms"})
	if err != nil {
		tb.Fatal(err)
	}
	return peer
}

func dial(t *testing.T, peer pairing.Peer) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Client{Now: time.Now}.Dial(peer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func check(t *testing.T, peer pairing.Peer) error {
	t.Helper()
	_, err := rpc.Check(t.Context(), dial(t, peer))
	return err
}

func TestPair(t *testing.T) {
	c := newTarget(t, "target-id")
	peer := c.join(t)
	conn := dial(t, peer)
	got, err := rpc.Check(t.Context(), conn)
	if err != nil || got.StorageError != "" || !got.CertificateExpires.Equal(peer.CertificateExpires) {
		t.Errorf("%+v, %v", got, err)
	}
	c.storage = errors.New("bucket gone: make it")
	if got, err = rpc.Check(t.Context(), conn); err != nil || got.StorageError != "bucket gone: make it" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("a service beside ours, with a pair: %v", err)
	}
}

func TestRenew(t *testing.T) {
	c := newTarget(t, "target-id")
	peer := c.join(t)
	client := rpc.Client{Now: time.Now}
	source := newSource("source-id")
	source.Exchange = client
	stored, err := source.Peers.Put(t.Context(), func() pairing.Peer { p := peer; p.Version = ""; return p }())
	if err != nil {
		t.Fatal(err)
	}
	source.Now = func() time.Time { return time.Now().Add(17 * time.Hour) }
	c.wait(17 * time.Hour)
	renewed, err := source.Renew(t.Context(), stored)
	if err != nil {
		t.Fatal(err)
	}
	if !renewed.CertificateExpires.After(peer.CertificateExpires) {
		t.Error("the certificate is the old one")
	}
	incoming, err := c.peers.Get(t.Context(), pairing.Incoming, peer.PairID)
	if err != nil || !incoming.CertificateExpires.Equal(renewed.CertificateExpires) {
		t.Errorf("the target has %s, %v", incoming.CertificateExpires, err)
	}
}

// Whatever is tried, no secret gets into the log or an error.
func TestNoSecretIsLogged(t *testing.T) {
	c := newTarget(t, "target-id")
	token := c.mint(t)
	line, err := token.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	wrong := token
	wrong.Secret = pairing.Secret(strings.Repeat("wrong-secret-abc", 2))
	for _, spoiled := range []pairing.Token{wrong, token, token} {
		_, err := newSource("source-id").Join(t.Context(), spoiled, pairing.ClusterPair{Namespace: "cms"})
		fmt.Fprintln(&said, err)
	}
	peer := c.join(t)
	fmt.Fprintln(&said, check(t, peer))
	if err := pairing.Revoke(t.Context(), &c.grants, &c.peers, peer.PairID); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&said, check(t, peer))
	output := said.String() + c.log.String()
	if !strings.Contains(output, token.ID) || !strings.Contains(output, "token refused") {
		t.Fatalf("the log does not tell what happened:\n%s", output)
	}
	for what, secret := range map[string]string{
		"line": line, "secret": token.Secret.Reveal(), "wrong secret": wrong.Secret.Reveal(),
		"client key": peer.ClientKey.Reveal(), "sealing key": peer.SealingKey.Reveal(),
		"password": peer.RepositoryPassword.Reveal(),
	} {
		for _, form := range []string{
			secret, hex.EncodeToString([]byte(secret)),
			base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			if strings.Contains(output, form) {
				t.Errorf("the %s shows", what)
			}
		}
	}
}

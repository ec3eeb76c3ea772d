package rpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/rpc"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

// The tokens are refused through the wire as they are without it.
func TestTokenAttacks(t *testing.T) {
	tests := []struct {
		name      string
		spoil     func(t *testing.T, c *target, token *pairing.Token)
		source    string
		namespace string
		want      error
		words     string
	}{
		{name: "unknown", want: pairing.ErrTokenUnknown, words: "does not know",
			spoil: func(_ *testing.T, _ *target, token *pairing.Token) { token.ID = "0badc0de" }},
		{name: "wrong secret", want: pairing.ErrTokenSecret, words: "secret is wrong",
			spoil: func(_ *testing.T, _ *target, token *pairing.Token) {
				token.Secret = pairing.Secret(strings.Repeat("x", 32))
			}},
		{name: "expired", want: pairing.ErrTokenExpired, words: "expired at",
			spoil: func(t *testing.T, c *target, token *pairing.Token) {
				grant, err := c.grants.Get(t.Context(), token.ID)
				if err != nil {
					t.Fatal(err)
				}
				grant.Expires = time.Now().Add(-time.Second)
				if _, err := c.grants.Put(t.Context(), grant); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "used", want: pairing.ErrTokenUsed, words: "by cluster first-id",
			spoil: func(t *testing.T, _ *target, token *pairing.Token) {
				if _, err := newSource("first-id").Join(t.Context(), *token, pairing.ClusterPair{Namespace: "cms"}); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "stolen and used under the same name", want: pairing.ErrTokenUsed, words: "by cluster source-id",
			spoil: func(t *testing.T, _ *target, token *pairing.Token) {
				if _, err := newSource("source-id").Join(t.Context(), *token, pairing.ClusterPair{Namespace: "cms"}); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "for another namespace", namespace: "shop", want: pairing.ErrNamespace, words: `"shop"`},
		{name: "of the cluster itself", source: "target-id", want: pairing.ErrSelf, words: "with itself"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newTarget(t, "target-id")
			token := c.mint(t)
			if tt.spoil != nil {
				tt.spoil(t, c, &token)
			}
			source, namespace := newSource("source-id"), "cms"
			if tt.source != "" {
				source = newSource(tt.source)
			}
			if tt.namespace != "" {
				namespace = tt.namespace
			}
			_, err := source.Join(t.Context(), token, pairing.ClusterPair{Namespace: namespace})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.words)
			}
			if left, _ := source.Peers.List(t.Context(), pairing.Outgoing); len(left) != 0 {
				t.Errorf("%d peers left behind", len(left))
			}
		})
	}
}

// The source hides that the token is its own; the target tells.
func TestSelfThroughTheWire(t *testing.T) {
	c := newTarget(t, "target-id")
	token := c.mint(t)
	_, err := rpc.Client{Now: time.Now}.Redeem(t.Context(), token, rawRequest(t, token, "target-id"))
	if !errors.Is(err, pairing.ErrSelf) {
		t.Errorf("got %v, want ErrSelf", err)
	}
}

// rawRequest is what an honest source would send, taken from one.
func rawRequest(t *testing.T, token pairing.Token, clusterID string) pairing.RedeemRequest {
	t.Helper()
	caught := &catcher{}
	source := newSource("another-id")
	source.Exchange = caught
	if _, err := source.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, errCaught) {
		t.Fatal(err)
	}
	caught.request.ClusterID = clusterID
	return caught.request
}

type catcher struct {
	rpc.Client
	request pairing.RedeemRequest
}

var errCaught = errors.New("caught")

func (c *catcher) Redeem(_ context.Context, _ pairing.Token, r pairing.RedeemRequest) (pairing.Redeemed, error) {
	c.request = r
	return pairing.Redeemed{}, errCaught
}

func TestTwoRedeemAtOnce(t *testing.T) {
	c := newTarget(t, "target-id")
	token := c.mint(t)
	start := make(chan struct{})
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		source := newSource(fmt.Sprintf("source-%d", i))
		wg.Go(func() {
			<-start
			_, errs[i] = source.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
		})
	}
	close(start)
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, pairing.ErrTokenUsed):
			t.Errorf("lost with %v", err)
		}
	}
	if pairs, _ := c.peers.List(t.Context(), pairing.Incoming); won != 1 || len(pairs) != 1 {
		t.Errorf("%d won, and there are %d pairs", won, len(pairs))
	}
}

func TestManInTheMiddle(t *testing.T) {
	honest, other := newTarget(t, "target-id"), newTarget(t, "target-id")
	token := honest.mint(t)
	token.Endpoint = other.endpoint
	source := newSource("source-id")
	_, err := source.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if !errors.Is(err, pairing.ErrImpostor) {
		t.Errorf("redeem at another server: %v, want ErrImpostor", err)
	}
	if strings.Contains(other.log.String(), token.ID) {
		t.Error("the other server was told of the token")
	}
	// The token is not spent, nor are the keys lost.
	token.Endpoint = honest.endpoint
	peer, err := source.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if err != nil {
		t.Fatal(err)
	}
	peer.Endpoint = other.endpoint
	if err := check(t, peer); !errors.Is(err, pairing.ErrImpostor) {
		t.Errorf("check at another server: %v, want ErrImpostor", err)
	}
}

// A third cluster that the pair's own target signed nothing for.
func TestAnotherClustersServer(t *testing.T) {
	first, second := newTarget(t, "target-1"), newTarget(t, "target-2")
	peer := first.join(t)
	peer.Endpoint = second.endpoint
	if err := check(t, peer); !errors.Is(err, pairing.ErrImpostor) {
		t.Errorf("got %v, want ErrImpostor", err)
	}
}

// A paired cluster uses its client certificate to play the target's server.
func TestClientCertificateAsServer(t *testing.T) {
	c := newTarget(t, "target-id")
	peer := c.join(t)
	certificate, err := peer.TLSCertificate()
	if err != nil {
		t.Fatal(err)
	}
	certificate.Certificate = append(certificate.Certificate, peer.Authority)
	peer.Endpoint = serveTLS(t, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	if err := check(t, peer); !errors.Is(err, pairing.ErrImpostor) {
		t.Errorf("check: %v, want ErrImpostor", err)
	}
	token := c.mint(t)
	token.Endpoint = peer.Endpoint
	if _, err := newSource("victim-id").Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, pairing.ErrImpostor) {
		t.Errorf("redeem: %v, want ErrImpostor", err)
	}
}

func serveTLS(t *testing.T, config *tls.Config) string {
	t.Helper()
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener) //nolint:errcheck // it ends with Stop
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// connect is a client that checks nothing and shows what it is given.
func connect(t *testing.T, endpoint string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func blind(certificates ...tls.Certificate) credentials.TransportCredentials {
	config := &tls.Config{InsecureSkipVerify: true}
	if len(certificates) > 0 {
		// It is shown even to a server that did not ask for one of its authority.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificates[0], nil }
	}
	return credentials.NewTLS(config)
}

func TestNoClientCertificate(t *testing.T) {
	c := newTarget(t, "target-id")
	c.join(t)
	conn := connect(t, c.endpoint, blind())
	_, err := godwitv1.NewPairingServiceClient(conn).Check(t.Context(), &godwitv1.CheckRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("check: %v, want Unauthenticated", err)
	}
	_, err = godwitv1.NewPairingServiceClient(conn).Renew(t.Context(), &godwitv1.RenewRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("renew: %v, want Unauthenticated", err)
	}
	_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("a service beside ours: %v, want Unauthenticated", err)
	}
	stream, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("a stream beside ours: %v, want Unauthenticated", err)
	}
	if !strings.Contains(c.log.String(), "none was shown") {
		t.Error("the log does not tell")
	}
}

func TestForeignAuthority(t *testing.T) {
	c, foreign := newTarget(t, "target-id"), newTarget(t, "target-id")
	c.join(t)
	stranger := foreign.join(t)
	stranger.Endpoint = c.endpoint
	certificate, err := stranger.TLSCertificate()
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, c.endpoint, blind(certificate))
	if _, err := rpc.Check(t.Context(), conn); err == nil {
		t.Error("a certificate of another authority was taken")
	}
	// The alert that says so may be lost with the connection.
	mine := c.join(t)
	mine.Certificate, mine.ClientKey = stranger.Certificate, stranger.ClientKey
	if err := check(t, mine); !errors.Is(err, pairing.ErrCertificate) && !errors.Is(err, pairing.ErrUnreachable) {
		t.Errorf("got %v, want ErrCertificate or ErrUnreachable", err)
	}
}

// The target's own server certificate is no client's.
func TestServerCertificateAsClient(t *testing.T) {
	c := newTarget(t, "target-id")
	c.join(t)
	certificate, err := c.authority.ServerCertificate(nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.Check(t.Context(), connect(t, c.endpoint, blind(certificate))); err == nil {
		t.Error("a server's certificate was taken for a client's")
	}
}

// The certificate is the authority's but names a pair that never was, or
// another cluster's.
func TestForgedIdentity(t *testing.T) {
	c := newTarget(t, "target-id")
	peer := c.join(t)
	for _, id := range []pairing.Identity{
		{PairID: "0badc0de", ClusterID: "source-id"},
		{PairID: peer.PairID, ClusterID: "other-id"},
	} {
		forged := peer
		request := rawRequest(t, c.mint(t), "source-id")
		leaf, err := c.authority.Issue(request.CertificateRequest, id, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		forged.Certificate = leaf.Raw
		if err := check(t, forged); err == nil {
			t.Errorf("%+v was let in", id)
		}
	}
}

func TestRevoked(t *testing.T) {
	c := newTarget(t, "target-id")
	peer := c.join(t)
	conn := dial(t, peer)
	if _, err := rpc.Check(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if err := pairing.Revoke(t.Context(), &c.grants, &c.peers, peer.PairID); err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.Check(t.Context(), conn); !errors.Is(err, pairing.ErrRevoked) {
		t.Errorf("on the open connection: %v, want ErrRevoked", err)
	}
	if err := check(t, peer); !errors.Is(err, pairing.ErrRevoked) {
		t.Errorf("on a new connection: %v, want ErrRevoked", err)
	}
}

func TestExpiredCertificate(t *testing.T) {
	c := newTarget(t, "target-id")
	peer := c.join(t)
	conn := dial(t, peer)
	if _, err := rpc.Check(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	c.wait(25 * time.Hour)
	if _, err := rpc.Check(t.Context(), conn); !errors.Is(err, pairing.ErrCertificate) {
		t.Errorf("on the open connection: %v, want ErrCertificate", err)
	}
	later, err := rpc.Client{Now: c.now}.Dial(peer)
	if err != nil {
		t.Fatal(err)
	}
	defer later.Close() //nolint:errcheck // a test's
	if _, err := rpc.Check(t.Context(), later); !errors.Is(err, pairing.ErrCertificate) {
		t.Errorf("on a new connection: %v, want ErrCertificate", err)
	}
}

func TestDowngrade(t *testing.T) {
	c := newTarget(t, "target-id")
	old := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	for name, creds := range map[string]credentials.TransportCredentials{
		"TLS 1.2": old, "no TLS": insecure.NewCredentials(),
	} {
		_, err := godwitv1.NewPairingServiceClient(connect(t, c.endpoint, creds)).
			Redeem(t.Context(), &godwitv1.RedeemRequest{TokenId: "x"})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want no connection", name, err)
		}
	}
}

func TestTooManyTries(t *testing.T) {
	c := newTarget(t, "target-id")
	token := c.mint(t)
	good := token
	token.Secret = pairing.Secret(strings.Repeat("x", 32))
	source := newSource("source-id")
	var err error
	for range 40 {
		if _, err = source.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); status.Code(errors.Unwrap(err)) == codes.ResourceExhausted {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "too many tries") {
		t.Fatalf("after 40 tries: %v", err)
	}
	if pairing.Refused(err) {
		t.Error("too many tries is no final refusal")
	}
	if _, err := source.Join(t.Context(), good, pairing.ClusterPair{Namespace: "cms"}); err == nil {
		t.Error("the right token was taken within the same minute")
	}
	c.wait(time.Minute)
	if _, err := source.Join(t.Context(), good, pairing.ClusterPair{Namespace: "cms"}); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestOversizedAndMalformed(t *testing.T) {
	c := newTarget(t, "target-id")
	token := c.mint(t)
	client := godwitv1.NewPairingServiceClient(connect(t, c.endpoint, blind()))
	_, err := client.Redeem(t.Context(), &godwitv1.RedeemRequest{CertificateRequest: make([]byte, 5<<20)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("5 MiB: %v, want ResourceExhausted", err)
	}
	_, err = client.Redeem(t.Context(), &godwitv1.RedeemRequest{})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("nothing: %v, want InvalidArgument", err)
	}
	_, err = client.Redeem(t.Context(), &godwitv1.RedeemRequest{
		TokenId: token.ID, Secret: []byte(token.Secret.Reveal()), ClusterId: "source-id", Namespace: "cms",
		CertificateRequest: []byte("no request"), SealingKey: make([]byte, 32),
	})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("no certificate request: %v, want InvalidArgument", err)
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	c := newTarget(t, "target-id")
	token := c.mint(t)
	token.Endpoint = nobody
	source := newSource("source-id")
	_, err = source.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if !errors.Is(err, pairing.ErrUnreachable) || !strings.Contains(err.Error(), "cannot reach "+nobody+" (dial tcp") {
		t.Errorf("refused: %v", err)
	}
	if left, _ := source.Peers.List(t.Context(), pairing.Outgoing); len(left) != 1 {
		t.Errorf("%d peers: the keys must be kept for the next try", len(left))
	}

	// It takes connections and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() //nolint:errcheck // a test's
	token.Endpoint = silent.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err = source.Join(ctx, token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, pairing.ErrUnreachable) {
		t.Errorf("silent: %v, want ErrUnreachable", err)
	}

	// It speaks, but no TLS.
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		}
	}()
	if _, err = source.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, pairing.ErrUnreachable) {
		t.Errorf("no TLS: %v, want ErrUnreachable", err)
	}
}

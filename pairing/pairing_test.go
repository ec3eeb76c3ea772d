package pairing_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
)

func TestMemoryStores(t *testing.T) {
	pairingtest.GrantStore(t, func(*testing.T) pairing.GrantStore { return &pairingtest.Grants{} })
	pairingtest.PeerStore(t, func(*testing.T) pairing.PeerStore { return &pairingtest.Peers{} })
}

// clusters is a source and a target with nothing but a function call between them.
type clusters struct {
	grants pairingtest.Grants
	peers  pairingtest.Peers
	issuer *pairing.Issuer
	joiner *pairing.Joiner
	now    time.Time
	// lose makes the exchange drop the answer after the target gave it.
	lose bool
}

var errLost = errors.New("the answer was lost")

func newClusters(t *testing.T) *clusters {
	t.Helper()
	c := &clusters{now: time.Now()}
	clock := func() time.Time { return c.now }
	authority, err := pairing.NewAuthority("target-id", c.now)
	if err != nil {
		t.Fatal(err)
	}
	c.issuer = &pairing.Issuer{
		Grants: &c.grants, Peers: &c.peers, Ring: pairing.NewRing(authority), ClusterName: "target",
		Now: clock, Random: rand.Reader,
	}
	c.joiner = c.source("source-id")
	return c
}

func (c *clusters) source(id string) *pairing.Joiner {
	return &pairing.Joiner{
		Peers: &pairingtest.Peers{}, Exchange: c, ClusterID: id, ClusterName: "source",
		Now: func() time.Time { return c.now }, Random: rand.Reader,
	}
}

func (c *clusters) Redeem(ctx context.Context, _ pairing.Token, r pairing.RedeemRequest) (pairing.Redeemed, error) {
	answer, err := c.issuer.Redeem(ctx, r)
	if err == nil && c.lose {
		return pairing.Redeemed{}, errLost
	}
	return answer, err
}

func (c *clusters) Renew(ctx context.Context, p pairing.Peer, request []byte) (pairing.Renewed, error) {
	incoming, err := c.admit(ctx, p)
	if err != nil {
		return pairing.Renewed{}, err
	}
	leaf, err := c.issuer.Renew(ctx, incoming, request)
	return c.renewed(leaf, err)
}

func (c *clusters) Recover(ctx context.Context, p pairing.Peer, request []byte) (pairing.Renewed, error) {
	leaf, err := c.issuer.Recover(ctx, p.Certificate, request)
	return c.renewed(leaf, err)
}

func (c *clusters) Leave(ctx context.Context, p pairing.Peer) error {
	incoming, err := c.admit(ctx, p)
	if err != nil {
		return err
	}
	return c.issuer.Leave(ctx, incoming)
}

// admit is what the target does first with a call by p's certificate.
func (c *clusters) admit(ctx context.Context, p pairing.Peer) (pairing.Peer, error) {
	leaf, err := x509.ParseCertificate(p.Certificate)
	if err != nil {
		return pairing.Peer{}, err
	}
	return c.issuer.Admit(ctx, leaf)
}

func (c *clusters) renewed(leaf *x509.Certificate, err error) (pairing.Renewed, error) {
	if err != nil {
		return pairing.Renewed{}, err
	}
	if c.lose {
		return pairing.Renewed{}, errLost
	}
	return pairing.Renewed{Certificate: leaf.Raw, Authority: c.issuer.Ring.Current().Certificate()}, nil
}

func (c *clusters) mint(t *testing.T, scope pairing.Scope) pairing.Token {
	t.Helper()
	token, err := pairing.Mint(t.Context(), &c.grants, pairing.MintRequest{
		Scope: scope, BackupLocation: "cms/s3", Endpoint: "10.0.0.1:9020",
		ClusterID: "target-id", ClusterName: "target", CAFingerprint: c.issuer.Ring.Current().Fingerprint(),
	}, c.now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func cms() pairing.Scope { return pairing.Scope{Namespaces: []string{"cms"}} }

func TestJoin(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	peer, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if err != nil {
		t.Fatal(err)
	}
	incoming, err := c.peers.Get(t.Context(), pairing.Incoming, token.ID)
	if err != nil {
		t.Fatal(err)
	}
	if peer.PairID != token.ID || peer.ClusterID != "target-id" || incoming.ClusterID != "source-id" {
		t.Errorf("source has %+v\ntarget has %+v", peer, incoming)
	}
	if peer.RepositoryPassword == "" || peer.RepositoryPassword != incoming.RepositoryPassword ||
		peer.RepositoryPrefix != incoming.RepositoryPrefix || !peer.SealingPublicKey.Equal(incoming.SealingPublicKey) {
		t.Error("the two sides do not share a repository and a sealing key")
	}
	private, err := peer.SealingPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(incoming.SealingPublicKey, []byte("round"), ed25519.Sign(private, []byte("round"))) {
		t.Error("the target cannot check what the source seals")
	}
	if err := incoming.Scope.Covers("cms"); err != nil {
		t.Error(err)
	}
	if err := incoming.Scope.Covers("cms", "shop"); !errors.Is(err, pairing.ErrNamespace) {
		t.Errorf("shop: %v, want ErrNamespace", err)
	}

	again, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if err != nil || again.Version != peer.Version {
		t.Errorf("join again: %v, version %s, want %s", err, again.Version, peer.Version)
	}
	token.Endpoint = "10.0.0.2:9020"
	moved, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if err != nil || moved.Endpoint != token.Endpoint {
		t.Errorf("after the target moved: %q, %v", moved.Endpoint, err)
	}
	if _, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "shop"}); !errors.Is(err, pairing.ErrNamespace) {
		t.Errorf("the pair of cms used from shop: %v, want ErrNamespace", err)
	}
}

func TestTokenRefused(t *testing.T) {
	tests := []struct {
		name      string
		attack    func(t *testing.T, c *clusters, token *pairing.Token)
		namespace string
		cluster   string
		want      error
	}{
		{name: "unknown", want: pairing.ErrTokenUnknown,
			attack: func(_ *testing.T, _ *clusters, token *pairing.Token) { token.ID = "0badc0de" }},
		{name: "wrong secret", want: pairing.ErrTokenSecret,
			attack: func(_ *testing.T, _ *clusters, token *pairing.Token) {
				token.Secret = pairing.Secret(strings.Repeat("x", 32))
			}},
		{name: "expired", want: pairing.ErrTokenExpired,
			attack: func(_ *testing.T, c *clusters, _ *pairing.Token) { c.now = c.now.Add(pairing.DefaultTokenTTL) }},
		{name: "used by another cluster", want: pairing.ErrTokenUsed,
			attack: func(t *testing.T, c *clusters, token *pairing.Token) {
				if _, err := c.source("other-id").Join(t.Context(), *token, pairing.ClusterPair{Namespace: "cms"}); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "used by the same cluster with another key", want: pairing.ErrTokenUsed,
			attack: func(t *testing.T, c *clusters, token *pairing.Token) {
				if _, err := c.source("source-id").Join(t.Context(), *token, pairing.ClusterPair{Namespace: "cms"}); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "for another namespace", namespace: "shop", want: pairing.ErrNamespace},
		{name: "from the cluster itself", cluster: "target-id", want: pairing.ErrSelf},
		{name: "taken back", want: pairing.ErrTokenUnknown,
			attack: func(t *testing.T, c *clusters, token *pairing.Token) {
				if err := pairing.Revoke(t.Context(), &c.grants, &c.peers, token.ID); err != nil {
					t.Fatal(err)
				}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClusters(t)
			token := c.mint(t, cms())
			if tt.attack != nil {
				tt.attack(t, c, &token)
			}
			if tt.cluster != "" {
				c.joiner.ClusterID = tt.cluster
			}
			namespace := "cms"
			if tt.namespace != "" {
				namespace = tt.namespace
			}
			_, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: namespace})
			if !errors.Is(err, tt.want) || !pairing.Refused(err) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if left, _ := c.joiner.Peers.List(t.Context(), pairing.Outgoing); len(left) != 0 {
				t.Errorf("%d peers left behind", len(left))
			}
		})
	}
}

// A cluster that lies about its id on the source is still told by the target.
func TestSelfIsRefusedByTheTarget(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	honest := token.ClusterID
	c.joiner.ClusterID, token.ClusterID = honest, "somebody-else"
	if _, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, pairing.ErrSelf) {
		t.Errorf("got %v, want ErrSelf", err)
	}
}

func TestJoinGoesOnAfterALostAnswer(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	c.lose = true
	if _, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, errLost) {
		t.Fatalf("got %v, want errLost", err)
	}
	first, err := c.peers.Get(t.Context(), pairing.Incoming, token.ID)
	if err != nil {
		t.Fatal(err)
	}
	c.lose = false
	c.now = c.now.Add(5 * time.Minute)
	peer, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if err != nil {
		t.Fatal(err)
	}
	if peer.RepositoryPassword != first.RepositoryPassword {
		t.Error("the repeated answer names another repository password")
	}
}

func TestRepeatEnds(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	c.lose = true
	if _, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	c.now = c.now.Add(10 * time.Minute)
	if _, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, pairing.ErrTokenUsed) {
		t.Errorf("after the window: %v, want ErrTokenUsed", err)
	}
}

func TestRepeatDoesNotBringBackARevokedPair(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	c.lose = true
	if _, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	c.lose = false
	if err := c.peers.Delete(t.Context(), pairing.Incoming, token.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, pairing.ErrRevoked) {
		t.Errorf("got %v, want ErrRevoked", err)
	}
}

// The target dies between each two of its writes; the source asks again.
func TestRedeemGoesOnAfterEachWrite(t *testing.T) {
	for _, failing := range []string{"peer", "settle"} {
		t.Run(failing, func(t *testing.T) {
			c := newClusters(t)
			token := c.mint(t, cms())
			whole := *c.issuer
			switch failing {
			case "peer":
				c.issuer.Peers = failingPeers{&c.peers}
			case "settle":
				c.issuer.Grants = &failingGrants{GrantStore: &c.grants, left: 1}
			}
			if _, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); !errors.Is(err, errLost) {
				t.Fatalf("got %v, want errLost", err)
			}
			*c.issuer = whole
			if _, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); err != nil {
				t.Fatal(err)
			}
			grant, err := c.grants.Get(t.Context(), token.ID)
			if err != nil || !grant.Use.Settled {
				t.Errorf("grant %+v, %v: not settled", grant, err)
			}
		})
	}
}

type failingPeers struct{ pairing.PeerStore }

func (failingPeers) Put(context.Context, pairing.Peer) (pairing.Peer, error) {
	return pairing.Peer{}, errLost
}

type failingGrants struct {
	pairing.GrantStore
	left int
}

func (f *failingGrants) Put(ctx context.Context, g pairing.Grant) (pairing.Grant, error) {
	if f.left == 0 {
		return pairing.Grant{}, errLost
	}
	f.left--
	return f.GrantStore.Put(ctx, g)
}

func TestOneOfTwoRedeems(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	const rivals = 8
	errs := make([]error, rivals)
	var wg sync.WaitGroup
	for i := range rivals {
		source := c.source(fmt.Sprintf("source-%d", i))
		wg.Go(func() { _, errs[i] = source.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, pairing.ErrTokenUsed):
			t.Errorf("lost with %v, want ErrTokenUsed", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d won", won, rivals)
	}
}

// The target is asked by hand here, past what an honest source checks.
func TestMalformedRedeem(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	good := func() pairing.RedeemRequest {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		csr, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		public, _, _ := ed25519.GenerateKey(rand.Reader)
		return pairing.RedeemRequest{
			TokenID: token.ID, Secret: token.Secret, ClusterID: "source-id", ClusterName: "source",
			Namespace: "cms", CertificateRequest: csr, SealingPublicKey: public,
		}
	}
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	weakRequest, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weak)
	for name, spoil := range map[string]func(*pairing.RedeemRequest){
		"cluster id with a path":   func(r *pairing.RedeemRequest) { r.ClusterID = "a/cluster/b" },
		"no cluster id":            func(r *pairing.RedeemRequest) { r.ClusterID = "" },
		"endless cluster id":       func(r *pairing.RedeemRequest) { r.ClusterID = strings.Repeat("a", 1<<16) },
		"token id with a path":     func(r *pairing.RedeemRequest) { r.TokenID = "../../x" },
		"name with a line break":   func(r *pairing.RedeemRequest) { r.ClusterName = "a\nlevel=INFO" },
		"no namespace":             func(r *pairing.RedeemRequest) { r.Namespace = "" },
		"short sealing key":        func(r *pairing.RedeemRequest) { r.SealingPublicKey = r.SealingPublicKey[:31] },
		"no certificate request":   func(r *pairing.RedeemRequest) { r.CertificateRequest = nil },
		"altered request":          func(r *pairing.RedeemRequest) { r.CertificateRequest[len(r.CertificateRequest)-1] ^= 1 },
		"weak key":                 func(r *pairing.RedeemRequest) { r.CertificateRequest = weakRequest },
		"request of another shape": func(r *pairing.RedeemRequest) { r.CertificateRequest = c.issuer.Ring.Current().Certificate() },
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			spoil(&r)
			if _, err := c.issuer.Redeem(t.Context(), r); !errors.Is(err, pairing.ErrRequest) {
				t.Errorf("got %v, want ErrRequest", err)
			} else if len(err.Error()) > 600 {
				t.Errorf("the error has %d characters", len(err.Error()))
			}
		})
	}
	if _, err := c.issuer.Redeem(t.Context(), good()); err != nil {
		t.Errorf("none of these spent the token, but: %v", err)
	}
}

func TestRenew(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	peer, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if err != nil {
		t.Fatal(err)
	}
	if same, err := c.joiner.Renew(t.Context(), peer); err != nil || same.Version != peer.Version {
		t.Errorf("renewed before it was due: %v", err)
	}
	c.now = c.now.Add(17 * time.Hour)
	renewed, err := c.joiner.Renew(t.Context(), peer)
	if err != nil {
		t.Fatal(err)
	}
	if got := renewed.CertificateExpires.Sub(c.now); got < 23*time.Hour {
		t.Errorf("the new certificate ends in %s", got)
	}
	if _, err := renewed.TLSCertificate(); err != nil {
		t.Error(err)
	}
}

func TestCertificates(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	peer, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := peer.TLSCertificate()
	if err != nil {
		t.Fatal(err)
	}
	id, err := pairing.IdentityOf(certificate.Leaf)
	if err != nil || id != (pairing.Identity{PairID: token.ID, ClusterID: "source-id"}) {
		t.Errorf("identity %+v, %v", id, err)
	}
	authority, _ := x509.ParseCertificate(peer.Authority)
	client := []*x509.Certificate{certificate.Leaf, authority}
	if err := pairing.VerifyServer(client, authority, "target-id", c.now); !errors.Is(err, pairing.ErrImpostor) {
		t.Errorf("a client's certificate served as a server's: %v", err)
	}
	server, err := c.issuer.Ring.Current().ServerCertificate([]string{"localhost", "10.0.0.1"}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	chain := []*x509.Certificate{server.Leaf, authority}
	if err := pairing.VerifyPinned(chain, token.CAFingerprint, "target-id", c.now); err != nil {
		t.Error(err)
	}
	if err := pairing.VerifyPinned(chain, token.CAFingerprint, "third-id", c.now); !errors.Is(err, pairing.ErrImpostor) {
		t.Errorf("another cluster: %v, want ErrImpostor", err)
	}
	if err := pairing.VerifyPinned(chain, token.CAFingerprint, "target-id", c.now.Add(8*24*time.Hour)); !errors.Is(err, pairing.ErrImpostor) {
		t.Errorf("expired: %v, want ErrImpostor", err)
	}
	if _, err := pairing.IdentityOf(server.Leaf); !errors.Is(err, pairing.ErrCertificate) {
		t.Errorf("a server's certificate has an identity: %v", err)
	}
	key, err := c.issuer.Ring.Current().Key()
	if err != nil {
		t.Fatal(err)
	}
	again, err := pairing.ParseAuthority(c.issuer.Ring.Current().Certificate(), key)
	if err != nil || again.Fingerprint() != token.CAFingerprint || again.ClusterID() != "target-id" {
		t.Errorf("read again: %v", err)
	}
	if _, err := pairing.ParseAuthority(c.issuer.Ring.Current().Certificate(), peer.ClientKey); err == nil {
		t.Error("an authority with somebody else's key")
	}
}

func join(t *testing.T, c *clusters) pairing.Peer {
	t.Helper()
	peer, err := c.joiner.Join(t.Context(), c.mint(t, cms()), pairing.ClusterPair{Namespace: "cms", Name: "west"})
	if err != nil {
		t.Fatal(err)
	}
	return peer
}

func TestRecover(t *testing.T) {
	c := newClusters(t)
	peer := join(t, c)
	c.now = c.now.Add(8 * 24 * time.Hour)
	if _, err := c.admit(t.Context(), peer); !errors.Is(err, pairing.ErrCertificate) {
		t.Errorf("a week late: %v, want ErrCertificate", err)
	}
	back, err := c.joiner.Renew(t.Context(), peer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.admit(t.Context(), back); err != nil {
		t.Errorf("after it came back: %v", err)
	}
	c.now = c.now.Add(pairing.DefaultGrace + 25*time.Hour)
	if _, err := c.joiner.Renew(t.Context(), back); !errors.Is(err, pairing.ErrCertificate) {
		t.Errorf("past the grace: %v, want ErrCertificate", err)
	}
}

func TestRecoverRefuses(t *testing.T) {
	c := newClusters(t)
	peer, other := join(t, c), join(t, c)
	var foreign pairing.Peer
	{
		elsewhere := newClusters(t)
		foreign = join(t, elsewhere)
	}
	request := func(p pairing.Peer) []byte {
		t.Helper()
		caught := &requests{clusters: c}
		joiner := *c.joiner
		joiner.Exchange = caught
		if _, err := joiner.Renew(t.Context(), p); !errors.Is(err, errLost) {
			t.Fatal(err)
		}
		return caught.last
	}
	c.now = c.now.Add(48 * time.Hour)
	mine, theirs := request(peer), request(other)
	authority := c.issuer.Ring.Current().Certificate()
	for name, tt := range map[string]struct {
		certificate, request []byte
		want                 error
	}{
		"with another key":           {peer.Certificate, theirs, pairing.ErrCertificate},
		"of another authority":       {foreign.Certificate, request(foreign), pairing.ErrCertificate},
		"the authority's own":        {authority, mine, pairing.ErrCertificate},
		"no certificate":             {nil, mine, pairing.ErrRequest},
		"no request":                 {peer.Certificate, nil, pairing.ErrRequest},
		"a certificate with an edit": {append(peer.Certificate[:len(peer.Certificate)-1:len(peer.Certificate)-1], peer.Certificate[len(peer.Certificate)-1]^1), mine, pairing.ErrCertificate},
	} {
		if _, err := c.issuer.Recover(t.Context(), tt.certificate, tt.request); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if err := pairing.Revoke(t.Context(), &c.grants, &c.peers, peer.PairID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.issuer.Recover(t.Context(), peer.Certificate, mine); !errors.Is(err, pairing.ErrRevoked) {
		t.Errorf("a revoked pair: %v, want ErrRevoked", err)
	}
}

// requests keeps what a source would ask with.
type requests struct {
	*clusters
	last []byte
}

func (r *requests) Recover(_ context.Context, _ pairing.Peer, request []byte) (pairing.Renewed, error) {
	r.last = request
	return pairing.Renewed{}, errLost
}

func TestRotateKey(t *testing.T) {
	c := newClusters(t)
	old := join(t, c)
	c.lose = true
	if _, err := c.joiner.Rotate(t.Context(), old); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	c.lose = false
	if _, err := c.admit(t.Context(), old); err != nil {
		t.Errorf("the old key, after an answer that was lost: %v", err)
	}
	rotated, err := c.joiner.Rotate(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	if rotated.ClientKey == old.ClientKey {
		t.Error("the key is the old one")
	}
	if _, err := c.admit(t.Context(), old); err != nil {
		t.Errorf("the old key, before the new one is used: %v", err)
	}
	if _, err := c.admit(t.Context(), rotated); err != nil {
		t.Fatal(err)
	}
	if _, err := c.admit(t.Context(), old); !errors.Is(err, pairing.ErrCertificate) || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("the old key, stolen: %v, want ErrCertificate", err)
	}
	c.now = c.now.Add(48 * time.Hour)
	if _, err := c.issuer.Recover(t.Context(), old.Certificate, nil); err == nil {
		t.Error("the old certificate was recovered")
	}
}

func TestLeave(t *testing.T) {
	c := newClusters(t)
	peer := join(t, c)
	if err := c.Leave(t.Context(), peer); err != nil {
		t.Fatal(err)
	}
	if _, err := c.admit(t.Context(), peer); !errors.Is(err, pairing.ErrRevoked) || !strings.Contains(err.Error(), "the source itself") {
		t.Errorf("got %v, want ErrRevoked by the source", err)
	}
}

func TestAuthorityRotates(t *testing.T) {
	c := newClusters(t)
	absent, peer := join(t, c), join(t, c)
	first := c.issuer.Ring.Current()
	next, err := pairing.NewAuthority("target-id", c.now)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := c.issuer.Ring.Rotated(next, c.now, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.issuer.Ring = rotated
	moved, err := c.joiner.Follow(t.Context(), peer, peer.Endpoint, []string{"10.9.9.9:1", "no address"}, next.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	if known, err := moved.AuthorityFingerprint(); err != nil || known != next.Fingerprint() {
		t.Errorf("the source trusts %s, %v", known, err)
	}
	if len(moved.Addresses) != 1 {
		t.Errorf("addresses %q", moved.Addresses)
	}
	// One that was away meanwhile knows the first authority only.
	c.now = c.now.Add(20 * 24 * time.Hour)
	if got := c.issuer.Ring.Known([]string{"h2", first.Fingerprint().Hint()}, c.now); got.Fingerprint() != first.Fingerprint() {
		t.Error("a server for the first authority is not shown any more")
	}
	back, err := c.joiner.Renew(t.Context(), absent)
	if err != nil {
		t.Fatal(err)
	}
	if known, _ := back.AuthorityFingerprint(); known != next.Fingerprint() {
		t.Error("it still trusts the first authority")
	}
	c.now = c.now.Add(pairing.DefaultOverlap)
	if left := c.issuer.Ring.Retired(c.now); len(left) != 0 {
		t.Errorf("%d authorities are still honoured", len(left))
	}
	other, err := pairing.NewAuthority("third-id", c.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.issuer.Ring.Rotated(other, c.now, 0); !errors.Is(err, pairing.ErrCertificate) {
		t.Errorf("another cluster's authority: %v, want ErrCertificate", err)
	}
}

func TestBothDirections(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		source, target := newClusters(t), newClusters(t)
		token, err := pairing.Mint(t.Context(), &target.grants, pairing.MintRequest{
			Scope: cms(), Endpoint: "10.0.0.1:9020", ClusterID: "target-id", Bidirectional: allowed,
			CAFingerprint: target.issuer.Ring.Current().Fingerprint(),
		}, target.now, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		target.joiner.Offer = func(ctx context.Context, p pairing.ClusterPair) (pairing.Token, error) {
			return pairing.Mint(ctx, &source.grants, pairing.MintRequest{
				Scope: pairing.Scope{Namespaces: []string{p.Namespace}}, Endpoint: "10.0.0.9:9020", ClusterID: "source-id",
				CAFingerprint: pairing.Fingerprint{1},
			}, source.now, rand.Reader)
		}
		peer, err := target.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms", Name: "west", Bidirectional: true})
		if err != nil {
			t.Fatal(err)
		}
		incoming, err := target.peers.Get(t.Context(), pairing.Incoming, peer.PairID)
		if err != nil {
			t.Fatal(err)
		}
		if got := incoming.Return != ""; got != allowed {
			t.Errorf("allowed %t: the target has a token for the way back: %t", allowed, got)
		}
		if allowed && (incoming.Twin == "" || incoming.Twin != peer.Twin) {
			t.Errorf("twins %q and %q", incoming.Twin, peer.Twin)
		}
	}
}

func TestSuperseded(t *testing.T) {
	c := newClusters(t)
	first, second := c.mint(t, cms()), c.mint(t, cms())
	p := pairing.ClusterPair{Namespace: "cms", Name: "west"}
	c.lose = true
	for _, token := range []pairing.Token{first, second} {
		if _, err := c.joiner.Join(t.Context(), token, p); !errors.Is(err, errLost) {
			t.Fatal(err)
		}
	}
	left, err := pairing.Superseded(t.Context(), c.joiner.Peers, p, second.ID)
	if err != nil || len(left) != 1 || left[0].PairID != first.ID {
		t.Errorf("%+v, %v", left, err)
	}
}

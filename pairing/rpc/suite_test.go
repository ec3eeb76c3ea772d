package rpc_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"strings"
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

// attempt is one way to get in. It must fail, and somebody must be told: the
// target's log, or the source where the target is the one that is played.
type attempt struct {
	group, name string
	try         func(t *testing.T, c *target) error
	// logged is what the target's log says; empty where told says it.
	logged string
	// told is what the one who is protected is told.
	told string
}

const (
	byToken       = "A token that is guessed, stolen or replayed"
	byRequest     = "A request that is forged, malformed or too large"
	byCertificate = "A certificate that is stolen, forged or revoked"
	byRecovery    = "An expired certificate that is renewed by somebody else"
	byWire        = "The connection itself"
)

// redeem sends a request that was honest until change spoiled it.
func redeem(change func(c *target, r *godwitv1.RedeemRequest)) func(*testing.T, *target) error {
	return func(t *testing.T, c *target) error {
		r := honest(t, c, c.mint(t), "source-id")
		change(c, r)
		_, err := godwitv1.NewPairingServiceClient(connect(t, c.endpoint, blind())).Redeem(t.Context(), r)
		return err
	}
}

func honest(t *testing.T, c *target, token pairing.Token, clusterID string) *godwitv1.RedeemRequest {
	t.Helper()
	r := rawRequest(t, token, clusterID)
	return &godwitv1.RedeemRequest{
		TokenId: token.ID, Secret: []byte(token.Secret.Reveal()), ClusterId: clusterID, Namespace: "cms", Name: "west",
		CertificateRequest: r.CertificateRequest, SealingKey: r.SealingPublicKey,
	}
}

// again redeems what was redeemed before, after between.
func again(between func(t *testing.T, c *target, r *godwitv1.RedeemRequest)) func(*testing.T, *target) error {
	return func(t *testing.T, c *target) error {
		r := honest(t, c, c.mint(t), "source-id")
		client := godwitv1.NewPairingServiceClient(connect(t, c.endpoint, blind()))
		if _, err := client.Redeem(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		between(t, c, r)
		_, err := client.Redeem(t.Context(), r)
		return err
	}
}

// shows calls with a certificate that make made out of an honest pair's.
func shows(make func(t *testing.T, c *target, peer pairing.Peer) tls.Certificate) func(*testing.T, *target) error {
	return func(t *testing.T, c *target) error {
		_, err := rpc.Check(t.Context(), connect(t, c.endpoint, blind(make(t, c, c.join(t)))))
		return err
	}
}

func certificateOf(t *testing.T, p pairing.Peer) tls.Certificate {
	t.Helper()
	certificate, err := p.TLSCertificate()
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// signed is a leaf that the target's own authority signs, as only a thief of its
// key could have it made.
func signed(t *testing.T, a *pairing.Authority, template *x509.Certificate) tls.Certificate {
	t.Helper()
	secret, err := a.Key()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := x509.ParsePKCS8PrivateKey([]byte(secret.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(a.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return leafOf(t, template, ca, signer)
}

func leafOf(t *testing.T, template, ca *x509.Certificate, signer any) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func pairURI(pair, cluster string) *url.URL {
	return &url.URL{Scheme: "godwit", Host: "pair", Path: "/" + pair + "/cluster/" + cluster}
}

func csr(t *testing.T, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func tokenAttempts() []attempt {
	return []attempt{
		{byToken, "a token of nobody", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.TokenId = "0badc0de" }), "does not know this token", ""},
		{byToken, "a guessed secret", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.Secret = bytes.Repeat([]byte("x"), 32) }), "secret is wrong", ""},
		{byToken, "no secret", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.Secret = nil }), "secret is wrong", ""},
		{byToken, "a secret cut short", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.Secret = r.Secret[:31] }), "secret is wrong", ""},
		{byToken, "a megabyte of secret", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.Secret = make([]byte, 1<<20) }), "secret is wrong", ""},
		{byToken, "an expired token", redeem(func(c *target, _ *godwitv1.RedeemRequest) { c.wait(2 * time.Hour) }), "expired at", ""},
		{byToken, "a token that was taken back", redeem(func(c *target, _ *godwitv1.RedeemRequest) {
			_, _ = pairing.VoidOpen(context.Background(), &c.grants)
		}), "taken back", ""},
		{byToken, "a token used by another cluster", again(func(_ *testing.T, _ *target, r *godwitv1.RedeemRequest) { r.ClusterId = "other-id" }), "used already", ""},
		{byToken, "a token stolen and used under the same name", again(func(t *testing.T, c *target, r *godwitv1.RedeemRequest) {
			r.CertificateRequest = rawRequest(t, c.mint(t), "source-id").CertificateRequest
		}), "used already", ""},
		{byToken, "a redemption replayed later", again(func(_ *testing.T, c *target, _ *godwitv1.RedeemRequest) { c.wait(11 * time.Minute) }), "used already", ""},
		{byToken, "a redemption replayed after the pair was revoked", again(func(t *testing.T, c *target, r *godwitv1.RedeemRequest) {
			if err := c.peers.Delete(t.Context(), pairing.Incoming, r.GetTokenId()); err != nil {
				t.Fatal(err)
			}
		}), "removed on the target", ""},
		{byToken, "a token for another namespace", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.Namespace = "shop" }), "for another namespace", ""},
		{byToken, "every namespace at once", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.Namespace = "*" }), "is no namespace", ""},
		{byToken, "no namespace", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.Namespace = "" }), "is no namespace", ""},
		{byToken, "the cluster's own token", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.ClusterId = "target-id" }), "paired with itself", ""},
		{byToken, "many guesses from one address", func(t *testing.T, c *target) error {
			var err error
			for range 30 {
				err = redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.Secret = []byte("guess") })(t, c)
			}
			if status.Code(err) != codes.ResourceExhausted {
				return fmt.Errorf("the 30th guess: %w", err)
			}
			return err
		}, "too many tries", ""},
	}
}

func requestAttempts() []attempt {
	return []attempt{
		{byRequest, "a token id that is a path", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.TokenId = "../../authority" }), "is no token id", ""},
		{byRequest, "a token id that writes log lines", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.TokenId = "x\nlevel=INFO" }), "is no token id", ""},
		{byRequest, "a cluster id that is a path", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.ClusterId = "a/cluster/b" }), "is no cluster id", ""},
		{byRequest, "a ClusterPair's name that is a path", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.Name = "../west" }), "is no name", ""},
		{byRequest, "a cluster name of control characters", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.ClusterName = "x\x1b[2J" }), "is no cluster name", ""},
		{byRequest, "no certificate request", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.CertificateRequest = nil }), "certificate request", ""},
		{byRequest, "a certificate request of somebody else's key", redeem(func(_ *target, r *godwitv1.RedeemRequest) {
			r.CertificateRequest[len(r.CertificateRequest)-1] ^= 1
		}), "certificate request", ""},
		{byRequest, "a certificate in place of a request", redeem(func(c *target, r *godwitv1.RedeemRequest) { r.CertificateRequest = c.authority.Certificate() }), "certificate request", ""},
		{byRequest, "a weak key", func(t *testing.T, c *target) error {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			return redeem(func(_ *target, r *godwitv1.RedeemRequest) {
				r.CertificateRequest = csr(t, key, &x509.CertificateRequest{})
			})(t, c)
		}, "neither ECDSA nor Ed25519", ""},
		{byRequest, "a curve that is too small", func(t *testing.T, c *target) error {
			key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return redeem(func(_ *target, r *godwitv1.RedeemRequest) {
				r.CertificateRequest = csr(t, key, &x509.CertificateRequest{})
			})(t, c)
		}, "curve", ""},
		{byRequest, "a request to be an authority, or another pair", askToBeMore, "", "took nothing"},
		{byRequest, "a sealing key that is none", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.SealingKey = []byte("short") }), "sealing key", ""},
		{byRequest, "a way back that leads to a third cluster", func(t *testing.T, c *target) error {
			third := newTarget(t, "third-id")
			line, err := third.mint(t).Encode()
			if err != nil {
				t.Fatal(err)
			}
			return redeem(func(c *target, r *godwitv1.RedeemRequest) {
				grant, _ := c.grants.Get(context.Background(), r.GetTokenId())
				grant.Bidirectional = true
				_, _ = c.grants.Put(context.Background(), grant)
				r.ReturnToken = line
			})(t, c)
		}, "other direction", ""},
		{byRequest, "five megabytes", redeem(func(_ *target, r *godwitv1.RedeemRequest) { r.CertificateRequest = make([]byte, 5<<20) }), "", "larger than max"},
		{byRequest, "bytes that are no message", func(t *testing.T, c *target) error {
			return connect(t, c.endpoint, blind()).Invoke(t.Context(), godwitv1.PairingService_Redeem_FullMethodName, []byte{0xff, 0xff}, &[]byte{}, grpc.ForceCodec(rawCodec{}))
		}, "", "unmarshal"},
		{byRequest, "a method that is not served", func(t *testing.T, c *target) error {
			return connect(t, c.endpoint, blind()).Invoke(t.Context(), "/godwit.v1.PairingService/Grant", &godwitv1.CheckRequest{}, &godwitv1.CheckResponse{})
		}, "", "unknown method"},
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)   { b, _ := v.([]byte); return b, nil }
func (rawCodec) Unmarshal(_ []byte, _ any) error { return nil }
func (rawCodec) Name() string                    { return "proto" }

// askToBeMore is let in, as what its token says and nothing more.
func askToBeMore(t *testing.T, c *target) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := honest(t, c, c.mint(t), "source-id")
	r.CertificateRequest = csr(t, key, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "godwit pairing authority", SerialNumber: "target-id"}, URIs: []*url.URL{pairURI("other", "other")},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}},
	})
	answer, err := godwitv1.NewPairingServiceClient(connect(t, c.endpoint, blind())).Redeem(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(answer.GetCertificate())
	if err != nil {
		t.Fatal(err)
	}
	id, err := pairing.IdentityOf(leaf)
	if err != nil || leaf.IsCA || id.PairID != r.GetTokenId() || id.ClusterID != "source-id" || leaf.Subject.SerialNumber != "" {
		return nil
	}
	return errors.New("the certificate took nothing from the request but its key")
}

func certificateAttempts() []attempt {
	return []attempt{
		{byCertificate, "none", func(t *testing.T, c *target) error {
			_, err := rpc.Check(t.Context(), connect(t, c.endpoint, blind()))
			return err
		}, "none was shown", ""},
		{byCertificate, "none, at a service beside ours", func(t *testing.T, c *target) error {
			_, err := healthv1.NewHealthClient(connect(t, c.endpoint, blind())).List(t.Context(), &healthv1.HealthListRequest{})
			return err
		}, "none was shown", ""},
		{byCertificate, "none, at a stream", func(t *testing.T, c *target) error {
			stream, err := healthv1.NewHealthClient(connect(t, c.endpoint, blind())).Watch(t.Context(), &healthv1.HealthCheckRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}, "none was shown", ""},
		{byCertificate, "stolen, without its key", shows(func(t *testing.T, _ *target, p pairing.Peer) tls.Certificate {
			certificate := certificateOf(t, p)
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			certificate.PrivateKey = key
			return certificate
		}), "invalid signature by the client certificate", ""},
		{byCertificate, "of another authority", shows(func(t *testing.T, _ *target, _ pairing.Peer) tls.Certificate {
			return certificateOf(t, newTarget(t, "target-id").join(t))
		}), "signed by unknown authority", ""},
		{byCertificate, "signed by itself", shows(func(t *testing.T, _ *target, p pairing.Peer) tls.Certificate {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			template := &x509.Certificate{URIs: []*url.URL{pairURI(p.PairID, "source-id")}}
			return leafOf(t, template, template, key)
		}), "signed by unknown authority", ""},
		{byCertificate, "signed by a pair's own certificate", shows(func(t *testing.T, _ *target, p pairing.Peer) tls.Certificate {
			mine := certificateOf(t, p)
			forged := leafOf(t, &x509.Certificate{URIs: []*url.URL{pairURI("other", "source-id")}}, mine.Leaf, mine.PrivateKey)
			forged.Certificate = append(forged.Certificate, mine.Certificate...)
			return forged
		}), "cannot sign this kind of certificate", ""},
		{byCertificate, "the target's own, as a server", shows(func(t *testing.T, c *target, _ pairing.Peer) tls.Certificate {
			certificate, err := c.authority.ServerCertificate(nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return certificate
		}), "incompatible key usage", ""},
		{byCertificate, "of a pair that never was", shows(func(t *testing.T, c *target, _ pairing.Peer) tls.Certificate {
			return signed(t, c.authority, &x509.Certificate{URIs: []*url.URL{pairURI("0badc0de", "source-id")}})
		}), "removed on the target", ""},
		{byCertificate, "of the pair, but another cluster", shows(func(t *testing.T, c *target, p pairing.Peer) tls.Certificate {
			return signed(t, c.authority, &x509.Certificate{URIs: []*url.URL{pairURI(p.PairID, "other-id")}})
		}), "removed on the target", ""},
		{byCertificate, "of the pair, made behind its back", shows(func(t *testing.T, c *target, p pairing.Peer) tls.Certificate {
			return signed(t, c.authority, &x509.Certificate{URIs: []*url.URL{pairURI(p.PairID, "source-id")}})
		}), "its key was replaced", ""},
		{byCertificate, "that names no pair", shows(func(t *testing.T, c *target, _ pairing.Peer) tls.Certificate {
			return signed(t, c.authority, &x509.Certificate{})
		}), "names no pair", ""},
		{byCertificate, "that names two pairs", shows(func(t *testing.T, c *target, p pairing.Peer) tls.Certificate {
			return signed(t, c.authority, &x509.Certificate{URIs: []*url.URL{pairURI(p.PairID, "source-id"), pairURI("other", "source-id")}})
		}), "names no pair", ""},
		{byCertificate, "that names a host", shows(func(t *testing.T, c *target, _ pairing.Peer) tls.Certificate {
			return signed(t, c.authority, &x509.Certificate{DNSNames: []string{"godwit"}, URIs: []*url.URL{{Scheme: "https", Host: "pair", Path: "/a/cluster/b"}}})
		}), "names no pair", ""},
		{byCertificate, "that begins tomorrow", shows(func(t *testing.T, c *target, p pairing.Peer) tls.Certificate {
			return signed(t, c.authority, &x509.Certificate{
				URIs: []*url.URL{pairURI(p.PairID, "source-id")}, NotBefore: time.Now().Add(24 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
			})
		}), "not yet valid", ""},
		{byCertificate, "expired", shows(func(t *testing.T, c *target, p pairing.Peer) tls.Certificate {
			c.wait(25 * time.Hour)
			return certificateOf(t, p)
		}), "certificate has expired", ""},
		{byCertificate, "expired, on a connection that was open", onOpenConnection(func(_ *testing.T, c *target, _ pairing.Peer) { c.wait(25 * time.Hour) }), "it expired at", ""},
		{byCertificate, "revoked, on a connection that was open", onOpenConnection(func(t *testing.T, c *target, p pairing.Peer) {
			if err := pairing.Revoke(t.Context(), &c.grants, &c.peers, p.PairID); err != nil {
				t.Fatal(err)
			}
		}), "removed on the target", ""},
		{byCertificate, "of a pair that the source left", onOpenConnection(func(t *testing.T, _ *target, p pairing.Peer) {
			if err := (rpc.Client{Now: time.Now}).Leave(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}), "the source itself removed it", ""},
		{byCertificate, "stolen before the key was rotated", onOpenConnection(func(t *testing.T, c *target, p pairing.Peer) {
			source := newSource("source-id")
			p.Version = ""
			stored, err := source.Peers.Put(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			rotated, err := source.Rotate(t.Context(), stored)
			if err != nil {
				t.Fatal(err)
			}
			if err := check(t, rotated); err != nil {
				t.Fatal(err)
			}
		}), "its key was replaced", ""},
		{byCertificate, "of an authority whose overlap is over", shows(func(t *testing.T, c *target, p pairing.Peer) tls.Certificate {
			next, err := pairing.NewAuthority("target-id", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			c.ring.Replace(next, pairing.Retired{Authority: c.authority, Until: time.Now().Add(-time.Second)})
			return certificateOf(t, p)
		}), "signed by unknown authority", ""},
	}
}

// onOpenConnection calls again after something has happened to the pair.
func onOpenConnection(happens func(t *testing.T, c *target, p pairing.Peer)) func(*testing.T, *target) error {
	return func(t *testing.T, c *target) error {
		peer := c.join(t)
		conn := dial(t, peer)
		if _, err := rpc.Check(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		happens(t, c, peer)
		_, err := rpc.Check(t.Context(), conn)
		return err
	}
}

// recovers asks for a certificate in place of an expired one.
func recovers(after time.Duration, change func(t *testing.T, c *target, r *godwitv1.RecoverRequest, p pairing.Peer)) func(*testing.T, *target) error {
	return func(t *testing.T, c *target) error {
		peer := c.join(t)
		c.wait(after)
		r := &godwitv1.RecoverRequest{Certificate: peer.Certificate, CertificateRequest: requestOf(t, peer)}
		change(t, c, r, peer)
		_, err := godwitv1.NewPairingServiceClient(connect(t, c.endpoint, blind())).Recover(t.Context(), r)
		return err
	}
}

func requestOf(t *testing.T, p pairing.Peer) []byte {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey([]byte(p.ClientKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := key.(crypto.Signer)
	return csr(t, signer, &x509.CertificateRequest{})
}

func recoveryAttempts() []attempt {
	const late = 48 * time.Hour
	return []attempt{
		{byRecovery, "with another key", recovers(late, func(t *testing.T, c *target, r *godwitv1.RecoverRequest, _ pairing.Peer) {
			r.CertificateRequest = requestOf(t, newTarget(t, "x").join(t))
		}), "not made with the certificate's key", ""},
		{byRecovery, "after the grace", recovers(32*24*time.Hour, func(*testing.T, *target, *godwitv1.RecoverRequest, pairing.Peer) {}), "past renewal", ""},
		{byRecovery, "of a revoked pair", recovers(late, func(t *testing.T, c *target, _ *godwitv1.RecoverRequest, p pairing.Peer) {
			if err := pairing.Revoke(t.Context(), &c.grants, &c.peers, p.PairID); err != nil {
				t.Fatal(err)
			}
		}), "removed on the target", ""},
		{byRecovery, "of another authority's pair", recovers(late, func(t *testing.T, _ *target, r *godwitv1.RecoverRequest, _ pairing.Peer) {
			other := newTarget(t, "target-id").join(t)
			r.Certificate, r.CertificateRequest = other.Certificate, requestOf(t, other)
		}), "signed by unknown authority", ""},
		{byRecovery, "of a certificate with an edit", recovers(late, func(_ *testing.T, _ *target, r *godwitv1.RecoverRequest, _ pairing.Peer) {
			r.Certificate = bytes.Clone(r.GetCertificate())
			r.Certificate[len(r.Certificate)-1] ^= 1
		}), "recovery refused", ""},
		{byRecovery, "of the authority itself", recovers(late, func(_ *testing.T, c *target, r *godwitv1.RecoverRequest, _ pairing.Peer) {
			r.Certificate = c.authority.Certificate()
		}), "recovery refused", ""},
		{byRecovery, "of nothing", recovers(late, func(_ *testing.T, _ *target, r *godwitv1.RecoverRequest, _ pairing.Peer) { r.Certificate = nil }), "recovery refused", ""},
	}
}

func wireAttempts() []attempt {
	speaks := func(creds credentials.TransportCredentials) func(*testing.T, *target) error {
		return func(t *testing.T, c *target) error {
			_, err := godwitv1.NewPairingServiceClient(connect(t, c.endpoint, creds)).Redeem(t.Context(), &godwitv1.RedeemRequest{TokenId: "x"})
			return err
		}
	}
	old := func(version uint16) credentials.TransportCredentials {
		return credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
	}
	return []attempt{
		{byWire, "TLS 1.2", speaks(old(tls.VersionTLS12)), "unsupported versions", ""},
		{byWire, "TLS 1.0", speaks(old(tls.VersionTLS10)), "unsupported versions", ""},
		{byWire, "no TLS", speaks(insecure.NewCredentials()), "does not look like a TLS handshake", ""},
		{byWire, "HTTP", func(t *testing.T, c *target) error {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", c.endpoint)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // a test's
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				return err
			}
			answer, err := io.ReadAll(conn)
			if err == nil && bytes.Contains(answer, []byte("200")) {
				return nil
			}
			return fmt.Errorf("answered %q, %w", answer, io.ErrUnexpectedEOF)
		}, "does not look like a TLS handshake", ""},
		{byWire, "a man in the middle of a redemption", func(t *testing.T, c *target) error {
			token := c.mint(t)
			token.Endpoint = newTarget(t, "target-id").endpoint
			_, err := newSource("source-id").Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
			return err
		}, "", "does not come from the paired cluster"},
		{byWire, "a man in the middle of a pair", func(t *testing.T, c *target) error {
			peer := c.join(t)
			peer.Endpoint = newTarget(t, "target-id").endpoint
			return check(t, peer)
		}, "", "does not come from the paired cluster"},
		{byWire, "a paired source that plays the target", func(t *testing.T, c *target) error {
			peer := c.join(t)
			certificate := certificateOf(t, peer)
			certificate.Certificate = append(certificate.Certificate, peer.Authority)
			peer.Endpoint = serveTLS(t, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
			return check(t, peer)
		}, "", "does not come from the paired cluster"},
		{byWire, "another cluster of the same authority", func(t *testing.T, c *target) error {
			peer := c.join(t)
			peer.ClusterID = "third-id"
			return check(t, peer)
		}, "", "is not cluster third-id's"},
		{byWire, "a server that speaks TLS 1.2", func(t *testing.T, c *target) error {
			peer := c.join(t)
			certificate, err := c.authority.ServerCertificate(nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			peer.Endpoint = serveTLS(t, &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12})
			return check(t, peer)
		}, "", "does not accept this pair's"},
	}
}

func attempts() []attempt {
	all := append(tokenAttempts(), requestAttempts()...)
	all = append(all, certificateAttempts()...)
	all = append(all, recoveryAttempts()...)
	all = append(all, replacingAttempts()...)
	all = append(all, excessAttempts()...)
	return append(all, wireAttempts()...)
}

func TestAttempts(t *testing.T) {
	all := attempts()
	if len(all) < 40 {
		t.Errorf("%d attempts are fewer than 40", len(all))
	}
	seen := map[string]bool{}
	for _, a := range all {
		if key := a.group + a.name; seen[key] {
			t.Errorf("%q is there twice", key)
		} else {
			seen[key] = true
		}
		t.Run(a.group+"/"+a.name, func(t *testing.T) {
			t.Parallel()
			c := newTarget(t, "target-id")
			err := a.try(t, c)
			if err == nil {
				t.Fatal("it got in")
			}
			if a.logged == "" && (a.told == "" || !strings.Contains(err.Error(), a.told)) {
				t.Errorf("got %v, want it to say %q", err, a.told)
			}
			if a.logged != "" {
				c.log.await(t, a.logged)
			}
		})
	}
}

// await gives the server the moment that it needs to write what it refused, when
// the connection is closed before.
func (b *lockedBuffer) await(t *testing.T, words string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(b.String(), words) {
			return
		}
	}
	t.Errorf("the log does not say %q:\n%s", words, b.String())
}

// docsOf is the page that lists the attempts, held to be what is tried here.
const docsOf = "../../docs/security.md"

func TestAttemptsAreListed(t *testing.T) {
	var table strings.Builder
	group := ""
	for _, a := range attempts() {
		if a.group != group {
			group = a.group
			fmt.Fprintf(&table, "\n%s:\n\n| attempt | what says so |\n| --- | --- |\n", group)
		}
		says := "log: " + a.logged
		if a.logged == "" {
			says = "error: " + a.told
		}
		fmt.Fprintf(&table, "| %s | %s |\n", a.name, says)
	}
	const begin, end = "<!-- attempts on pairing, held by pairing/rpc's tests -->\n", "<!-- end of attempts on pairing -->"
	page, err := os.ReadFile(docsOf)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	now, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s lacks the marks %q and %q", docsOf, begin, end)
	}
	if want := table.String() + "\n"; now != want {
		if os.Getenv("GODWIT_UPDATE") == "" {
			t.Fatalf("%s does not list what is tried: run this test with GODWIT_UPDATE=1", docsOf)
		}
		if err := os.WriteFile(docsOf, []byte(before+begin+want+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

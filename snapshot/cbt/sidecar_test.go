package cbt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/snapshot"
)

// gate plays a cluster's sidecar: it knows one token at a time, and breaks each
// first answer after a message.
type gate struct {
	api.UnimplementedSnapshotMetadataServer
	tokens *issuer
	calls  int
}

func (g *gate) admit(token, namespace, name string) error {
	switch {
	case token != g.tokens.last:
		return status.Error(codes.Unauthenticated, "unauthenticated user")
	case namespace != "godwit-system":
		return status.Error(codes.PermissionDenied, "user does not have permissions to perform the operation")
	case name != "snap":
		return status.Errorf(codes.Unavailable, "failed to get VolumeSnapshot '%s/%s'", namespace, name)
	}
	return nil
}

func (g *gate) GetMetadataAllocated(r *api.GetMetadataAllocatedRequest, s api.SnapshotMetadata_GetMetadataAllocatedServer) error {
	if err := g.admit(r.GetSecurityToken(), r.GetNamespace(), r.GetSnapshotName()); err != nil {
		return err
	}
	return s.Send(&api.GetMetadataAllocatedResponse{
		BlockMetadataType: api.BlockMetadataType_FIXED_LENGTH, VolumeCapacityBytes: mib,
		BlockMetadata: []*api.BlockMetadata{{ByteOffset: 0, SizeBytes: 64 * kib}, {ByteOffset: 64 * kib, SizeBytes: 64 * kib}},
	})
}

func (g *gate) GetMetadataDelta(r *api.GetMetadataDeltaRequest, s api.SnapshotMetadata_GetMetadataDeltaServer) error {
	if err := g.admit(r.GetSecurityToken(), r.GetNamespace(), r.GetTargetSnapshotName()); err != nil {
		return err
	}
	if r.GetBaseSnapshotId() != "handle-1" {
		return status.Error(codes.NotFound, "no such base")
	}
	g.calls++
	for at := r.GetStartingOffset(); at < 4*64*kib; at += 64 * kib {
		err := s.Send(&api.GetMetadataDeltaResponse{
			BlockMetadataType: api.BlockMetadataType_VARIABLE_LENGTH, VolumeCapacityBytes: mib,
			BlockMetadata: []*api.BlockMetadata{{ByteOffset: at, SizeBytes: 4 * kib}},
		})
		if err != nil {
			return err
		}
		if g.calls == 1 {
			return status.Error(codes.Internal, "the driver went away")
		}
	}
	return nil
}

// issuer gives another token each time.
type issuer struct {
	last string
	n    int
	err  error
}

func (i *issuer) Token(_ context.Context, audience string) (Token, error) {
	if i.err != nil {
		return "", i.err
	}
	i.n++
	i.last = fmt.Sprintf("token-%d-%s", i.n, audience)
	return Token(i.last), nil
}

// certificate returns a certificate for localhost that is its own authority.
func certificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sidecar"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open serves a gate and returns what a SnapshotMetadataService would say of it.
func open(t *testing.T) (*gate, Service) {
	t.Helper()
	cert, ca := certificate(t)
	g := &gate{tokens: &issuer{}}
	srv := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	api.RegisterSnapshotMetadataServer(srv, g)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		must(t, <-ended)
	})
	return g, Service{Address: lis.Addr().String(), Audience: "disk.example.com", CA: ca}
}

func sidecarClient(t *testing.T, s Service, tokens Tokens, target Target) *Client {
	t.Helper()
	c, err := Sidecar(s, tokens, target)
	must(t, err)
	c.wait = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func TestSidecar(t *testing.T) {
	g, service := open(t)
	c := sidecarClient(t, service, g.tokens, Target{"godwit-system", "snap"})
	m, err := c.Allocated(t.Context())
	if err != nil || m.Capacity != mib || !slices.Equal(m.Extents, []snapshot.Extent{ext(0, 128*kib)}) {
		t.Errorf("%+v, %v", m, err)
	}
	if g.tokens.last != "token-1-disk.example.com" {
		t.Errorf("token %q", g.tokens.last)
	}
	m, err = c.Delta(t.Context(), "handle-1")
	if err != nil || len(m.Extents) != 4 || m.Resumed != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	if g.tokens.n != 3 {
		t.Errorf("%d tokens for three streams: a token may run out while an answer comes", g.tokens.n)
	}
	if _, err := c.Delta(t.Context(), "handle-0"); !errors.Is(err, snapshot.ErrNoBase) {
		t.Errorf("%v, want ErrNoBase", err)
	}
}

func TestSidecarRefuses(t *testing.T) {
	g, service := open(t)
	_, otherCA := certificate(t)
	withCA, nowhere := service, service
	withCA.CA, nowhere.Address = otherCA, "127.0.0.1:1"
	forbidden := &issuer{err: &Error{Reason: Denied, Problem: "may not create tokens"}}
	for name, c := range map[string]struct {
		service Service
		tokens  Tokens
		target  Target
		want    Reason
		text    string
	}{
		"another's token":   {service, &issuer{}, Target{"godwit-system", "snap"}, Denied, "unauthenticated user"},
		"other namespace":   {service, g.tokens, Target{"cms", "snap"}, Denied, "may get VolumeSnapshots"},
		"no such snapshot":  {service, g.tokens, Target{"godwit-system", "x"}, Unreachable, "failed to get VolumeSnapshot"},
		"another authority": {withCA, g.tokens, Target{"godwit-system", "snap"}, Unreachable, "certificate"},
		"nobody there":      {nowhere, g.tokens, Target{"godwit-system", "snap"}, Unreachable, "check the address"},
		"no token":          {service, forbidden, Target{"godwit-system", "snap"}, Denied, "may not create tokens"},
		"token later":       {service, &issuer{err: errors.New("etcd is slow")}, Target{"godwit-system", "snap"}, Unreachable, `get a token for audience "disk.example.com": etcd is slow`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sidecarClient(t, c.service, c.tokens, c.target).Allocated(t.Context())
			if ReasonOf(err) != c.want || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("%v, want reason %s and %q", err, c.want, c.text)
			}
			if g.tokens.last != "" && strings.Contains(fmt.Sprint(err), g.tokens.last) {
				t.Errorf("%v tells a token", err)
			}
		})
	}
	if _, err := Sidecar(Service{Address: "x:1", CA: []byte("none")}, g.tokens, Target{}); ReasonOf(err) != Unreachable {
		t.Errorf("%v: an authority that is none", err)
	}
}

func TestTokensHideThemselves(t *testing.T) {
	for _, format := range []string{"%s", "%v", "%+v", "%#v", "%q"} {
		if text := fmt.Sprintf(format, Token("secret-1")); strings.Contains(text, "secret-1") {
			t.Errorf("%s prints %s", format, text)
		}
		if text := fmt.Sprintf(format, struct{ T Token }{"secret-1"}); strings.Contains(text, "secret-1") {
			t.Errorf("%s prints %s", format, text)
		}
	}
}

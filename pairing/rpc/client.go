package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/godwit-io/godwit/pairing"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

const (
	// callTimeout is a call's where the caller sets none.
	callTimeout = 30 * time.Second
	// connectTimeout is how long one address may take to answer.
	connectTimeout = 10 * time.Second
	maxReconnect   = 30 * time.Second
)

// Client is the source's end of the wire.
type Client struct {
	// Now is the clock that certificates are held against.
	Now func() time.Time
}

var _ pairing.Exchange = Client{}

// Dial gives a connection to the target of an Outgoing peer, by mutual TLS
// pinned to the pair's authority. It connects with the first call, and again
// whenever it must. Every call on it has a deadline and errors of its own
// words: ErrUnreachable, ErrImpostor, ErrRevoked, ErrCertificate.
func (c Client) Dial(peer pairing.Peer) (*grpc.ClientConn, error) {
	certificate, err := peer.TLSCertificate()
	if err != nil {
		return nil, err
	}
	authority, err := x509.ParseCertificate(peer.Authority)
	if err != nil {
		return nil, fmt.Errorf("pair %s: read authority: %w", peer.PairID, err)
	}
	return c.dial(peer.Endpoint, pairing.FingerprintOf(authority), &certificate, func(chain []*x509.Certificate) error {
		return pairing.VerifyServer(chain, authority, peer.ClusterID, c.Now())
	})
}

// Redeem is pairing.Exchange's. The target is pinned by the token's fingerprint.
func (c Client) Redeem(ctx context.Context, t pairing.Token, r pairing.RedeemRequest) (pairing.Redeemed, error) {
	conn, err := c.dial(t.Endpoint, t.CAFingerprint, nil, func(chain []*x509.Certificate) error {
		return pairing.VerifyPinned(chain, t.CAFingerprint, t.ClusterID, c.Now())
	})
	if err != nil {
		return pairing.Redeemed{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection that has answered
	request := &godwitv1.RedeemRequest{
		TokenId: r.TokenID, Secret: []byte(r.Secret.Reveal()),
		ClusterId: r.ClusterID, ClusterName: r.ClusterName, Namespace: r.Namespace, Name: r.Name,
		ReturnToken: r.Return.Reveal(), CertificateRequest: r.CertificateRequest, SealingKey: r.SealingPublicKey,
	}
	if s := r.Shared; s != nil {
		request.SharedRepository = &godwitv1.SharedRepository{Prefix: s.Prefix, Password: s.Password.Reveal(), EpochSeed: []byte(s.EpochSeed.Reveal())}
	}
	answer, err := godwitv1.NewPairingServiceClient(conn).Redeem(ctx, request)
	if err != nil {
		return pairing.Redeemed{}, err
	}
	return pairing.Redeemed{
		PairID: answer.GetPairId(), Certificate: answer.GetCertificate(), Authority: answer.GetAuthority(),
		ClusterID: answer.GetClusterId(), ClusterName: answer.GetClusterName(),
		Scope:              pairing.Scope{Namespaces: answer.GetNamespaces(), Admin: answer.GetAdmin()},
		RepositoryPassword: pairing.Secret(answer.GetRepositoryPassword()),
		RepositoryPrefix:   answer.GetRepositoryPrefix(), BackupLocation: answer.GetBackupLocation(),
	}, nil
}

// Renew is pairing.Exchange's.
func (c Client) Renew(ctx context.Context, p pairing.Peer, certificateRequest []byte) (pairing.Renewed, error) {
	conn, err := c.Dial(p)
	if err != nil {
		return pairing.Renewed{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection that has answered
	answer, err := godwitv1.NewPairingServiceClient(conn).Renew(ctx,
		&godwitv1.RenewRequest{CertificateRequest: certificateRequest})
	if err != nil {
		return pairing.Renewed{}, err
	}
	return pairing.Renewed{Certificate: answer.GetCertificate(), Authority: answer.GetAuthority()}, nil
}

// Recover is pairing.Exchange's. The target is pinned as ever; the certificate
// that it would not take goes along as a document.
func (c Client) Recover(ctx context.Context, p pairing.Peer, certificateRequest []byte) (pairing.Renewed, error) {
	authority, err := x509.ParseCertificate(p.Authority)
	if err != nil {
		return pairing.Renewed{}, fmt.Errorf("pair %s: read authority: %w", p.PairID, err)
	}
	conn, err := c.dial(p.Endpoint, pairing.FingerprintOf(authority), nil, func(chain []*x509.Certificate) error {
		return pairing.VerifyServer(chain, authority, p.ClusterID, c.Now())
	})
	if err != nil {
		return pairing.Renewed{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection that has answered
	answer, err := godwitv1.NewPairingServiceClient(conn).Recover(ctx,
		&godwitv1.RecoverRequest{Certificate: p.Certificate, CertificateRequest: certificateRequest})
	if err != nil {
		return pairing.Renewed{}, err
	}
	return pairing.Renewed{Certificate: answer.GetCertificate(), Authority: answer.GetAuthority()}, nil
}

// Leave is pairing.Exchange's.
func (c Client) Leave(ctx context.Context, p pairing.Peer) error {
	conn, err := c.Dial(p)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection that has answered
	_, err = godwitv1.NewPairingServiceClient(conn).Leave(ctx, &godwitv1.LeaveRequest{})
	return err
}

// Checked is how a pair stands, as the target sees it.
type Checked struct {
	CertificateExpires time.Time
	// StorageError is empty when the target reaches the pair's repository.
	StorageError string
	// Endpoints are the host:ports at which the target says it can be reached.
	Endpoints []string
	// Authority is the fingerprint of the authority that the target signs by now.
	Authority pairing.Fingerprint
}

// Check asks the target whether the pair stands.
func Check(ctx context.Context, conn grpc.ClientConnInterface) (Checked, error) {
	answer, err := godwitv1.NewPairingServiceClient(conn).Check(ctx, &godwitv1.CheckRequest{})
	if err != nil {
		return Checked{}, fmt.Errorf("check pair: %w", err)
	}
	checked := Checked{
		CertificateExpires: answer.GetCertificateExpires().AsTime(), StorageError: answer.GetStorageError(),
		Endpoints: answer.GetEndpoints(),
	}
	copy(checked.Authority[:], answer.GetAuthority())
	return checked, nil
}

// dial connects with one way to tell the right server from all others.
func (c Client) dial(endpoint string, pin pairing.Fingerprint, certificate *tls.Certificate, verify func([]*x509.Certificate) error) (*grpc.ClientConn, error) {
	if err := pairing.CheckEndpoint(endpoint); err != nil {
		return nil, err
	}
	seen := &verdict{}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", pin.Hint()},
		// The names in a certificate do not matter and system roots must not
		// count: VerifyConnection does what is switched off here, and more.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(state tls.ConnectionState) error {
			return seen.keep(verify(state.PeerCertificates))
		},
	}
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	reconnect := backoff.DefaultConfig
	reconnect.MaxDelay = maxReconnect
	// passthrough leaves the name to the dialer, whose errors tell why it has no
	// address and which looks it up again at each try.
	conn, err := grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithChainUnaryInterceptor(explainer{endpoint, certificate, seen, c.Now}.explain, deadline),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", endpoint, err)
	}
	return conn, nil
}

// verdict keeps why the last handshake was refused by us, since grpc hands on
// the words of that error only.
type verdict struct {
	mu  sync.Mutex
	err error
}

func (v *verdict) keep(err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err = err
	return err
}

func (v *verdict) last() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

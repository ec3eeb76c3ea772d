package rpc

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/godwit-io/godwit/pairing"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

const (
	maxMessage  = 4 << 20
	maxStreams  = 64
	handshake   = 10 * time.Second
	idleTimeout = 15 * time.Minute
	pingEvery   = 30 * time.Second
	pingTimeout = 10 * time.Second
	minPing     = 10 * time.Second
)

// Config is what a Server needs; every field must be set but Hosts.
type Config struct {
	// Issuer decides about tokens. Its Authority signs the server's certificate
	// too, and its Peers say whose calls are admitted.
	Issuer *pairing.Issuer
	// Hosts are names and addresses to put in the server's certificate, for
	// clients other than ours; ours do not look at them.
	Hosts []string
	// StorageCheck says what keeps this cluster from the peer's repository.
	StorageCheck func(context.Context, pairing.Peer) error
	Log          *slog.Logger
}

// Server is the PairingService, and the guard of what is served beside it.
type Server struct {
	godwitv1.UnimplementedPairingServiceServer
	issuer       *pairing.Issuer
	hosts        []string
	storageCheck func(context.Context, pairing.Peer) error
	log          *slog.Logger
	limit        limiter
	certificates certificates
}

var _ godwitv1.PairingServiceServer = (*Server)(nil)

// NewServer makes the server of a cluster.
func NewServer(c Config) *Server {
	return &Server{issuer: c.Issuer, hosts: c.Hosts, storageCheck: c.StorageCheck, log: c.Log}
}

// GRPC makes a gRPC server with TLS, limits, the guard and the PairingService.
// Register other services on it before Serve; they are guarded as well.
func (s *Server) GRPC() *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.TLS())),
		grpc.UnaryInterceptor(s.guardUnary),
		grpc.StreamInterceptor(s.guardStream),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: idleTimeout, Time: pingEvery, Timeout: pingTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing}),
	)
	godwitv1.RegisterPairingServiceServer(g, s)
	return g
}

// TLS is the server's side of the handshake. A client certificate that is shown
// must be good; whether one has to be shown is decided call by call.
func (s *Server) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      s.issuer.Authority.Pool(),
		Time:           s.issuer.Now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificates.get(s) },
		// A resumed session would skip the look at the client's certificate.
		SessionTicketsDisabled: true,
	}
}

// certificates makes the server's certificate anew at half its life.
type certificates struct {
	mu      sync.Mutex
	current *tls.Certificate
}

func (c *certificates) get(s *Server) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := s.issuer.Now()
	if c.current != nil && c.current.Leaf.NotAfter.Sub(now) > pairing.ServerCertificateTTL/2 {
		return c.current, nil
	}
	made, err := s.issuer.Authority.ServerCertificate(s.hosts, now)
	if err != nil {
		return nil, err
	}
	c.current = &made
	return c.current, nil
}

// Redeem is the PairingService's.
func (s *Server) Redeem(ctx context.Context, r *godwitv1.RedeemRequest) (*godwitv1.RedeemResponse, error) {
	log := s.log.With("call", "Redeem", "from", addressOf(ctx),
		"token", r.GetTokenId(), "cluster", r.GetClusterId(), "namespace", r.GetNamespace())
	if !s.limit.allow(addressOf(ctx), s.issuer.Now()) {
		log.Warn("token refused", "reason", "too many tries")
		return nil, status.Errorf(codes.ResourceExhausted, "too many tries from %s: wait a minute", addressOf(ctx))
	}
	answer, err := s.issuer.Redeem(ctx, pairing.RedeemRequest{
		TokenID: r.GetTokenId(), Secret: pairing.Secret(r.GetSecret()),
		ClusterID: r.GetClusterId(), ClusterName: r.GetClusterName(), Namespace: r.GetNamespace(),
		CertificateRequest: r.GetCertificateRequest(), SealingPublicKey: r.GetSealingKey(),
	})
	if err != nil {
		log.Warn("token refused", "reason", err.Error())
		return nil, strangerStatus(err)
	}
	log.Info("token redeemed", "pair", answer.PairID)
	return &godwitv1.RedeemResponse{
		PairId: answer.PairID, Certificate: answer.Certificate, Authority: answer.Authority,
		ClusterId: answer.ClusterID, ClusterName: answer.ClusterName,
		Namespaces: answer.Scope.Namespaces, Admin: answer.Scope.Admin,
		RepositoryPassword: answer.RepositoryPassword.Reveal(), RepositoryPrefix: answer.RepositoryPrefix,
		BackupLocation: answer.BackupLocation,
	}, nil
}

// Check is the PairingService's.
func (s *Server) Check(ctx context.Context, _ *godwitv1.CheckRequest) (*godwitv1.CheckResponse, error) {
	peer, ok := PeerFrom(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no pair")
	}
	response := &godwitv1.CheckResponse{
		ClusterId: s.issuer.Authority.ClusterID(), PairId: peer.PairID,
		CertificateExpires: timestamppb.New(peer.CertificateExpires),
	}
	if err := s.storageCheck(ctx, peer); err != nil {
		s.log.Warn("repository not reachable", "pair", peer.PairID, "reason", err.Error())
		response.StorageError = err.Error()
	}
	return response, nil
}

// Renew is the PairingService's.
func (s *Server) Renew(ctx context.Context, r *godwitv1.RenewRequest) (*godwitv1.RenewResponse, error) {
	peer, ok := PeerFrom(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no pair")
	}
	leaf, err := s.issuer.Renew(ctx, peer, r.GetCertificateRequest())
	if err != nil {
		s.log.Warn("renewal refused", "pair", peer.PairID, "reason", err.Error())
		return nil, Status(err)
	}
	s.log.Info("certificate renewed", "pair", peer.PairID, "expires", leaf.NotAfter)
	return &godwitv1.RenewResponse{Certificate: leaf.Raw}, nil
}

func addressOf(ctx context.Context) string {
	if p, ok := grpcpeer.FromContext(ctx); ok {
		return callerOf(p.Addr)
	}
	return ""
}

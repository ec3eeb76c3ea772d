package rpc

import (
	"cmp"
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
	idleTimeout = 5 * time.Minute
	pingEvery   = 30 * time.Second
	pingTimeout = 10 * time.Second
	minPing     = 10 * time.Second
	callLimit   = time.Minute
	headerBytes = 16 << 10
)

// Config is what a Server needs; every field must be set but Hosts and CallLimit.
type Config struct {
	// Issuer decides about tokens. Its Authority signs the server's certificate
	// too, and its Peers say whose calls are admitted.
	Issuer *pairing.Issuer
	// Hosts are names and addresses to put in the server's certificate, for
	// clients other than ours; ours do not look at them.
	Hosts []string
	// StorageCheck says what keeps this cluster from the peer's repository.
	StorageCheck func(context.Context, pairing.Peer) error
	// Endpoints are host:ports at which other clusters reach this one.
	Endpoints []string
	// Gate, if set, admits callers to services that are not for paired clusters.
	Gate Gate
	// CallLimit is how long a call or a stream may take; a minute when 0.
	CallLimit time.Duration
	// Changed, if set, is told of each pair that came to be or was left.
	Changed func(pairID string)
	Log     *slog.Logger
}

// Gate admits those who are no paired clusters.
type Gate interface {
	// Keeps reports whether the gate, and not the pair, decides about the call.
	Keeps(ctx context.Context, method string) bool
	// Admit returns a gRPC status where the caller may not call the method.
	Admit(ctx context.Context, method string) error
}

// Server is the PairingService, and the guard of what is served beside it.
type Server struct {
	godwitv1.UnimplementedPairingServiceServer
	issuer       *pairing.Issuer
	hosts        []string
	endpoints    []string
	gate         Gate
	changed      func(pairID string)
	storageCheck func(context.Context, pairing.Peer) error
	callLimit    time.Duration
	log          *slog.Logger
	limit        limiter
	// tellings limits what strangers can write into the log.
	tellings     limiter
	certificates certificates
}

var _ godwitv1.PairingServiceServer = (*Server)(nil)

// NewServer makes the server of a cluster.
func NewServer(c Config) *Server {
	changed := c.Changed
	if changed == nil {
		changed = func(string) {}
	}
	return &Server{
		issuer: c.Issuer, hosts: c.Hosts, endpoints: c.Endpoints, gate: c.Gate, storageCheck: c.StorageCheck, changed: changed, log: c.Log,
		callLimit: cmp.Or(c.CallLimit, callLimit),
	}
}

// GRPC makes a gRPC server with TLS, limits, the guard and the PairingService.
// Register other services on it before Serve; they are guarded as well.
func (s *Server) GRPC() *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(telling{credentials.NewTLS(s.TLS()), s}),
		grpc.UnaryInterceptor(s.guardUnary),
		grpc.StreamInterceptor(s.guardStream),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(headerBytes),
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
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.VerifyClientCertIfGiven,
		Time:       s.issuer.Now,
		NextProtos: []string{"h2"},
		// The authorities may be others at the next handshake.
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			certificate, err := s.certificates.get(s, s.issuer.Ring.Known(hello.SupportedProtos, s.issuer.Now()))
			if err != nil {
				return nil, err
			}
			config := s.TLS()
			config.GetConfigForClient = nil
			config.ClientCAs = s.issuer.Ring.Pool(s.issuer.Now())
			config.Certificates = []tls.Certificate{*certificate}
			return config, nil
		},
		// A resumed session would skip the look at the client's certificate.
		SessionTicketsDisabled: true,
	}
}

// certificates makes the server's certificate of each authority anew at half its life.
type certificates struct {
	mu   sync.Mutex
	made map[pairing.Fingerprint]*tls.Certificate
}

func (c *certificates) get(s *Server, authority *pairing.Authority) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := s.issuer.Now()
	id := authority.Fingerprint()
	if made := c.made[id]; made != nil && made.Leaf.NotAfter.Sub(now) > pairing.ServerCertificateTTL/2 {
		return made, nil
	}
	made, err := authority.ServerCertificate(s.hosts, now)
	if err != nil {
		return nil, err
	}
	if c.made == nil {
		c.made = map[pairing.Fingerprint]*tls.Certificate{}
	}
	c.made[id] = &made
	return &made, nil
}

// Redeem is the PairingService's.
func (s *Server) Redeem(ctx context.Context, r *godwitv1.RedeemRequest) (*godwitv1.RedeemResponse, error) {
	log := s.log.With("call", "Redeem", "from", addressOf(ctx),
		"token", r.GetTokenId(), "cluster", r.GetClusterId(), "namespace", r.GetNamespace())
	if err := s.limited(ctx); err != nil {
		log.Warn("token refused", "reason", "too many tries")
		return nil, err
	}
	request := pairing.RedeemRequest{
		TokenID: r.GetTokenId(), Secret: pairing.Secret(r.GetSecret()),
		ClusterID: r.GetClusterId(), ClusterName: r.GetClusterName(), Namespace: r.GetNamespace(),
		Name: r.GetName(), Return: pairing.Secret(r.GetReturnToken()),
		CertificateRequest: r.GetCertificateRequest(), SealingPublicKey: r.GetSealingKey(),
	}
	if shared := r.GetSharedRepository(); shared != nil {
		request.Shared = &pairing.SharedRepository{
			Prefix: shared.GetPrefix(), Password: pairing.Secret(shared.GetPassword()), EpochSeed: pairing.Secret(shared.GetEpochSeed()),
		}
	}
	answer, err := s.issuer.Redeem(ctx, request)
	if err != nil {
		log.Warn("token refused", "reason", err.Error())
		return nil, strangerStatus(err)
	}
	log.Info("token redeemed", "pair", answer.PairID)
	s.changed(answer.PairID)
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
		ClusterId: s.issuer.Ring.Current().ClusterID(), PairId: peer.PairID,
		CertificateExpires: timestamppb.New(peer.CertificateExpires), Endpoints: s.endpoints,
	}
	authority := s.issuer.Ring.Current().Fingerprint()
	response.Authority = authority[:]
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
	return &godwitv1.RenewResponse{Certificate: leaf.Raw, Authority: s.issuer.Ring.Current().Certificate()}, nil
}

// Recover is the PairingService's.
func (s *Server) Recover(ctx context.Context, r *godwitv1.RecoverRequest) (*godwitv1.RecoverResponse, error) {
	log := s.log.With("call", "Recover", "from", addressOf(ctx))
	if err := s.limited(ctx); err != nil {
		log.Warn("recovery refused", "reason", "too many tries")
		return nil, err
	}
	leaf, err := s.issuer.Recover(ctx, r.GetCertificate(), r.GetCertificateRequest())
	if err != nil {
		log.Warn("recovery refused", "reason", err.Error())
		return nil, strangerStatus(err)
	}
	log.Info("certificate recovered", "subject", leaf.Subject.CommonName, "expires", leaf.NotAfter)
	return &godwitv1.RecoverResponse{Certificate: leaf.Raw, Authority: s.issuer.Ring.Current().Certificate()}, nil
}

// Leave is the PairingService's.
func (s *Server) Leave(ctx context.Context, _ *godwitv1.LeaveRequest) (*godwitv1.LeaveResponse, error) {
	peer, ok := PeerFrom(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no pair")
	}
	if err := s.issuer.Leave(ctx, peer); err != nil {
		return nil, Status(err)
	}
	s.log.Info("pair left by the source", "pair", peer.PairID, "cluster", peer.ClusterID)
	s.changed(peer.PairID)
	return &godwitv1.LeaveResponse{}, nil
}

// limited counts a stranger's try, and says when they are too many.
func (s *Server) limited(ctx context.Context) error {
	if s.limit.allow(addressOf(ctx), s.issuer.Now()) {
		return nil
	}
	return status.Errorf(codes.ResourceExhausted, "too many tries from %s: wait a minute", addressOf(ctx))
}

func addressOf(ctx context.Context) string {
	if p, ok := grpcpeer.FromContext(ctx); ok {
		return callerOf(p.Addr)
	}
	return ""
}

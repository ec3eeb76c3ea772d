package rpc

import (
	"context"
	"crypto/x509"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/pairing"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

type peerKey struct{}

// PeerFrom gives the peer whose call ctx belongs to.
func PeerFrom(ctx context.Context) (pairing.Peer, bool) {
	peer, ok := ctx.Value(peerKey{}).(pairing.Peer)
	return peer, ok
}

// open says which calls need no pair. It is a list of what is let through, so
// that a service added later is guarded without a thought.
func open(method string) bool {
	return method == godwitv1.PairingService_Redeem_FullMethodName || method == godwitv1.PairingService_Recover_FullMethodName
}

func (s *Server) guardUnary(ctx context.Context, r any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	// A caller that sets no deadline must not hold what it asked for forever.
	ctx, cancel := context.WithTimeout(ctx, s.callLimit)
	defer cancel()
	if open(info.FullMethod) {
		return next(ctx, r)
	}
	ctx, err := s.enter(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	answer, err := next(ctx, r)
	s.tell(ctx, info.FullMethod, err)
	return answer, err
}

// tell logs what a paired cluster asked for and was not given.
func (s *Server) tell(ctx context.Context, method string, err error) {
	peer, _ := PeerFrom(ctx)
	log := s.log.With("call", method, "from", addressOf(ctx), "pair", peer.PairID, "cluster", peer.ClusterID)
	switch status.Code(err) {
	case codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument:
		log.Warn("call refused", "reason", err.Error())
	case codes.Internal, codes.Unknown:
		log.Error("call failed", "reason", err.Error())
	}
}

func (s *Server) guardStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, cancel := context.WithTimeout(stream.Context(), s.callLimit)
	defer cancel()
	ctx, err := s.enter(ctx, info.FullMethod)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- next(srv, admitted{stream, ctx}) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// The handler may wait for the caller, which only the stream's end tells it.
	if stream.Context().Err() == nil {
		s.log.Warn("stream ended", "call", info.FullMethod, "from", addressOf(ctx), "reason", "it was held open for longer than "+s.callLimit.String())
	}
	return status.FromContextError(ctx.Err()).Err()
}

// admitted is a stream whose context bears the peer.
type admitted struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc hands a stream's context on in no other way
}

// Context is grpc.ServerStream's.
func (a admitted) Context() context.Context { return a.ctx }

// enter asks the one that is in charge of the method.
func (s *Server) enter(ctx context.Context, method string) (context.Context, error) {
	if s.gate == nil || !s.gate.Keeps(ctx, method) {
		return s.admit(ctx, method)
	}
	if err := s.gate.Admit(ctx, method); err != nil {
		s.log.Warn("call refused", "call", method, "from", addressOf(ctx), "reason", status.Convert(err).Message())
		return nil, err
	}
	return ctx, nil
}

// admit finds the caller's peer and refuses the call where there is none.
func (s *Server) admit(ctx context.Context, method string) (context.Context, error) {
	log := s.log.With("call", method, "from", addressOf(ctx))
	leaf, err := shown(ctx)
	if err != nil {
		log.Warn("call refused", "reason", err.Error())
		return nil, Status(err)
	}
	peer, err := s.issuer.Admit(ctx, leaf)
	if status.Code(Status(err)) == codes.Internal {
		log.Error("peer not readable", "reason", err.Error())
		return nil, status.Error(codes.Internal, "the target cannot read its pairs: its log says why")
	}
	if err != nil {
		log.Warn("call refused", "subject", leaf.Subject.CommonName, "reason", err.Error())
		return nil, Status(err)
	}
	return context.WithValue(ctx, peerKey{}, peer), nil
}

// shown is the client certificate of the connection, which the handshake verified.
func shown(ctx context.Context) (*x509.Certificate, error) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return nil, fmt.Errorf("%w: no connection", pairing.ErrCertificate)
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, fmt.Errorf("%w: no TLS", pairing.ErrCertificate)
	}
	if len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil, fmt.Errorf("%w: none was shown: redeem a token first", pairing.ErrCertificate)
	}
	return info.State.VerifiedChains[0][0], nil
}

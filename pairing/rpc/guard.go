package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

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
func open(method string) bool { return method == godwitv1.PairingService_Redeem_FullMethodName }

func (s *Server) guardUnary(ctx context.Context, r any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if open(info.FullMethod) {
		return next(ctx, r)
	}
	ctx, err := s.admit(ctx, info.FullMethod)
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
	ctx, err := s.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, admitted{stream, ctx})
}

// admitted is a stream whose context bears the peer.
type admitted struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc hands a stream's context on in no other way
}

// Context is grpc.ServerStream's.
func (a admitted) Context() context.Context { return a.ctx }

// admit finds the caller's peer and refuses the call where there is none.
func (s *Server) admit(ctx context.Context, method string) (context.Context, error) {
	log := s.log.With("call", method, "from", addressOf(ctx))
	id, err := s.identify(ctx)
	if err != nil {
		log.Warn("call refused", "reason", err.Error())
		return nil, Status(err)
	}
	log = log.With("pair", id.PairID, "cluster", id.ClusterID)
	peer, err := s.issuer.Peers.Get(ctx, pairing.Incoming, id.PairID)
	if errors.Is(err, pairing.ErrNotFound) || (err == nil && peer.ClusterID != id.ClusterID) {
		log.Warn("call refused", "reason", pairing.ErrRevoked.Error())
		return nil, Status(fmt.Errorf("%w: delete this ClusterPair, or make a new token on the target", pairing.ErrRevoked))
	}
	if err != nil {
		log.Error("peer not readable", "reason", err.Error())
		return nil, status.Error(codes.Internal, "the target cannot read its pairs: its log says why")
	}
	return context.WithValue(ctx, peerKey{}, peer), nil
}

// identify reads who calls from the connection's verified certificate.
func (s *Server) identify(ctx context.Context) (pairing.Identity, error) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return pairing.Identity{}, fmt.Errorf("%w: no connection", pairing.ErrCertificate)
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return pairing.Identity{}, fmt.Errorf("%w: no TLS", pairing.ErrCertificate)
	}
	if len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return pairing.Identity{}, fmt.Errorf("%w: none was shown: redeem a token first", pairing.ErrCertificate)
	}
	leaf := info.State.VerifiedChains[0][0]
	// A connection may outlive the certificate that opened it.
	if s.issuer.Now().After(leaf.NotAfter) {
		return pairing.Identity{}, fmt.Errorf("%w: it expired at %s: pair again with a new token",
			pairing.ErrCertificate, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return pairing.IdentityOf(leaf)
}

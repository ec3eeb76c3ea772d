package rpc

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/pairing"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

// ReplacePassword tells the target of an Outgoing peer its repository's next password.
func ReplacePassword(ctx context.Context, c Client, p pairing.Peer) error {
	conn, err := c.Dial(p)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection that has answered
	_, err = godwitv1.NewPairingServiceClient(conn).ReplacePassword(ctx,
		&godwitv1.ReplacePasswordRequest{RepositoryPassword: p.NextRepositoryPassword.Reveal()})
	return err
}

// ReplaceSealingKey tells the target of an Outgoing peer by which key this side seals
// from now on.
func ReplaceSealingKey(ctx context.Context, c Client, p pairing.Peer, change pairing.SealingChange) error {
	conn, err := c.Dial(p)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection that has answered
	_, err = godwitv1.NewPairingServiceClient(conn).ReplaceSealingKey(ctx, &godwitv1.ReplaceSealingKeyRequest{
		SealingKey: change.Key, SealedBefore: pairing.JoinDigests(change.Before), ByFormer: change.ByFormer, ByNew: change.ByTheNew,
	})
	return err
}

// ReplacePassword is the PairingService's.
func (s *Server) ReplacePassword(ctx context.Context, r *godwitv1.ReplacePasswordRequest) (*godwitv1.ReplacePasswordResponse, error) {
	peer, ok := PeerFrom(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no pair")
	}
	if err := s.issuer.ReplacePassword(ctx, peer, pairing.Secret(r.GetRepositoryPassword()), s.storageCheck); err != nil {
		return nil, Status(err)
	}
	s.log.Info("repository password replaced", "pair", peer.PairID, "cluster", peer.ClusterID)
	return &godwitv1.ReplacePasswordResponse{}, nil
}

// ReplaceSealingKey is the PairingService's.
func (s *Server) ReplaceSealingKey(ctx context.Context, r *godwitv1.ReplaceSealingKeyRequest) (*godwitv1.ReplaceSealingKeyResponse, error) {
	peer, ok := PeerFrom(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no pair")
	}
	before, err := pairing.SplitDigests(r.GetSealedBefore())
	if err == nil {
		err = s.issuer.ReplaceSealingKey(ctx, peer, pairing.SealingChange{
			Key: r.GetSealingKey(), Before: before, ByFormer: r.GetByFormer(), ByTheNew: r.GetByNew(),
		})
	}
	if err != nil {
		return nil, Status(err)
	}
	s.log.Info("sealing key replaced", "pair", peer.PairID, "cluster", peer.ClusterID, "recovery points until now", len(before))
	return &godwitv1.ReplaceSealingKeyResponse{}, nil
}

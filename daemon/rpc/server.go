package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	pairingrpc "github.com/godwit-io/godwit/pairing/rpc"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

// Server is the TargetService over the agents of the cluster's peers.
type Server struct {
	godwitv1.UnimplementedTargetServiceServer
	agent func(pairing.Peer) migrate.Target
}

var _ godwitv1.TargetServiceServer = (*Server)(nil)

// Register serves what agent gives for the peer that calls, on a server that
// pairing/rpc guards: without its guard there is no peer, and every call is refused.
func Register(registrar grpc.ServiceRegistrar, agent func(pairing.Peer) migrate.Target) {
	godwitv1.RegisterTargetServiceServer(registrar, &Server{agent: agent})
}

// Preflight is the TargetService's.
func (s *Server) Preflight(ctx context.Context, r *godwitv1.PreflightRequest) (*godwitv1.PreflightResponse, error) {
	agent, err := s.admit(ctx, asked{
		call: "Preflight", application: r.GetApplication(), namespaces: r.GetNamespaces(), volumes: r.GetVolumes(), acts: true,
	})
	if err != nil {
		return nil, err
	}
	problems, err := agent.Preflight(ctx, migrate.Preflight{
		Application: r.GetApplication(), Namespaces: r.GetNamespaces(), Volumes: claimsFrom(r.GetVolumes()),
	})
	if err != nil {
		return nil, toWire(err)
	}
	response := &godwitv1.PreflightResponse{}
	for _, p := range problems {
		response.Problems = append(response.Problems, &godwitv1.Problem{Reason: p.Reason, Message: p.Message})
	}
	return response, nil
}

// Begin is the TargetService's.
func (s *Server) Begin(ctx context.Context, r *godwitv1.BeginRequest) (*godwitv1.BeginResponse, error) {
	agent, err := s.admit(ctx, asked{
		call: "Begin", application: r.GetApplication(), round: r.GetRound(), needsRound: true,
		namespaces: r.GetNamespaces(), volumes: r.GetVolumes(), acts: true,
	})
	if err != nil {
		return nil, err
	}
	err = agent.Begin(ctx, migrate.Begin{
		RoundRef:          migrate.RoundRef{Application: r.GetApplication(), Round: r.GetRound(), Namespaces: r.GetNamespaces()},
		StartApplications: r.GetStartApplications(), IncludeResources: r.GetIncludeResources(),
		Volumes: claimsFrom(r.GetVolumes()),
	})
	if err != nil {
		return nil, toWire(err)
	}
	return &godwitv1.BeginResponse{}, nil
}

// Status is the TargetService's.
func (s *Server) Status(ctx context.Context, r *godwitv1.StatusRequest) (*godwitv1.StatusResponse, error) {
	agent, err := s.admit(ctx, asked{
		call: "Status", application: r.GetApplication(), round: r.GetRound(), needsRound: true, namespaces: r.GetNamespaces(),
	})
	if err != nil {
		return nil, err
	}
	got, err := agent.Status(ctx, migrate.RoundRef{
		Application: r.GetApplication(), Round: r.GetRound(), Namespaces: r.GetNamespaces(),
	})
	if err != nil {
		return nil, toWire(err)
	}
	return statusTo(got), nil
}

// Cancel is the TargetService's.
func (s *Server) Cancel(ctx context.Context, r *godwitv1.CancelRequest) (*godwitv1.CancelResponse, error) {
	agent, err := s.admit(ctx, asked{
		call: "Cancel", application: r.GetApplication(), round: r.GetRound(), needsRound: true, namespaces: r.GetNamespaces(),
	})
	if err != nil {
		return nil, err
	}
	done, err := agent.Cancel(ctx, migrate.RoundRef{
		Application: r.GetApplication(), Round: r.GetRound(), Namespaces: r.GetNamespaces(),
	})
	if err != nil {
		return nil, toWire(err)
	}
	return &godwitv1.CancelResponse{Done: done}, nil
}

// asked is what of a request decides whether it is admitted.
type asked struct {
	call        string
	application string
	round       string
	needsRound  bool
	namespaces  []string
	volumes     []*godwitv1.VolumeClaim
	// acts is false for calls about a round that was admitted before.
	acts bool
}

// admit gives the agent of the calling peer if the peer's scope covers all that
// the request names.
func (s *Server) admit(ctx context.Context, a asked) (migrate.Target, error) {
	peer, ok := pairingrpc.PeerFrom(ctx)
	if !ok {
		return nil, pairingrpc.Status(fmt.Errorf("%w: none was shown", pairing.ErrCertificate))
	}
	if err := a.check(peer.Scope); err != nil {
		return nil, pairingrpc.Status(err)
	}
	return s.agent(peer), nil
}

func (a asked) check(scope pairing.Scope) error {
	owner, name, _ := strings.Cut(a.application, "/")
	if owner == "" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("%s: %w: the application must be namespace/name", a.call, pairing.ErrRequest)
	}
	if a.needsRound && a.round == "" {
		return fmt.Errorf("%s of %s: %w: no round", a.call, a.application, pairing.ErrRequest)
	}
	if a.acts && len(a.namespaces) == 0 {
		return fmt.Errorf("%s of %s: %w: no namespaces", a.call, a.application, pairing.ErrRequest)
	}
	named := append([]string{owner}, a.namespaces...)
	for _, v := range a.volumes {
		named = append(named, v.GetNamespace())
	}
	if err := scope.Covers(named...); err != nil {
		return fmt.Errorf("%s of %s: %w", a.call, a.application, err)
	}
	return nil
}

func toWire(err error) error {
	if errors.Is(err, migrate.ErrUnknownRound) {
		return status.Error(codes.NotFound, err.Error())
	}
	return pairingrpc.Status(err)
}

package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

// Target is the agent of another cluster over a connection to it.
type Target struct {
	client godwitv1.TargetServiceClient
}

var _ migrate.Target = (*Target)(nil)

// NewTarget is the agent at the other end of conn, which pairing/rpc dialled.
func NewTarget(conn grpc.ClientConnInterface) *Target {
	return &Target{client: godwitv1.NewTargetServiceClient(conn)}
}

// Preflight is migrate.Target's.
func (t *Target) Preflight(ctx context.Context, p migrate.Preflight) ([]migrate.Problem, error) {
	answer, err := t.client.Preflight(ctx, &godwitv1.PreflightRequest{
		Application: p.Application, Namespaces: p.Namespaces, Volumes: claimsTo(p.Volumes),
	})
	if err != nil {
		return nil, fromWire("preflight", p.Application, err)
	}
	var problems []migrate.Problem
	for _, problem := range answer.GetProblems() {
		problems = append(problems, migrate.Problem{Reason: problem.GetReason(), Message: problem.GetMessage()})
	}
	return problems, nil
}

// Begin is migrate.Target's.
func (t *Target) Begin(ctx context.Context, b migrate.Begin) error {
	_, err := t.client.Begin(ctx, &godwitv1.BeginRequest{
		Application: b.Application, Round: b.Round, Namespaces: b.Namespaces,
		StartApplications: b.StartApplications, IncludeResources: b.IncludeResources, Volumes: claimsTo(b.Volumes),
	})
	if err != nil {
		return fromWire("begin", b.Application, err)
	}
	return nil
}

// Status is migrate.Target's.
func (t *Target) Status(ctx context.Context, r migrate.RoundRef) (migrate.TargetStatus, error) {
	answer, err := t.client.Status(ctx, &godwitv1.StatusRequest{
		Application: r.Application, Round: r.Round, Namespaces: r.Namespaces,
	})
	if err != nil {
		return migrate.TargetStatus{}, fromWire("status of", r.Application, err)
	}
	return statusFrom(answer)
}

// Cancel is migrate.Target's.
func (t *Target) Cancel(ctx context.Context, r migrate.RoundRef) (bool, error) {
	answer, err := t.client.Cancel(ctx, &godwitv1.CancelRequest{
		Application: r.Application, Round: r.Round, Namespaces: r.Namespaces,
	})
	if err != nil {
		return false, fromWire("cancel", r.Application, err)
	}
	return answer.GetDone(), nil
}

// fromWire says whose words an error has. Those of the connection itself name
// the endpoint, and are told apart by the sentinels of package pairing.
func fromWire(call, application string, err error) error {
	s, ok := status.FromError(err)
	switch {
	case !ok || isPairing(err):
		return fmt.Errorf("%s %s: %w", call, application, err)
	case s.Code() == codes.NotFound:
		return fmt.Errorf("%s %s: %w", call, application, migrate.ErrUnknownRound)
	case s.Code() == codes.Canceled:
		return fmt.Errorf("%s %s on the target: %w", call, application, context.Canceled)
	case s.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("%s %s on the target: %w", call, application, context.DeadlineExceeded)
	case s.Code() == codes.Unimplemented:
		return fmt.Errorf("%s %s: the target runs a version of Godwit that cannot do this: update it", call, application)
	default:
		return fmt.Errorf("%s %s: the target says: %s", call, application, s.Message())
	}
}

func isPairing(err error) bool {
	for _, sentinel := range []error{
		pairing.ErrUnreachable, pairing.ErrImpostor, pairing.ErrCertificate, pairing.ErrRevoked,
		pairing.ErrNamespace, pairing.ErrRequest, pairing.ErrConflict,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

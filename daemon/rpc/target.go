package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

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
func (t *Target) Preflight(ctx context.Context, p migrate.Preflight) (migrate.Forecast, error) {
	answer, err := t.client.Preflight(ctx, &godwitv1.PreflightRequest{
		Application: p.Application, Namespaces: p.Namespaces, Volumes: claimsTo(p.Volumes),
		Objects: p.Objects, Details: p.Details, Kinds: kindsTo(p.Kinds), Hooks: hooksTo(p.Hooks),
	})
	if err != nil {
		return migrate.Forecast{}, fromWire("preflight", p.Application, err)
	}
	forecast := migrate.Forecast{Details: answer.GetDetails(), Served: kindsFrom(answer.GetServed()), HookUsers: answer.GetHookUsers()}
	for _, problem := range answer.GetProblems() {
		forecast.Problems = append(forecast.Problems, migrate.Problem{Reason: problem.GetReason(), Message: problem.GetMessage()})
	}
	return forecast, nil
}

// Begin is migrate.Target's.
func (t *Target) Begin(ctx context.Context, b migrate.Begin) error {
	_, err := t.client.Begin(ctx, &godwitv1.BeginRequest{
		Application: b.Application, Round: b.Round, Namespaces: b.Namespaces,
		StartApplications: b.StartApplications, IncludeResources: b.IncludeResources, Volumes: claimsTo(b.Volumes),
		Stage: b.Stage, Activate: b.Activate, Verify: b.Verify, AwaitVouch: b.AwaitVouch,
		Schedule: scheduleTo(b.Schedule), PatienceSeconds: int64(b.Patience / time.Second), Selection: b.Selection,
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
func (t *Target) Cancel(ctx context.Context, c migrate.Cancel) (bool, error) {
	answer, err := t.client.Cancel(ctx, &godwitv1.CancelRequest{
		Application: c.Application, Round: c.Round, Namespaces: c.Namespaces, Whole: c.Whole, Unfinished: c.Unfinished,
	})
	if err != nil {
		return false, fromWire("cancel", c.Application, err)
	}
	return answer.GetDone(), nil
}

// Vouch is migrate.Target's.
func (t *Target) Vouch(ctx context.Context, v migrate.Vouch) error {
	_, err := t.client.Vouch(ctx, &godwitv1.VouchRequest{
		Application: v.Application, Round: v.Round, Namespaces: v.Namespaces, Pair: v.PairID, Moved: claimsTo(v.Moved),
	})
	if err != nil {
		return fromWire("vouch for", v.Application, err)
	}
	return nil
}

// Hook is migrate.Target's.
func (t *Target) Hook(ctx context.Context, h migrate.Hook) (migrate.HookResult, error) {
	answer, err := t.client.Hook(ctx, hookRequest(h))
	if err != nil {
		return migrate.HookResult{}, fromWire("hook "+h.Name+" of", h.Application, err)
	}
	return migrate.HookResult{
		Job: answer.GetJob(), Done: answer.GetDone(), OK: answer.GetOk(), Message: answer.GetMessage(), Log: answer.GetLog(),
	}, nil
}

// RollBack is migrate.Target's.
func (t *Target) RollBack(ctx context.Context, r migrate.RollBack) (migrate.RollBackReport, error) {
	answer, err := t.client.RollBack(ctx, &godwitv1.RollBackRequest{
		Application: r.Application, Round: r.Round, Namespaces: r.Namespaces, DropWrites: r.DropWrites, BringWrites: r.BringWrites, Request: r.Request,
	})
	if err != nil {
		return migrate.RollBackReport{}, fromWire("roll back", r.Application, err)
	}
	return migrate.RollBackReport{Done: answer.GetDone(), Refused: answer.GetRefused(), Message: answer.GetMessage()}, nil
}

// FailOver is migrate.Target's.
func (t *Target) FailOver(ctx context.Context, f migrate.FailOver) (migrate.FailOverReport, error) {
	answer, err := t.client.FailOver(ctx, &godwitv1.FailOverRequest{
		Schedule: f.Schedule, Namespaces: f.Namespaces, Request: f.Request, Started: f.Started,
	})
	if err != nil {
		return migrate.FailOverReport{}, fromWire("fail over by MigrationSchedule", f.Schedule, err)
	}
	return migrate.FailOverReport{Stage: answer.GetStage(), Ended: answer.GetEnded(), Good: answer.GetGood(), Message: answer.GetMessage()}, nil
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
	case s.Code() == codes.FailedPrecondition:
		return fmt.Errorf("%s %s: %w: %s", call, application, migrate.ErrActivated, s.Message())
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

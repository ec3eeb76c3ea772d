package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

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
		hooks: r.GetHooks(),
	})
	if err != nil {
		return nil, err
	}
	forecast, err := agent.Preflight(ctx, migrate.Preflight{
		Application: r.GetApplication(), Namespaces: r.GetNamespaces(), Volumes: claimsFrom(r.GetVolumes()),
		Objects: r.GetObjects(), Details: r.GetDetails(), Kinds: kindsFrom(r.GetKinds()), Hooks: hooksFrom(r.GetHooks()),
	})
	if err != nil {
		return nil, toWire(err)
	}
	response := &godwitv1.PreflightResponse{Details: forecast.Details, Served: kindsTo(forecast.Served), HookUsers: true}
	for _, p := range forecast.Problems {
		response.Problems = append(response.Problems, &godwitv1.Problem{Reason: p.Reason, Message: p.Message})
	}
	return response, nil
}

// Begin is the TargetService's.
func (s *Server) Begin(ctx context.Context, r *godwitv1.BeginRequest) (*godwitv1.BeginResponse, error) {
	agent, err := s.admit(ctx, asked{
		call: "Begin", application: r.GetApplication(), round: r.GetRound(), needsRound: true,
		namespaces: r.GetNamespaces(), volumes: r.GetVolumes(), acts: true, schedule: r.GetSchedule(),
		selection: r.GetSelection(),
	})
	if err != nil {
		return nil, err
	}
	err = agent.Begin(ctx, migrate.Begin{
		RoundRef:          migrate.RoundRef{Application: r.GetApplication(), Round: r.GetRound(), Namespaces: r.GetNamespaces()},
		StartApplications: r.GetStartApplications(), IncludeResources: r.GetIncludeResources(),
		Stage: r.GetStage(), Activate: r.GetActivate(), Verify: r.GetVerify(), AwaitVouch: r.GetAwaitVouch(),
		Volumes: claimsFrom(r.GetVolumes()), Schedule: scheduleFrom(r.GetSchedule()),
		Patience: time.Duration(r.GetPatienceSeconds()) * time.Second, Selection: r.GetSelection(),
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
		call: "Cancel", application: r.GetApplication(), round: r.GetRound(), needsRound: !r.GetWhole(), namespaces: r.GetNamespaces(),
	})
	if err != nil {
		return nil, err
	}
	done, err := agent.Cancel(ctx, migrate.Cancel{
		RoundRef: migrate.RoundRef{Application: r.GetApplication(), Round: r.GetRound(), Namespaces: r.GetNamespaces()},
		Whole:    r.GetWhole(), Unfinished: r.GetUnfinished(),
	})
	if err != nil {
		return nil, toWire(err)
	}
	return &godwitv1.CancelResponse{Done: done}, nil
}

// Vouch is the TargetService's.
func (s *Server) Vouch(ctx context.Context, r *godwitv1.VouchRequest) (*godwitv1.VouchResponse, error) {
	agent, err := s.admit(ctx, asked{
		call: "Vouch", application: r.GetApplication(), round: r.GetRound(), needsRound: true, namespaces: r.GetNamespaces(), acts: true,
		volumes: r.GetMoved(),
	})
	if err != nil {
		return nil, err
	}
	if len(r.GetPair()) > longestName {
		return nil, pairingrpc.Status(fmt.Errorf("Vouch: %w: a pair's id of %d characters", pairing.ErrRequest, len(r.GetPair())))
	}
	err = agent.Vouch(ctx, migrate.Vouch{
		RoundRef: migrate.RoundRef{Application: r.GetApplication(), Round: r.GetRound(), Namespaces: r.GetNamespaces()}, PairID: r.GetPair(),
		Moved: claimsFrom(r.GetMoved()),
	})
	if err != nil {
		return nil, toWire(err)
	}
	return &godwitv1.VouchResponse{}, nil
}

// Hook is the TargetService's.
func (s *Server) Hook(ctx context.Context, r *godwitv1.HookRequest) (*godwitv1.HookResponse, error) {
	a := asked{
		call: "Hook", application: r.GetApplication(), round: r.GetRound(), needsRound: true, namespaces: r.GetNamespaces(), acts: true,
	}
	job := r.GetJob()
	if job == nil {
		job = r.GetJobWithUser()
	}
	if !r.GetDrop() {
		a.hooks = []*godwitv1.HookJob{job}
	}
	agent, err := s.admit(ctx, a)
	if err != nil {
		return nil, err
	}
	h := hookFrom(job)
	h.RoundRef = migrate.RoundRef{Application: r.GetApplication(), Round: r.GetRound(), Namespaces: r.GetNamespaces()}
	h.Started, h.Drop = r.GetStarted(), r.GetDrop()
	got, err := agent.Hook(ctx, h)
	if err != nil {
		return nil, toWire(err)
	}
	return &godwitv1.HookResponse{Job: got.Job, Done: got.Done, Ok: got.OK, Message: got.Message, Log: got.Log}, nil
}

// RollBack is the TargetService's.
func (s *Server) RollBack(ctx context.Context, r *godwitv1.RollBackRequest) (*godwitv1.RollBackResponse, error) {
	agent, err := s.admit(ctx, asked{
		call: "RollBack", application: r.GetApplication(), round: r.GetRound(), needsRound: true, namespaces: r.GetNamespaces(),
	})
	if err != nil {
		return nil, err
	}
	report, err := agent.RollBack(ctx, migrate.RollBack{
		RoundRef:   migrate.RoundRef{Application: r.GetApplication(), Round: r.GetRound(), Namespaces: r.GetNamespaces()},
		DropWrites: r.GetDropWrites(), BringWrites: r.GetBringWrites(), Request: r.GetRequest(),
	})
	if err != nil {
		return nil, toWire(err)
	}
	return &godwitv1.RollBackResponse{Done: report.Done, Refused: report.Refused, Message: report.Message}, nil
}

// FailOver is the TargetService's.
func (s *Server) FailOver(ctx context.Context, r *godwitv1.FailOverRequest) (*godwitv1.FailOverResponse, error) {
	// The schedule's namespace is held against the scope as an application's is.
	agent, err := s.admit(ctx, asked{
		call: "FailOver", application: r.GetSchedule(), round: r.GetRequest(), needsRound: true, namespaces: r.GetNamespaces(), acts: true,
	})
	if err != nil {
		return nil, err
	}
	report, err := agent.FailOver(ctx, migrate.FailOver{
		Schedule: r.GetSchedule(), Namespaces: r.GetNamespaces(), Request: r.GetRequest(), Started: r.GetStarted(),
	})
	if err != nil {
		return nil, toWire(err)
	}
	return &godwitv1.FailOverResponse{Stage: report.Stage, Ended: report.Ended, Good: report.Good, Message: report.Message}, nil
}

// asked is what of a request decides whether it is admitted.
type asked struct {
	call        string
	application string
	round       string
	needsRound  bool
	namespaces  []string
	volumes     []*godwitv1.VolumeClaim
	hooks       []*godwitv1.HookJob
	schedule    *godwitv1.Schedule
	selection   []byte
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
	if err := a.bounded(); err != nil {
		return err
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
	for _, h := range a.hooks {
		named = append(named, h.GetNamespace())
	}
	if err := scope.Covers(named...); err != nil {
		return fmt.Errorf("%s of %s: %w", a.call, a.application, err)
	}
	return nil
}

// What no application comes near, and what keeps a request from filling a log
// or a Standby.
const (
	mostNames   = 4096
	longestName = 512
	mostHooks   = 32
	// largestTemplate is what a schedule's template may come to, and a selection.
	largestTemplate = 256 << 10
	// largestMoved is what the description of one volume may come to.
	largestMoved = 16 << 10
)

func (a asked) bounded() error {
	if len(a.namespaces) > mostNames || len(a.volumes) > mostNames {
		return fmt.Errorf("%s: %w: more than %d namespaces or volumes", a.call, pairing.ErrRequest, mostNames)
	}
	names := append([]string{a.application, a.round}, a.namespaces...)
	for _, v := range a.volumes {
		if v.GetSizeBytes() < 0 {
			return fmt.Errorf("%s: %w: a volume of %d bytes", a.call, pairing.ErrRequest, v.GetSizeBytes())
		}
		if n := len(v.GetMoved()); n > largestMoved {
			return fmt.Errorf("%s: %w: a volume described by %d bytes", a.call, pairing.ErrRequest, n)
		}
		names = append(names, v.GetNamespace(), v.GetName(), v.GetStorageClass(), v.GetVolumeMode(), v.GetVolume())
		names = append(names, v.GetAccessModes()...)
	}
	if len(a.hooks) > mostHooks {
		return fmt.Errorf("%s: %w: more than %d hooks", a.call, pairing.ErrRequest, mostHooks)
	}
	for _, h := range a.hooks {
		if h.GetDeadlineSeconds() < 1 || h.GetBackoffLimit() < 0 {
			return fmt.Errorf("%s: %w: a hook without a deadline, or a negative backoffLimit", a.call, pairing.ErrRequest)
		}
		names = append(names, h.GetName(), h.GetNamespace(), h.GetServiceAccount(), h.GetImage())
	}
	names = append(names, a.schedule.GetName(), a.schedule.GetPolicy())
	if n := len(a.schedule.GetTemplate()); n > largestTemplate {
		return fmt.Errorf("%s: %w: a schedule of %d bytes", a.call, pairing.ErrRequest, n)
	}
	if n := len(a.selection); n > largestTemplate {
		return fmt.Errorf("%s: %w: a selection of %d bytes", a.call, pairing.ErrRequest, n)
	}
	for _, name := range names {
		if len(name) > longestName {
			return fmt.Errorf("%s: %w: a name of %d characters", a.call, pairing.ErrRequest, len(name))
		}
	}
	return nil
}

func toWire(err error) error {
	if errors.Is(err, migrate.ErrActivated) {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if errors.Is(err, migrate.ErrUnknownRound) {
		return status.Error(codes.NotFound, err.Error())
	}
	return pairingrpc.Status(err)
}

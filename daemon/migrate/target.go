package migrate

import (
	"context"
	"time"
)

// Target is the other cluster's agent, near or over the wire. Every call may
// be said again without harm.
type Target interface {
	// Preflight names what would fail on the target and changes nothing.
	Preflight(ctx context.Context, p Preflight) (Forecast, error)
	// Begin tells the agent to bring an application to a sealed round.
	Begin(ctx context.Context, b Begin) error
	// Status tells how far a round is. ErrUnknownRound if it was never begun.
	Status(ctx context.Context, r RoundRef) (TargetStatus, error)
	// Cancel stops work on a round and takes back what it did, so that the target
	// is as it was before; of a finished round it only drops the agent's record.
	// It reports whether all is done.
	Cancel(ctx context.Context, c Cancel) (bool, error)
	// RollBack takes back a round that was reached and handed over: objects, then
	// volumes. ErrUnknownRound says that there is no record of it any more.
	RollBack(ctx context.Context, r RollBack) (RollBackReport, error)
	// Hook runs a hook on the target, or tells how it fares.
	Hook(ctx context.Context, h Hook) (HookResult, error)
	// Vouch is for the agent as an admin pair reaches it: the pair answers for what
	// a round of another pair of this cluster brings that has no namespace.
	// ErrUnknownRound if that was never begun.
	Vouch(ctx context.Context, v Vouch) error
	// FailOver is for the agent as the target of one of its schedules reaches it: it
	// moves the schedule's application there, or tells how that fares.
	FailOver(ctx context.Context, f FailOver) (FailOverReport, error)
}

// Vouch names the round of another pair.
type Vouch struct {
	RoundRef
	// PairID is the pair that the round is of.
	PairID string
	// Moved are the volumes of the round that are handed over: those and no other are
	// answered for.
	Moved []Claim
}

// RoundRef names a round of an application. An application is named
// namespace/name, after the object on the source that makes its rounds.
type RoundRef struct {
	Application string
	Round       string
	// Namespaces that the round covers, by which the target admits the caller.
	Namespaces []string
}

// Claim is a volume that the target has to provide.
type Claim struct {
	Namespace    string
	Name         string
	StorageClass string
	// VolumeMode is the application's: Block or Filesystem.
	VolumeMode  string
	AccessModes []string
	SizeBytes   int64
	// Volume is the PersistentVolume's name on the source.
	Volume string
	// Moved is, for a volume that is handed over and not copied, the spec of that
	// PersistentVolume, as package remote packs it.
	Moved []byte
}

// Preflight is what a round will ask of the target.
type Preflight struct {
	Application string
	Namespaces  []string
	Volumes     []Claim
	// Objects are packed by package workload. A large application is asked about
	// in several calls.
	Objects []byte
	// Details asks for what would happen to each object.
	Details bool
	// Hooks are to run on the target.
	Hooks []Hook
	// Kinds are those that the source serves in several versions.
	Kinds []KindVersions
}

// KindVersions is a kind with versions of its API.
type KindVersions struct {
	Group, Kind string
	Versions    []string
}

// Forecast is what the target foresees.
type Forecast struct {
	Problems []Problem
	// Details are package workload's, for those who asked.
	Details []byte
	// Served are the kinds that were asked about, with those of their versions that
	// the target serves.
	Served []KindVersions
	// HookUsers is true of a target that knows Hook.User.
	HookUsers bool
}

// Problem is one thing that would fail. Message ends with the remedy.
type Problem struct {
	Reason  string
	Message string
}

// Begin is a round to bring up.
type Begin struct {
	RoundRef
	StartApplications bool
	IncludeResources  bool
	// Stage brings the volumes forward and goes no further.
	Stage bool
	// AwaitVouch starts nothing before an admin pair has vouched for the round.
	AwaitVouch bool
	// Activate makes the target the active side once the application runs there.
	Activate bool
	// Verify names how the volumes are checked.
	Verify  string
	Volumes []Claim
	// Schedule made the round; nil for none.
	Schedule *Schedule
	// Patience is how long the target may get no further before it gives the round up;
	// zero for no limit.
	Patience time.Duration
	// Selection is what of the namespaces is the application's: an api.StandbySelection
	// as JSON; nil for all.
	Selection []byte
}

// Schedule is what the target shows of the schedule that makes an application's
// rounds. It is in the namespace of the application's owner.
type Schedule struct {
	Name, Policy string
	AutoSuspend  bool
	// Template is the spec of its Migrations, as JSON.
	Template []byte
}

// Cancel names what to take back.
type Cancel struct {
	RoundRef
	// Whole drops the standby, whatever round it holds, with every volume that was
	// never handed over.
	Whole bool
	// Unfinished says that the source never saw the round reached, and is to have the
	// application: a round that was reached meanwhile is taken back, with what was
	// written since.
	Unfinished bool
}

// RollBack names a round that was handed over and that is to be taken back.
type RollBack struct {
	RoundRef
	// DropWrites throws away what was written on the target since.
	DropWrites bool
	// BringWrites brings it to the source first, by a failback.
	BringWrites bool
	// Request tells one wish from the next: a wish that was refused may come again
	// when the reason is gone.
	Request int64
}

// RollBackReport tells how a rollback fares on the target.
type RollBackReport struct {
	// Done is true once nothing of the round is left there that runs, or could.
	Done bool
	// Refused is true where the target left everything as it is; Message says why.
	Refused bool
	Message string
}

// TargetPhase tells how far the target is.
type TargetPhase string

// The phases of a round on the target. Ready and Failed are final.
const (
	TargetPending      TargetPhase = "Pending"
	TargetVolumes      TargetPhase = "Volumes"
	TargetApplications TargetPhase = "Applications"
	TargetReady        TargetPhase = "Ready"
	TargetFailed       TargetPhase = "Failed"
)

// TargetStatus tells how a round fares on the target.
type TargetStatus struct {
	Phase   TargetPhase
	Message string
	// FirstReady is when the application's first pod was ready; zero for not yet.
	FirstReady time.Time
	Volumes    []TargetVolume
	Resources  []TargetResource
	Retries    []TargetRetry
}

// TargetRetry tells what was tried again on the target, how often and why. Volume is
// namespace/name of a claim, for what a node tried.
type TargetRetry struct {
	Stage, Volume, Reason string
	Count                 int32
	First, Last           time.Time
}

// TargetVolume tells how one volume fares on the target.
type TargetVolume struct {
	Namespace, Name string
	// Volume is the PersistentVolume on the target.
	Volume                 string
	Phase, Reason          string
	BytesTotal, BytesDone  int64
	BytesPerSecond, ETASec int64
	// BytesWritten went to the volume in this round.
	BytesWritten int64
}

// TargetResource tells how one object fares on the target.
type TargetResource struct {
	Group, Version, Kind, Namespace, Name string
	// OK is false where the object could not be applied; Reason says why.
	OK     bool
	Reason string
	// Purged says that the source no longer has it, and that it was deleted.
	Purged bool
	// TransformedBy names what changed the object on its way.
	TransformedBy []string
}

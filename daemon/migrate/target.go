package migrate

import "context"

// Target is the other cluster's agent, near or over the wire. Every call may
// be said again without harm.
type Target interface {
	// Preflight names what would fail on the target and changes nothing.
	Preflight(ctx context.Context, p Preflight) ([]Problem, error)
	// Begin tells the agent to bring an application to a sealed round.
	Begin(ctx context.Context, b Begin) error
	// Status tells how far a round is. ErrUnknownRound if it was never begun.
	Status(ctx context.Context, r RoundRef) (TargetStatus, error)
	// Cancel stops work on a round and takes back what it did; of a finished
	// round it only drops the agent's record. It reports whether all is done.
	Cancel(ctx context.Context, r RoundRef) (bool, error)
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
}

// Preflight is what a round will ask of the target.
type Preflight struct {
	Application string
	Namespaces  []string
	Volumes     []Claim
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
	Volumes           []Claim
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
	Phase     TargetPhase
	Message   string
	Volumes   []TargetVolume
	Resources []TargetResource
}

// TargetVolume tells how one volume fares on the target.
type TargetVolume struct {
	Namespace, Name string
	// Volume is the PersistentVolume on the target.
	Volume                 string
	Phase, Reason          string
	BytesTotal, BytesDone  int64
	BytesPerSecond, ETASec int64
}

// TargetResource tells how one object fares on the target.
type TargetResource struct {
	Group, Version, Kind, Namespace, Name string
	// OK is false where the object could not be applied; Reason says why.
	OK     bool
	Reason string
}

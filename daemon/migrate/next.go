package migrate

import (
	"fmt"
	"strings"
)

// ActionKind names what to do next about a Migration.
type ActionKind string

// The actions, in the order of a run that goes well.
const (
	// Hold adds the finalizer, so that nothing is made that could be forgotten.
	Hold ActionKind = "Hold"
	// AskEpoch asks the repository whether this cluster still has the application.
	AskEpoch ActionKind = "AskEpoch"
	// Admit records the round and the volumes that will move.
	Admit ActionKind = "Admit"
	// Precopy makes a round while the application runs, or waits for one.
	Precopy ActionKind = "Precopy"
	// AskTarget runs the target's preflight.
	AskTarget ActionKind = "AskTarget"
	// RunHook takes one hook further.
	RunHook ActionKind = "RunHook"
	// StopSource stops the application and waits until none of its pods has a volume.
	StopSource ActionKind = "StopSource"
	// RunPreRule runs the commands of preExecRule until all have ended or are held.
	RunPreRule ActionKind = "RunPreRule"
	// TakeSnapshots takes all snapshots of the round.
	TakeSnapshots ActionKind = "TakeSnapshots"
	// ReleaseHold lets the commands go on that keep the application still.
	ReleaseHold ActionKind = "ReleaseHold"
	// RunPostRule runs the commands of postExecRule.
	RunPostRule ActionKind = "RunPostRule"
	// CollectObjects reads the objects of the moment that the snapshots are of.
	CollectObjects ActionKind = "CollectObjects"
	// Upload exposes snapshots and stores their images.
	Upload ActionKind = "Upload"
	// RetainVolumes keeps the storage of volumes that are handed over, whatever becomes
	// of their claims.
	RetainVolumes ActionKind = "RetainVolumes"
	// SealRound signs the recovery point over images and objects.
	SealRound ActionKind = "SealRound"
	// BeginTarget tells the target's agent.
	BeginTarget ActionKind = "BeginTarget"
	// PollTarget asks the target how far it is.
	PollTarget ActionKind = "PollTarget"
	// EndPlan ends a dry run.
	EndPlan ActionKind = "EndPlan"
	// Finish records the end.
	Finish ActionKind = "Finish"
	// RollBackMigration takes back a Migration that has succeeded, on the target and
	// then here.
	RollBackMigration ActionKind = "RollBack"
	// Release drops exposures and snapshots of a Migration that has ended.
	Release ActionKind = "Release"
	// Wait changes nothing: something outside has to happen first.
	Wait ActionKind = "Wait"
	// EndCancelled ends the Migration since its owner said so.
	EndCancelled ActionKind = "EndCancelled"
	// ClearUp drops what a Migration that did not succeed has on both sides, and
	// then starts again on the source what it stopped there.
	ClearUp ActionKind = "ClearUp"
	// Fail ends the Migration.
	Fail ActionKind = "Fail"
	// Forget takes back what the target has of a failed or deleted Migration.
	Forget ActionKind = "Forget"
	// LetGo drops the finalizer.
	LetGo ActionKind = "LetGo"
	// Nothing is left to do.
	Nothing ActionKind = "Nothing"
)

// Action is one thing to do, and why.
type Action struct {
	Kind ActionKind
	// Reason is one CamelCase word, Message one line with the remedy where
	// something is wrong.
	Reason, Message string
	// Hook names the one to run.
	Hook string
}

// Observed is all that Next decides by.
type Observed struct {
	Deleting, HasFinalizer bool
	// OwnNamespace is the Migration's, AdminNamespace that whose Migrations may
	// name any.
	OwnNamespace, AdminNamespace string
	Namespaces                   []Namespace
	SkipMissingNamespaces        bool
	// DryRun ends a Migration once the target was asked.
	DryRun   bool
	PairName string
	Pair     Pair
	// AdminPairName is empty where the Migration needs no admin pair beside its own.
	AdminPairName  string
	AdminPair      Pair
	IncludeVolumes bool

	// What the Migration has come to, from its status.
	Admitted, AskedTarget, Collected, Sealed, Begun bool
	// EpochAsked is true once the repository said that this cluster still has the
	// application.
	EpochAsked bool
	Volumes    []Volume
	// Retained is true once the storage of all volumes that are handed over is kept.
	Retained bool
	// Rules is how the commands around the snapshots fare.
	Rules Rules
	// Hooks are those that this Migration runs, in order.
	Hooks []ObservedHook
	// HookProblem says why a hook cannot be run; empty if all can.
	HookProblem string
	// Target is what the target last said; nil before it was asked.
	Target *TargetStatus
	// Quiesce asks for the source to be stopped; Stopped is true once it is, and
	// AwaitStart as long as the target's first pod is waited for.
	Quiesce, Stopped, AwaitStart bool
	// Precopy asks for rounds while the application runs; Precopied is true once there
	// were enough.
	Precopy, Precopied bool
	// TooLarge says which limit it exceeds; empty for none.
	TooLarge string
	// Cancel asks for the end.
	Cancel bool
	// Restored is true once what was stopped on the source runs again, or shall not.
	Restored bool
	// Ended is true once the Migration is final; Failed, whether it failed.
	Ended, Failed bool
	// Rollback asks for a Migration that has succeeded to be taken back, or for what
	// of that is left; it is false once that is done or can never be.
	Rollback bool
	// Released is true once nothing of an ended Migration is left on the source.
	Released bool
	// Forgotten is true once nothing is left on the target, or it cannot be asked.
	Forgotten bool
	// Ahead names a Migration of the same application whose turn it is on the source,
	// AheadOnTarget one that the target is not done with; Last is true where there is no
	// other one.
	Ahead, AheadOnTarget string
	Last                 bool
}

// Namespace is one that the Migration names.
type Namespace struct {
	Name   string
	Exists bool
}

// Pair is the ClusterPair as observed.
type Pair struct {
	Found, Ready bool
	// Repository is true where the repository can be asked, the target may be out of
	// reach or not.
	Repository bool
	// Message says what stands in the way when not Ready.
	Message string
}

// Volume is one claim on the source.
type Volume struct {
	Namespace, Name string
	// Refused says why it cannot move; empty if it can.
	Refused string
	// Live is true for a volume that is read while in use.
	Live bool
	// Cut is true once the moment that the snapshot is of has passed;
	// SnapshotReady, once it can be read. Both are true where none is needed.
	Cut, SnapshotReady bool
	// Image is set once it is stored.
	Image string
	// Moved is true for a volume that is handed over: it has no image.
	Moved bool
	// Failed says why its transfer failed for good.
	Failed string
}

// Next names the one thing to do next.
func Next(o Observed) Action {
	switch {
	case o.Deleting:
		return nextDeleting(o)
	case !o.HasFinalizer:
		return Action{Kind: Hold}
	case o.Ended:
		return nextEnded(o)
	case o.Cancel:
		return Action{Kind: EndCancelled, Reason: "Cancelled", Message: "it was cancelled by spec.cancel"}
	case !o.Admitted:
		return nextAdmission(o)
	}
	return nextOfRun(o)
}

func nextOfRun(o Observed) Action {
	switch {
	case !o.pairsReady():
		return waitForPair(o)
	case o.Ahead != "" && !o.Sealed:
		return waitForTurn(o)
	case !o.AskedTarget:
		return Action{Kind: AskTarget}
	case o.DryRun:
		return Action{Kind: EndPlan}
	}
	if a := nextHook(o, PreBackup); a.Kind != "" && !o.Sealed {
		return a
	}
	switch {
	case o.Quiesce && !o.Stopped && !o.Sealed:
		return Action{Kind: StopSource}
	case !o.Sealed:
		return nextVolumes(o)
	case !o.Begun:
		return nextOfSealed(o)
	}
	return nextTarget(o)
}

// nextOfSealed tells the target of a round, once it is done with the one before.
func nextOfSealed(o Observed) Action {
	if o.AheadOnTarget != "" {
		return wait(ReasonTurn, "round sealed; the target is not done with Migration %s of the same application: it is told of this round after that", o.AheadOnTarget)
	}
	if a := nextHook(o, PostBackup, PreRestore); a.Kind != "" {
		return a
	}
	return Action{Kind: BeginTarget}
}

func nextEnded(o Observed) Action {
	switch {
	case o.Failed && (!o.Released || !o.Forgotten || !o.Restored):
		return Action{Kind: ClearUp}
	case !o.Released:
		return Action{Kind: Release}
	case o.Rollback:
		return Action{Kind: RollBackMigration}
	}
	return Action{Kind: Nothing}
}

func nextDeleting(o Observed) Action {
	unfinished := !o.Ended || o.Failed
	switch {
	case !o.HasFinalizer:
		return Action{Kind: Nothing}
	case unfinished && (!o.Released || !o.Forgotten || !o.Restored):
		return Action{Kind: ClearUp}
	case !o.Released:
		return Action{Kind: Release}
	case o.Rollback:
		return Action{Kind: RollBackMigration}
	case !o.Forgotten:
		return Action{Kind: Forget}
	}
	return Action{Kind: LetGo}
}

func nextAdmission(o Observed) Action {
	if a := namespaceProblem(o); a.Kind != "" {
		return a
	}
	if o.TooLarge != "" {
		return fail("TooLarge", "%s", o.TooLarge)
	}
	if o.Pair.Found && o.Pair.Repository && !o.EpochAsked {
		return Action{Kind: AskEpoch}
	}
	if !o.pairsReady() {
		return waitForPair(o)
	}
	if o.Ahead != "" {
		return waitForTurn(o)
	}
	if a := partProblem(o); a.Kind != "" {
		return a
	}
	if o.Precopy && !o.Precopied {
		return Action{Kind: Precopy}
	}
	return Action{Kind: Admit}
}

// namespaceProblem ends a Migration whose namespaces cannot move; without a kind
// where they can.
func namespaceProblem(o Observed) Action {
	present := 0
	for _, n := range o.Namespaces {
		if n.Name != o.OwnNamespace && o.OwnNamespace != o.AdminNamespace {
			return fail("NamespaceNotAllowed", "migration namespaces should only contain the current namespace (%s), not %s: make the Migration in %s, or in the admin namespace %s",
				o.OwnNamespace, n.Name, n.Name, o.AdminNamespace)
		}
		switch {
		case n.Exists:
			present++
		case !o.SkipMissingNamespaces:
			return fail("NamespaceNotFound", "namespace %s does not exist: create it, correct spec.namespaces, or set spec.skipDeletedNamespaces", n.Name)
		}
	}
	if present == 0 {
		return fail("NamespaceNotFound", "none of the namespaces to move exists (%s): correct spec.namespaces", names(o.Namespaces))
	}
	return Action{}
}

// partProblem ends a Migration of which a rule, a hook or a volume cannot be
// carried out; without a kind where all can.
func partProblem(o Observed) Action {
	if o.Rules.Problem != "" {
		return fail("RuleNotUsable", "%s", o.Rules.Problem)
	}
	if o.HookProblem != "" {
		return fail("HookNotUsable", "%s", o.HookProblem)
	}
	for _, v := range o.Volumes {
		if v.Refused != "" {
			return fail("VolumeNotMovable", "claim %s/%s: %s", v.Namespace, v.Name, v.Refused)
		}
	}
	return Action{}
}

// ReasonTurn is of a Migration that waits for another of the same application.
const ReasonTurn = "WaitsForItsTurn"

func waitForTurn(o Observed) Action {
	return wait(ReasonTurn, "Migration %s of the same application is under way: this one goes on when it is out of the way", o.Ahead)
}

// pairsReady is true once all pairs that the Migration names can be used. The
// admin pair is of no use any more once the target has its word.
func (o Observed) pairsReady() bool {
	admin := o.AdminPairName == "" || o.Begun || o.AdminPair.Found && o.AdminPair.Ready
	return o.Pair.Found && o.Pair.Ready && admin
}

func waitForPair(o Observed) Action {
	switch {
	case !o.Pair.Found:
		return wait("PairNotFound", "ClusterPair %s does not exist in namespace %s: create it, or correct spec.clusterPair", o.PairName, o.OwnNamespace)
	case !o.Pair.Ready:
		return wait("PairNotReady", "ClusterPair %s is not ready: %s", o.PairName, o.Pair.Message)
	case !o.AdminPair.Found:
		return wait("AdminPairNotFound", "ClusterPair %s does not exist in the admin namespace %s: create it there, or correct spec.adminClusterPair", o.AdminPairName, o.AdminNamespace)
	}
	return wait("AdminPairNotReady", "ClusterPair %s of the admin namespace %s is not ready: %s", o.AdminPairName, o.AdminNamespace, o.AdminPair.Message)
}

func nextVolumes(o Observed) Action {
	cut, ready, uploaded, moved := true, true, true, false
	for _, v := range o.Volumes {
		if v.Failed != "" {
			return fail("VolumeFailed", "claim %s/%s: %s", v.Namespace, v.Name, v.Failed)
		}
		cut, ready, uploaded = cut && v.Cut, ready && v.SnapshotReady, uploaded && (v.Image != "" || v.Moved)
		moved = moved || v.Moved
	}
	if a := nextRule(o, cut); a.Kind != "" {
		return a
	}
	switch {
	case !cut:
		return Action{Kind: TakeSnapshots}
	case !o.Collected:
		return Action{Kind: CollectObjects}
	case !ready:
		return Action{Kind: TakeSnapshots}
	case !uploaded:
		return Action{Kind: Upload}
	case moved && !o.Retained:
		return Action{Kind: RetainVolumes}
	}
	return Action{Kind: SealRound}
}

func nextTarget(o Observed) Action {
	if o.Target == nil {
		return Action{Kind: PollTarget}
	}
	switch o.Target.Phase {
	case TargetReady:
		// A hook that fails this late takes nothing back: the application is there.
		if a := nextHook(o, PostRestore); a.Kind == RunHook {
			return a
		}
		if o.AwaitStart {
			return Action{Kind: PollTarget}
		}
		return Action{Kind: Finish}
	case TargetFailed:
		return fail("TargetFailed", "%s", o.Target.Message)
	default:
		return Action{Kind: PollTarget}
	}
}

func names(ns []Namespace) string {
	all := make([]string, 0, len(ns))
	for _, n := range ns {
		all = append(all, n.Name)
	}
	return strings.Join(all, ", ")
}

func fail(reason, format string, args ...any) Action {
	return Action{Kind: Fail, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func wait(reason, format string, args ...any) Action {
	return Action{Kind: Wait, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

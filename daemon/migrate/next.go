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
	// Admit records the round and the volumes that will move.
	Admit ActionKind = "Admit"
	// AskTarget runs the target's preflight.
	AskTarget ActionKind = "AskTarget"
	// TakeSnapshots takes all snapshots of the round.
	TakeSnapshots ActionKind = "TakeSnapshots"
	// Upload exposes snapshots and stores their images.
	Upload ActionKind = "Upload"
	// SealRound adds the objects and signs the recovery point.
	SealRound ActionKind = "SealRound"
	// BeginTarget tells the target's agent.
	BeginTarget ActionKind = "BeginTarget"
	// PollTarget asks the target how far it is.
	PollTarget ActionKind = "PollTarget"
	// Finish records the end.
	Finish ActionKind = "Finish"
	// Release drops exposures and snapshots of a Migration that has ended.
	Release ActionKind = "Release"
	// Wait changes nothing: something outside has to happen first.
	Wait ActionKind = "Wait"
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
}

// Observed is all that Next decides by.
type Observed struct {
	Deleting, HasFinalizer bool
	// Unserved names fields that are set and that this version does not serve.
	Unserved []string
	// OwnNamespace is the Migration's, AdminNamespace that whose Migrations may
	// name any.
	OwnNamespace, AdminNamespace string
	Namespaces                   []Namespace
	SkipMissingNamespaces        bool
	PairName                     string
	Pair                         Pair
	IncludeVolumes               bool

	// What the Migration has come to, from its status.
	Admitted, AskedTarget, Sealed, Begun bool
	Volumes                              []Volume
	// Target is what the target last said; nil before it was asked.
	Target *TargetStatus
	// Ended is true once the Migration is final; Failed, whether it failed.
	Ended, Failed bool
	// Released is true once nothing of an ended Migration is left on the source.
	Released bool
	// Forgotten is true once nothing is left on the target, or it cannot be asked.
	Forgotten bool
}

// Namespace is one that the Migration names.
type Namespace struct {
	Name   string
	Exists bool
}

// Pair is the ClusterPair as observed.
type Pair struct {
	Found, Ready bool
	// Message says what stands in the way when not Ready.
	Message string
}

// Volume is one claim on the source.
type Volume struct {
	Namespace, Name string
	// Refused says why it cannot move; empty if it can.
	Refused string
	// SnapshotReady is true for volumes that need none.
	SnapshotReady bool
	// Image is set once it is stored.
	Image string
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
	case o.Ended && !o.Released:
		return Action{Kind: Release}
	case o.Ended && o.Failed && !o.Forgotten:
		return Action{Kind: Forget}
	case o.Ended:
		return Action{Kind: Nothing}
	case !o.Admitted:
		return nextAdmission(o)
	case !o.Pair.Found, !o.Pair.Ready:
		return waitForPair(o)
	case !o.AskedTarget:
		return Action{Kind: AskTarget}
	case !o.Sealed:
		return nextVolumes(o)
	case !o.Begun:
		return Action{Kind: BeginTarget}
	}
	return nextTarget(o)
}

func nextDeleting(o Observed) Action {
	switch {
	case !o.HasFinalizer:
		return Action{Kind: Nothing}
	case !o.Released:
		return Action{Kind: Release}
	case !o.Forgotten:
		return Action{Kind: Forget}
	}
	return Action{Kind: LetGo}
}

func nextAdmission(o Observed) Action {
	if len(o.Unserved) > 0 {
		return fail("Unsupported", "this version does not serve %s: remove it from the Migration", strings.Join(o.Unserved, ", "))
	}
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
	if !o.Pair.Found || !o.Pair.Ready {
		return waitForPair(o)
	}
	for _, v := range o.Volumes {
		if v.Refused != "" {
			return fail("VolumeNotMovable", "claim %s/%s: %s", v.Namespace, v.Name, v.Refused)
		}
	}
	return Action{Kind: Admit}
}

func waitForPair(o Observed) Action {
	if !o.Pair.Found {
		return wait("PairNotFound", "ClusterPair %s does not exist in namespace %s: create it, or correct spec.clusterPair", o.PairName, o.OwnNamespace)
	}
	return wait("PairNotReady", "ClusterPair %s is not ready: %s", o.PairName, o.Pair.Message)
}

func nextVolumes(o Observed) Action {
	if !o.IncludeVolumes {
		return Action{Kind: SealRound}
	}
	uploaded := true
	for _, v := range o.Volumes {
		if v.Failed != "" {
			return fail("VolumeFailed", "claim %s/%s: %s", v.Namespace, v.Name, v.Failed)
		}
		if !v.SnapshotReady {
			return Action{Kind: TakeSnapshots}
		}
		uploaded = uploaded && v.Image != ""
	}
	if !uploaded {
		return Action{Kind: Upload}
	}
	return Action{Kind: SealRound}
}

func nextTarget(o Observed) Action {
	if o.Target == nil {
		return Action{Kind: PollTarget}
	}
	switch o.Target.Phase {
	case TargetReady:
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

package migrate

import "time"

// DrillActionKind names what to do next about a drill.
type DrillActionKind string

// The actions, in the order of a run that goes well.
const (
	// HoldDrill adds the finalizer.
	HoldDrill DrillActionKind = "Hold"
	// BeginDrill chooses the round and writes down that a run began.
	BeginDrill DrillActionKind = "Begin"
	// CloseNamespaces makes the namespaces, closed to all others.
	CloseNamespaces DrillActionKind = "CloseNamespaces"
	// OpenCopy asks for the copy of the round.
	OpenCopy DrillActionKind = "OpenCopy"
	// WatchDrill shows how far it is.
	WatchDrill DrillActionKind = "Watch"
	// PassDrill and FailDrill record a result.
	PassDrill DrillActionKind = "Pass"
	FailDrill DrillActionKind = "Fail"
	// ClearDrill removes what was opened.
	ClearDrill DrillActionKind = "Clear"
	// LetGoDrill drops the finalizer.
	LetGoDrill DrillActionKind = "LetGo"
	// RestDrill has nothing to do until its next run.
	RestDrill DrillActionKind = "Rest"
)

// DrillAction is one thing to do, and why.
type DrillAction struct {
	Kind    DrillActionKind
	Message string
}

// ObservedDrill is all that NextDrill decides by.
type ObservedDrill struct {
	Deleting, HasFinalizer bool
	// Begun is true while a run is under way or has a result, Ended once it has one.
	Begun, Ended bool
	// Due is true where a run is to begin as soon as nothing of an earlier one is left.
	Due bool
	// Repeats is true for a drill that clears up by itself.
	Repeats bool
	// NoRound says why there is no round to open; empty where there is one.
	NoRound string
	// Taken says that a namespace of the drill is somebody's.
	Taken string
	// Closed is true once all namespaces are there, and closed.
	Closed bool
	// CopyThere, CopyReady and CopyFailed are of the copy of the round.
	CopyThere, CopyReady bool
	CopyFailed           string
	// Up is true once all that the workloads want is ready; Ready tells it in figures.
	Up    bool
	Ready string
	// Left is true while anything of a run is there.
	Left bool
	// Deadline is when the run has failed.
	Deadline time.Time
}

// NextDrill names the one thing to do next. Nothing is opened before the namespaces
// are closed, and no run begins before the last one is cleared away.
func NextDrill(o ObservedDrill, now time.Time) DrillAction {
	switch {
	case o.Deleting:
		return nextDeletingDrill(o)
	case !o.HasFinalizer:
		return DrillAction{Kind: HoldDrill}
	case o.Begun && !o.Ended:
		return nextOfDrill(o, now)
	case o.Ended && o.Left && (o.Repeats || o.Due):
		return DrillAction{Kind: ClearDrill}
	case !o.Due:
		return DrillAction{Kind: RestDrill}
	case o.Taken != "":
		return DrillAction{Kind: RestDrill, Message: o.Taken}
	case o.NoRound != "":
		return DrillAction{Kind: RestDrill, Message: o.NoRound}
	}
	return DrillAction{Kind: BeginDrill}
}

func nextDeletingDrill(o ObservedDrill) DrillAction {
	switch {
	case !o.HasFinalizer:
		return DrillAction{Kind: RestDrill}
	case o.Left:
		return DrillAction{Kind: ClearDrill}
	}
	return DrillAction{Kind: LetGoDrill}
}

func nextOfDrill(o ObservedDrill, now time.Time) DrillAction {
	late := !now.Before(o.Deadline)
	switch {
	case o.Taken != "":
		return DrillAction{Kind: FailDrill, Message: o.Taken}
	case o.CopyFailed != "":
		return DrillAction{Kind: FailDrill, Message: o.CopyFailed}
	case o.CopyReady && o.Up:
		return DrillAction{Kind: PassDrill}
	case late && o.CopyReady:
		return DrillAction{Kind: FailDrill, Message: "only " + o.Ready + " were ready when its time was up: see the pods in its namespaces"}
	case late:
		return DrillAction{Kind: FailDrill, Message: "its time was up before the volumes and objects were there"}
	case !o.Closed:
		return DrillAction{Kind: CloseNamespaces}
	case !o.CopyThere:
		return DrillAction{Kind: OpenCopy}
	}
	return DrillAction{Kind: WatchDrill}
}

package migrate

import "slices"

// StandbyActionKind names what to do next about a standby.
type StandbyActionKind string

// The actions, in the order of a run that goes well.
const (
	// HoldStandby adds the finalizer.
	HoldStandby StandbyActionKind = "Hold"
	// StartRound turns a standby at rest to the round that is asked for.
	StartRound StandbyActionKind = "StartRound"
	// RefuseActivation takes back the wish to activate what is on this cluster for good, or
	// what another cluster was activated with first: it is not to come true one day when
	// nobody thinks of it.
	RefuseActivation StandbyActionKind = "RefuseActivation"
	// ChooseRound finds the round to activate.
	ChooseRound StandbyActionKind = "ChooseRound"
	// RaiseEpoch makes this cluster the one that has the application.
	RaiseEpoch StandbyActionKind = "RaiseEpoch"
	// Adopt makes standby volumes of the claims that the application had here before
	// it moved away.
	Adopt StandbyActionKind = "Adopt"
	// ReadRound reads the sealed recovery point and records its images.
	ReadRound StandbyActionKind = "ReadRound"
	// BringForward makes volumes and writes them until they hold their images.
	BringForward StandbyActionKind = "BringForward"
	// HandOver gives the volumes to the application's claims.
	HandOver StandbyActionKind = "HandOver"
	// ApplyObjects writes the round's objects.
	ApplyObjects StandbyActionKind = "ApplyObjects"
	// GoBack asks for the round that a standby held before the one that is cancelled.
	GoBack StandbyActionKind = "GoBack"
	// Dismiss deletes a standby that cannot go back: a full copy is always right.
	Dismiss StandbyActionKind = "Dismiss"
	// TidyUp drops what only the work itself needed.
	TidyUp StandbyActionKind = "TidyUp"
	// FailStandby ends the work.
	FailStandby StandbyActionKind = "Fail"
	// TakeBack undoes what was done for a round that never got ready.
	TakeBack StandbyActionKind = "TakeBack"
	// CompareVolumes looks for what was written to the volumes since they were handed over.
	CompareVolumes StandbyActionKind = "CompareVolumes"
	// RefuseRollback leaves everything as it is and says why.
	RefuseRollback StandbyActionKind = "RefuseRollback"
	// BringWrites has the application failed back to its source.
	BringWrites StandbyActionKind = "BringWrites"
	// RollBackRound undoes the objects of a round that was handed over, then takes its volumes.
	RollBackRound StandbyActionKind = "RollBackRound"
	// TakeBackObjects undoes what a finished run applied, where it said so.
	TakeBackObjects StandbyActionKind = "TakeBackObjects"
	// LetGoStandby drops the finalizer.
	LetGoStandby StandbyActionKind = "LetGo"
	// WaitForPair changes nothing: the pair is not there.
	WaitForPair StandbyActionKind = "WaitForPair"
	// RestStandby has nothing to do.
	RestStandby StandbyActionKind = "Rest"
)

// StandbyAction is one thing to do, and why.
type StandbyAction struct {
	Kind    StandbyActionKind
	Message string
}

// ObservedStandby is all that NextStandby decides by.
type ObservedStandby struct {
	Deleting, HasFinalizer bool
	PairFound              bool
	// Stage ends the round with its volumes: nothing is handed over.
	Stage bool
	// Cancel gives the round up.
	Cancel bool
	// Activate gives the application its volumes and starts it; RoundChosen is true
	// once it is known as of which round.
	Activate, RoundChosen bool
	// Here is true where a Migration has brought the application to this cluster for good.
	Here bool
	// Superseded is true where another cluster was activated, and this one is not.
	Superseded bool
	// Drill is true for the copy of a drill, which goes with all that it holds.
	Drill bool
	// Planned activates too, on the source's word: the round is the one it says, and
	// the source may take it back until the application runs.
	Planned bool
	// Raised is true once the application's epoch is this cluster's.
	Raised bool
	// Begun is true once the status speaks of the round that is asked for.
	Begun bool
	// RoundRead is true once the recovery point's images are recorded.
	RoundRead bool
	Volumes   []StandbyVolume
	// HandingOver is true from the moment at which the first volume may be the
	// application's.
	HandingOver bool
	// Applied is true once every object was applied or refused for good.
	Applied bool
	// Ready and Failed are how it ended; Tidy is true once nothing temporary is left.
	Ready, Failed, Tidy bool
	// TakenBack is true once nothing of an unready round is left.
	TakenBack bool
	// TakesBack says that the objects go with the Migration.
	TakesBack bool
	Rollback  ObservedRollback
}

// ObservedRollback is what is known of the rollback of a round that was handed over.
type ObservedRollback struct {
	// Asked asks for it; DropWrites, to throw away what was written since.
	Asked, DropWrites bool
	// BringWrites asks to bring it to the source first, and Brought is true once it is
	// there.
	BringWrites, Brought bool
	// Compared is true once all volumes were compared with the round; Written says
	// what was written to them since, or why that cannot be known.
	Compared bool
	Written  string
	// Refused is true once that was told.
	Refused bool
	// Begun is true from the moment at which something may be undone, Done once all is.
	Begun, Done bool
}

// StandbyVolume is one volume of a standby.
type StandbyVolume struct {
	// Name is namespace/name of the application's claim.
	Name string
	// Holds is true once it holds the round's image, whole.
	Holds bool
	// Adopting is true until the application's own claim of before is its volume.
	Adopting bool
	// HandedOver is true once the application's claim can bind it.
	HandedOver bool
	// Failed says why it never will.
	Failed string
}

// NextStandby names the one thing to do next. No volume is handed over before
// every volume of the round holds its image, and no object is applied before
// every volume is handed over: a round is whole, or it is not there.
func NextStandby(o ObservedStandby) StandbyAction {
	switch {
	case o.Deleting:
		return nextDeletedStandby(o)
	case !o.HasFinalizer:
		return StandbyAction{Kind: HoldStandby}
	case o.Cancel:
		return nextCancelled(o)
	case o.Activate && (!o.RoundChosen || !o.Raised):
		return nextActivation(o)
	case !o.Begun:
		return StandbyAction{Kind: StartRound}
	}
	return nextOfBegun(o)
}

// nextActivation chooses the round, and makes the application this cluster's.
func nextActivation(o ObservedStandby) StandbyAction {
	switch {
	case !o.RoundChosen && (o.Here || o.Superseded):
		return StandbyAction{Kind: RefuseActivation}
	case !o.PairFound:
		return noPair()
	case !o.RoundChosen:
		return StandbyAction{Kind: ChooseRound}
	}
	return StandbyAction{Kind: RaiseEpoch}
}

// nextOfBegun goes on with the round that the status speaks of, or rests.
func nextOfBegun(o ObservedStandby) StandbyAction {
	ended := o.Ready || o.Failed
	switch {
	case o.Rollback.Asked && o.Ready && o.Tidy && !o.Stage && !o.Activate:
		return nextOfRollback(o)
	case ended && !o.Tidy:
		return StandbyAction{Kind: TidyUp}
	case ended:
		return StandbyAction{Kind: RestStandby}
	case !o.PairFound:
		return noPair()
	case !o.RoundRead:
		return StandbyAction{Kind: ReadRound}
	}
	return nextOfRound(o)
}

// nextOfRollback compares before it touches anything. What has begun goes to its end.
func nextOfRollback(o ObservedStandby) StandbyAction {
	r := o.Rollback
	switch {
	case r.Done:
		return StandbyAction{Kind: RestStandby}
	case r.Begun || r.DropWrites || r.Brought:
		return StandbyAction{Kind: RollBackRound}
	case r.BringWrites:
		return nextOfBringing(o)
	case !r.Compared:
		return StandbyAction{Kind: CompareVolumes}
	case r.Written != "" && r.Refused:
		return StandbyAction{Kind: RestStandby}
	case r.Written != "":
		return StandbyAction{Kind: RefuseRollback, Message: r.Written}
	}
	return StandbyAction{Kind: RollBackRound}
}

// nextOfBringing makes the application this cluster's before anything of it goes back:
// what the source seals of its own copy meanwhile would be older.
func nextOfBringing(o ObservedStandby) StandbyAction {
	switch {
	case o.Rollback.Refused:
		return StandbyAction{Kind: RestStandby}
	case !o.PairFound:
		return noPair()
	case !o.Raised:
		return StandbyAction{Kind: RaiseEpoch}
	}
	return StandbyAction{Kind: BringWrites}
}

func noPair() StandbyAction {
	return StandbyAction{Kind: WaitForPair, Message: "the pair that asked for this standby is gone: delete the Standby, or pair again and start over"}
}

func nextOfRound(o ObservedStandby) StandbyAction {
	if slices.ContainsFunc(o.Volumes, func(v StandbyVolume) bool { return v.Adopting }) {
		return StandbyAction{Kind: Adopt}
	}
	handedOver := true
	for _, v := range o.Volumes {
		if v.Failed != "" {
			return StandbyAction{Kind: FailStandby, Message: "claim " + v.Name + ": " + v.Failed}
		}
		if !v.Holds {
			return StandbyAction{Kind: BringForward}
		}
		handedOver = handedOver && v.HandedOver
	}
	switch {
	case o.Stage:
		return StandbyAction{Kind: TidyUp}
	case !handedOver:
		return StandbyAction{Kind: HandOver}
	case !o.Applied:
		return StandbyAction{Kind: ApplyObjects}
	case o.Planned && !o.Raised:
		return StandbyAction{Kind: RaiseEpoch}
	}
	return StandbyAction{Kind: TidyUp}
}

// nextCancelled goes back as long as the volumes are still in Godwit's hands. What
// was being handed over is taken back with the whole standby.
func nextCancelled(o ObservedStandby) StandbyAction {
	if o.HandingOver {
		return StandbyAction{Kind: Dismiss, Message: "its volumes were being handed over"}
	}
	return StandbyAction{Kind: GoBack}
}

// nextDeletedStandby leaves to the application what was handed over whole; all
// else was never anybody's.
func nextDeletedStandby(o ObservedStandby) StandbyAction {
	switch handedOver := o.Begun && o.Ready && !o.Stage && !o.Drill; {
	case !o.HasFinalizer:
		return StandbyAction{Kind: RestStandby}
	case handedOver && o.Rollback.Begun && !o.Rollback.Done:
		return StandbyAction{Kind: RollBackRound}
	case !handedOver && !o.TakenBack:
		return StandbyAction{Kind: TakeBack}
	case !o.Tidy:
		return StandbyAction{Kind: TidyUp}
	case o.TakesBack && !o.TakenBack:
		return StandbyAction{Kind: TakeBackObjects}
	}
	return StandbyAction{Kind: LetGoStandby}
}

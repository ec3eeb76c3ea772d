package migrate

// StandbyActionKind names what to do next about a standby.
type StandbyActionKind string

// The actions, in the order of a run that goes well.
const (
	// HoldStandby adds the finalizer.
	HoldStandby StandbyActionKind = "Hold"
	// ReadRound reads the sealed recovery point and records its images.
	ReadRound StandbyActionKind = "ReadRound"
	// BringForward makes volumes and writes them until they hold their images.
	BringForward StandbyActionKind = "BringForward"
	// HandOver gives the volumes to the application's claims.
	HandOver StandbyActionKind = "HandOver"
	// ApplyObjects writes the round's objects.
	ApplyObjects StandbyActionKind = "ApplyObjects"
	// TidyUp drops what only the work itself needed.
	TidyUp StandbyActionKind = "TidyUp"
	// FailStandby ends the work.
	FailStandby StandbyActionKind = "Fail"
	// TakeBack undoes what was done for a round that never got ready.
	TakeBack StandbyActionKind = "TakeBack"
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
	// RoundRead is true once the recovery point's images are recorded.
	RoundRead bool
	Volumes   []StandbyVolume
	// Applied is true once every object was applied or refused for good.
	Applied bool
	// Ready and Failed are how it ended; Tidy is true once nothing temporary is left.
	Ready, Failed, Tidy bool
	// TakenBack is true once nothing of an unready round is left.
	TakenBack bool
}

// StandbyVolume is one volume of a standby.
type StandbyVolume struct {
	// Name is namespace/name of the application's claim.
	Name string
	// Holds is true once it holds the round's image, whole.
	Holds bool
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
	case (o.Ready || o.Failed) && !o.Tidy:
		return StandbyAction{Kind: TidyUp}
	case o.Ready || o.Failed:
		return StandbyAction{Kind: RestStandby}
	case !o.PairFound:
		return StandbyAction{Kind: WaitForPair, Message: "the pair that asked for this standby is gone: delete the Standby, or pair again and start over"}
	case !o.RoundRead:
		return StandbyAction{Kind: ReadRound}
	}
	return nextOfRound(o)
}

func nextOfRound(o ObservedStandby) StandbyAction {
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
	case !handedOver:
		return StandbyAction{Kind: HandOver}
	case !o.Applied:
		return StandbyAction{Kind: ApplyObjects}
	}
	return StandbyAction{Kind: TidyUp}
}

func nextDeletedStandby(o ObservedStandby) StandbyAction {
	switch {
	case !o.HasFinalizer:
		return StandbyAction{Kind: RestStandby}
	case !o.Ready && !o.TakenBack:
		return StandbyAction{Kind: TakeBack}
	case !o.Tidy:
		return StandbyAction{Kind: TidyUp}
	}
	return StandbyAction{Kind: LetGoStandby}
}

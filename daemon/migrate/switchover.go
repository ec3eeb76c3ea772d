package migrate

// SwitchKind names what to do next about a planned failover or a failback.
type SwitchKind string

// The kinds, in the order of one that goes well.
const (
	// SuspendSchedule lets no new round of the schedule begin.
	SuspendSchedule SwitchKind = "SuspendSchedule"
	// AwaitRounds waits for rounds that are under way.
	AwaitRounds SwitchKind = "AwaitRounds"
	// MakeRound replicates once while the application runs, so that the last one is
	// short.
	MakeRound SwitchKind = "MakeRound"
	// MakeLastRound stops the application, moves what is left, and starts it there.
	MakeLastRound SwitchKind = "MakeLastRound"
	// FollowRound shows how the round fares that is under way.
	FollowRound SwitchKind = "FollowRound"
	// EndSwitch ends it well, FailSwitch with the source running as before.
	EndSwitch  SwitchKind = "End"
	FailSwitch SwitchKind = "Fail"
	// RestSwitch has nothing to do.
	RestSwitch SwitchKind = "Rest"
)

// SwitchRound is a Migration of the switch.
type SwitchRound struct {
	Made, Ended, Good bool
	Message           string
}

// ObservedSwitch is all that NextSwitch decides by.
type ObservedSwitch struct {
	Ended bool
	// Refused says why it cannot be done; empty if it can.
	Refused string
	// Schedule is true where one has to be suspended; Suspended once it is.
	Schedule, Suspended bool
	// Busy names a round of the application that is under way.
	Busy string
	// RoundFirst asks for a round ahead of the last one.
	RoundFirst  bool
	Round, Last SwitchRound
}

// NextSwitch names the one thing to do next, and why where it ends.
func NextSwitch(o ObservedSwitch) (SwitchKind, string) {
	switch {
	case o.Ended:
		return RestSwitch, ""
	case o.Last.Made:
		return follow(o.Last, EndSwitch)
	case o.Refused != "":
		return FailSwitch, o.Refused
	case o.Schedule && !o.Suspended:
		return SuspendSchedule, ""
	case o.Round.Made:
		return follow(o.Round, MakeLastRound)
	case o.Busy != "":
		return AwaitRounds, "waiting for Migration " + o.Busy + " to end"
	case o.RoundFirst:
		return MakeRound, ""
	}
	return MakeLastRound, ""
}

func follow(r SwitchRound, then SwitchKind) (SwitchKind, string) {
	switch {
	case !r.Ended:
		return FollowRound, r.Message
	case !r.Good:
		return FailSwitch, r.Message
	}
	return then, ""
}

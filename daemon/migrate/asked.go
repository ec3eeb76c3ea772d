package migrate

// FailOver asks the source, as the other direction of the pair reaches it, to move an
// application to the cluster that asks.
type FailOver struct {
	// Schedule is namespace/name of the source's schedule.
	Schedule string
	// Namespaces that move.
	Namespaces []string
	// Request tells one wish from the next.
	Request string
	// Started says that the source has taken the wish: one that is gone since is not
	// made again.
	Started bool
}

// FailOverReport tells how a planned failover fares on the source.
type FailOverReport struct {
	// Stage is stork's word for how far it is.
	Stage string
	// Ended is true once it is over, and Good where the application runs on the target.
	Ended, Good bool
	// Message says what it waits for, or why it failed.
	Message string
}

// The kinds that only a failover has which was asked for on the target.
const (
	// AwaitSource asks the source again a little later.
	AwaitSource SwitchKind = "AwaitSource"
	// ActivateStandby brings the application up without the source.
	ActivateStandby SwitchKind = "ActivateStandby"
)

// ObservedAsked is all that NextAsked decides by.
type ObservedAsked struct {
	Ended bool
	// Refused says why it cannot be done; empty if it can.
	Refused string
	// Skip asks nothing of the source.
	Skip bool
	// OneWay says why the source cannot be asked; empty if it can.
	OneWay string
	// Silence says why the source did not answer; empty if it did. Started is true
	// once it has taken the wish, and PatienceOver once it was silent for long.
	Silence               string
	Started, PatienceOver bool
	Source                FailOverReport
	// Activating is true once the standby is activated without the source; Up once the
	// application runs, Failed why it never will.
	Activating, Up bool
	Failed         string
}

// NextAsked names the one thing to do next about a failover that was asked for on the
// target, and why. A source that has taken the wish is waited for: it has stopped the
// application, or is about to.
func NextAsked(o ObservedAsked) (SwitchKind, string) {
	switch {
	case o.Ended:
		return RestSwitch, ""
	case o.Activating:
		return nextActivating(o)
	case o.Refused != "":
		return FailSwitch, o.Refused
	case o.Skip:
		return ActivateStandby, "nothing is asked of the source"
	case o.OneWay != "":
		return FailSwitch, o.OneWay
	case o.Silence != "" && o.Started:
		return AwaitSource, "the source has begun, and does not answer now: " + o.Silence + ": if it will not come back, ask anew with skipSourceOperations"
	case o.Silence != "" && !o.PatienceOver:
		return AwaitSource, "the source does not answer: " + o.Silence
	case o.Silence != "":
		return ActivateStandby, "the source does not answer: " + o.Silence
	case !o.Source.Ended:
		return FollowRound, o.Source.Message
	case !o.Source.Good:
		return FailSwitch, "the source says: " + o.Source.Message
	}
	return EndSwitch, ""
}

func nextActivating(o ObservedAsked) (SwitchKind, string) {
	switch {
	case o.Failed != "":
		return FailSwitch, o.Failed
	case o.Up:
		return EndSwitch, ""
	}
	return FollowRound, ""
}

package migrate

// Rules is how the commands that run in the application's pods around its
// snapshots fare.
type Rules struct {
	// Problem says why a rule cannot be carried out; empty if it can.
	Problem string
	// PreOpen is true as long as preExecRule is not where it shall be for the
	// snapshots, HoldOpen as long as its commands may keep the application still,
	// and PostOpen as long as postExecRule is not through.
	PreOpen, HoldOpen, PostOpen bool
}

// nextRule is what is to be done about rules, or before they go on; without a
// kind where nothing is. The application is kept still until the snapshots are
// cut and no longer; but a volume that has no snapshot is read to its end first.
func nextRule(o Observed, cut bool) Action {
	r := o.Rules
	switch {
	case r.PreOpen:
		return Action{Kind: RunPreRule}
	case !cut || !r.HoldOpen && !r.PostOpen:
		return Action{}
	case readsLive(o.Volumes) && !o.Collected:
		return Action{Kind: CollectObjects}
	case readsLive(o.Volumes):
		return Action{Kind: Upload}
	case r.HoldOpen:
		return Action{Kind: ReleaseHold}
	}
	return Action{Kind: RunPostRule}
}

// readsLive is true as long as a volume is not stored that is read while in use.
func readsLive(volumes []Volume) bool {
	for _, v := range volumes {
		if v.Live && v.Image == "" {
			return true
		}
	}
	return false
}

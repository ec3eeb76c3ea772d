package migrate

import (
	"fmt"
	"time"
)

// WaitKind names what a Migration waits for, and with it what bounds the wait.
type WaitKind string

// The waits. What is none of them is over at once, bounded elsewhere, or must not end
// by itself.
const (
	WaitUnreachable WaitKind = "Unreachable"
	WaitQuiesce     WaitKind = "Quiesce"
	WaitSnapshots   WaitKind = "Snapshots"
	WaitExposure    WaitKind = "Exposure"
	WaitTarget      WaitKind = "Target"
	WaitRules       WaitKind = "Rules"
	WaitHook        WaitKind = "Hook"
)

// How long each wait may get no further unless told otherwise: longer than anything
// takes that comes to an end.
const (
	DefaultUnreachable = time.Hour
	DefaultQuiesce     = time.Hour
	DefaultSnapshots   = 24 * time.Hour
	DefaultExposure    = 6 * time.Hour
	DefaultTarget      = 6 * time.Hour
)

// WaitOf is what an action waits for; empty for what has no end of its own. A target
// that was told of the round, or may have been, could have started the application by
// the time that it answers again: no clock ends that.
func WaitOf(o Observed, a Action) WaitKind {
	if o.Begun || o.Ended || o.Deleting {
		return ""
	}
	switch a.Kind {
	case Wait:
		if a.Reason == ReasonTurn {
			return "" // Who is ahead has limits of its own.
		}
		return WaitUnreachable
	case AskEpoch, Admit, AskTarget, CollectObjects, SealRound:
		return WaitUnreachable
	case StopSource, RetainVolumes:
		return WaitQuiesce
	case RunPreRule, ReleaseHold, RunPostRule:
		return WaitRules
	case RunHook:
		return WaitHook
	case TakeSnapshots:
		return WaitSnapshots
	case Upload:
		return WaitExposure
	case BeginTarget:
		return WaitTarget
	}
	return ""
}

// Standing is how long something has got no further.
type Standing struct {
	// For names what is waited for, Furthest how far it has come.
	For      string
	Furthest int64
	// Since is when it came there, Stood how much of the time since then counts, up
	// to Seen.
	Since, Seen time.Time
	Stood       time.Duration
}

// longestGap is the most that counts of the time between two looks: a process that was
// not there saw nothing.
const longestGap = 20 * time.Minute

// Next is the standing after another look. To come further than ever before, or to
// wait for something else, starts it anew.
func (s Standing) Next(waits string, at int64, now time.Time, limit time.Duration) Standing {
	if s.For != waits || at > s.Furthest {
		return Standing{For: waits, Furthest: at, Since: now, Seen: now}
	}
	if passed := now.Sub(s.Seen); passed > 0 {
		s.Stood += min(passed, longestGap, limit/2)
	}
	s.Seen = now
	return s
}

// Over is true for what has stood for longer than it may; no limit is none.
func (s Standing) Over(limit time.Duration) bool { return limit > 0 && s.Stood > limit }

// Worth is true where the standing has grown so much since another that it is to be
// kept: each look is not worth a write.
func (s Standing) Worth(than Standing, limit time.Duration) bool {
	return s.For != than.For || s.Furthest != than.Furthest || s.Seen.Sub(than.Seen) >= min(time.Minute, limit/8)
}

// Fault says what was waited for in vain.
func (s Standing) Fault(limit time.Duration, field, what string) string {
	return fmt.Sprintf("nothing got further for %s, and %s is %s: %s: mend that, then start another Migration",
		s.Stood.Round(time.Second), field, limit, what)
}

// StandbyWaits is true for an action of a standby that may take too long. A standby that
// is activated, drilled or taken back has nothing to go back to, and no end by itself.
func StandbyWaits(o ObservedStandby, a StandbyAction) bool {
	if o.Deleting || o.Cancel || o.Activate || o.Drill || o.Ready || o.Failed || o.Raised {
		return false
	}
	switch a.Kind {
	case HoldStandby, FailStandby, GoBack, Dismiss, LetGoStandby, RestStandby:
		return false
	}
	return true
}

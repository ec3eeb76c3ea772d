package controller

import (
	"cmp"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/apimachinery/pkg/api/meta"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// reasonTimedOut is of a Migration that got no further for too long.
const reasonTimedOut = "TimedOut"

// waitGrace is what a wait may take beyond the limit that its own parts have.
const waitGrace = 10 * time.Minute

// uncounted is how far a source is whose pods were not counted yet: any number of them is
// further.
const uncounted = -1 << 32

// stand notes how long the Migration has got no further, and ends one that has
// stood for too long.
func (x *run) stand(a migrate.Action) {
	s := &x.m.Status
	waits := migrate.WaitOf(x.observed, a)
	limit, field := x.limitOf(waits, a.Hook)
	if waits == "" || limit <= 0 || s.Stage == api.MigrationStageFinal {
		s.Waiting = nil
		return
	}
	before := standingOf(s.Waiting)
	now := before.Next(string(waits)+a.Hook, x.furthest(waits), x.Now(), limit)
	what := x.waitsFor(waits)
	if now.Over(limit) {
		x.fail(reasonTimedOut, now.Fault(limit, field, what))
		s.Waiting = nil
		return
	}
	if now.Worth(before, limit) {
		s.Waiting = waitingOf(now)
	}
	s.Waiting.Limit, s.Waiting.Message = metav1.Duration{Duration: limit}, what
}

// limitOf is how long the wait may stand still, and what says so; zero for no limit.
func (x *run) limitOf(waits migrate.WaitKind, hook string) (limit time.Duration, field string) {
	var t api.Timeouts
	if x.m.Spec.Timeouts != nil {
		t = *x.m.Spec.Timeouts
	}
	switch waits {
	case migrate.WaitUnreachable:
		return durationOr(t.Unreachable, migrate.DefaultUnreachable), "spec.timeouts.unreachable"
	case migrate.WaitQuiesce:
		return durationOr(t.Quiesce, migrate.DefaultQuiesce), "spec.timeouts.quiesce"
	case migrate.WaitSnapshots:
		return durationOr(t.Snapshots, migrate.DefaultSnapshots), "spec.timeouts.snapshots"
	case migrate.WaitExposure:
		return durationOr(t.Exposure, migrate.DefaultExposure), "spec.timeouts.exposure"
	case migrate.WaitTarget:
		return durationOr(t.Target, migrate.DefaultTarget), "spec.timeouts.target"
	case migrate.WaitRules:
		if x.CommandLimit > 0 {
			return x.CommandLimit + waitGrace, "the limit of a rule's command, with some grace,"
		}
	case migrate.WaitHook:
		for _, h := range x.m.Spec.Hooks {
			if h.Name == hook {
				return durationOr(h.Deadline, time.Hour) + waitGrace, "the hook's deadline, with some grace,"
			}
		}
	}
	return 0, ""
}

func durationOr(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.Duration
}

// furthest counts how far the Migration is at what it waits for; more is further.
func (x *run) furthest(waits migrate.WaitKind) int64 {
	s := &x.m.Status
	var n int64
	switch waits {
	case migrate.WaitQuiesce:
		if x.users == 0 {
			return uncounted
		}
		return -x.users
	case migrate.WaitSnapshots:
		for _, v := range s.Volumes {
			if v.Taken != nil {
				n++
			}
			if v.Step != stepSnapshot {
				n++
			}
		}
	case migrate.WaitExposure:
		for _, v := range s.Volumes {
			if v.Step == stepStored {
				n++
			}
		}
		// A transfer that lives is its node's to end.
		return n + x.beat
	case migrate.WaitRules:
		return tasksThrough(s.Rules)
	}
	return n
}

// tasksThrough counts the commands of rules that have ended or are held.
func tasksThrough(r *api.RuleStatus) (n int64) {
	if r == nil {
		return 0
	}
	for _, tasks := range [][]api.RuleTask{r.PreExec, r.PostExec} {
		for _, t := range tasks {
			if t.State != api.RuleTaskPlanned && t.State != api.RuleTaskStarted {
				n++
			}
		}
	}
	return n
}

// waitsFor names the object that is waited for.
func (x *run) waitsFor(waits migrate.WaitKind) string {
	for _, v := range x.m.Status.Volumes {
		open := waits == migrate.WaitSnapshots && v.Step == stepSnapshot || waits == migrate.WaitExposure && v.Step == stepBackup
		if open {
			return fmt.Sprintf("claim %s/%s: %s", v.Namespace, v.PersistentVolumeClaim, cmp.Or(v.Reason, "nothing is known of it yet"))
		}
	}
	ready := meta.FindStatusCondition(x.m.Status.Conditions, api.ConditionReady)
	if ready == nil {
		return ""
	}
	return ready.Message
}

func standingOf(w *api.Waiting) migrate.Standing {
	if w == nil {
		return migrate.Standing{}
	}
	return migrate.Standing{For: w.For, Furthest: w.Furthest, Since: w.Since.Time, Seen: w.Seen.Time, Stood: w.Stood.Duration}
}

func waitingOf(s migrate.Standing) *api.Waiting {
	return &api.Waiting{
		For: s.For, Furthest: s.Furthest, Since: metav1.NewTime(s.Since), Seen: metav1.NewTime(s.Seen), Stood: metav1.Duration{Duration: s.Stood},
	}
}

package target

import (
	"cmp"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// stand notes how long the standby has got no further with a round of its source, and
// gives up one that has stood for too long.
func (x *run) stand(o migrate.ObservedStandby, a migrate.StandbyAction) {
	s := &x.s.Status
	patience := x.s.Spec.Patience
	if patience == nil || !migrate.StandbyWaits(o, a) || s.Phase == api.StandbyFailed || s.Phase == api.StandbyReady {
		s.Waiting = nil
		return
	}
	limit, before := patience.Duration, migrate.Standing{}
	if w := s.Waiting; w != nil {
		before = migrate.Standing{For: w.For, Furthest: w.Furthest, Since: w.Since.Time, Seen: w.Seen.Time, Stood: w.Stood.Duration}
	}
	now := before.Next(string(a.Kind), x.furthest(), x.Now(), limit)
	what := x.waitsFor()
	if now.Over(limit) {
		x.fail(now.Fault(limit, "spec.timeouts.target", string(a.Kind)+": "+what))
		s.Waiting = nil
		return
	}
	if now.Worth(before, limit) {
		s.Waiting = &api.Waiting{
			For: now.For, Furthest: now.Furthest, Since: metav1.NewTime(now.Since), Seen: metav1.NewTime(now.Seen), Stood: metav1.Duration{Duration: now.Stood},
		}
	}
	s.Waiting.Limit, s.Waiting.Message = *patience, what
}

// furthest counts how far the standby is; more is further.
func (x *run) furthest() int64 {
	n := x.beat // A transfer that lives is its node's to end.
	for _, v := range x.s.Status.Volumes {
		for _, done := range []bool{v.Wants != "" && v.Image == v.Wants, v.HandedOver, v.Adopted && !v.Adopting} {
			if done {
				n++
			}
		}
	}
	return n
}

// waitsFor names the object that is waited for.
func (x *run) waitsFor() string {
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if v.Reason != "" && (v.Image != v.Wants || !v.HandedOver) && x.s.Status.Message == "" {
			return fmt.Sprintf("claim %s/%s: %s", into(v), v.Name, v.Reason)
		}
	}
	return cmp.Or(x.s.Status.Message, "nothing says why")
}

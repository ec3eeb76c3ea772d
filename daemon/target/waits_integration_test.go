package target_test

import (
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// cancelled cancels the round of a Migration that never ended, until all is done.
func (p *played) cancelled() {
	p.t.Helper()
	for range 80 {
		done, err := p.target.Cancel(p.t.Context(), migrate.Cancel{RoundRef: p.round, Unfinished: true})
		p.must(err)
		if done {
			return
		}
		p.step()
	}
	p.t.Fatalf("the cancel comes to no end: %+v", p.standby().Status)
}

// TestCancelTakesBackWhatTheSourceNeverSaw: a round that the target reached before its
// source heard of it is taken back too, or the application would run on both.
func TestCancelTakesBackWhatTheSourceNeverSaw(t *testing.T) {
	p := handedOver(t)
	p.differs = "all of it differs"
	p.cancelled()
	p.isBack(false)
}

// TestTargetGivesUp: a target that waits for what never comes ends the round after its
// patience, and says what it waited for. A restart neither does that nor puts it off.
func TestTargetGivesUp(t *testing.T) {
	p := asked(t, time.Minute)
	now := time.Now()
	p.agent.Now = func() time.Time { return now }
	p.waiting = "pod godwit-hold is Pending: no node has room"
	for range 6 {
		p.step()
	}
	w := p.standby().Status.Waiting
	if w == nil || w.For != string(migrate.BringForward) || !strings.Contains(w.Message, p.waiting) || w.Limit.Duration != time.Minute {
		t.Fatalf("it does not say what it waits for: %+v", w)
	}
	now = now.Add(10 * time.Hour)
	p.step()
	if s := p.standby().Status; s.Phase == api.StandbyFailed || s.Waiting.Stood.Duration > time.Minute/2 {
		t.Fatalf("time in which nobody looked counts: %+v", s)
	}
	for range 4 {
		now = now.Add(20 * time.Second)
		p.step()
	}
	s := p.standby().Status
	if s.Phase != api.StandbyFailed || !strings.Contains(s.Message, "claim cms/data") || !strings.Contains(s.Message, p.waiting) || !strings.Contains(s.Message, "spec.timeouts.target is 1m0s") {
		t.Fatalf("it waits for ever: %+v", s)
	}
	p.cancelled()
	var list api.StandbyList
	p.must(p.client.List(t.Context(), &list, client.InNamespace(home)))
	if len(list.Items) > 0 {
		t.Errorf("left: %+v", list.Items)
	}
}

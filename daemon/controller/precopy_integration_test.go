package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func precopied(s *api.MigrationSpec) {
	yes := true
	s.Precopy, s.StartApplications = &api.Precopy{MaxDowntime: &metav1.Duration{Duration: 30 * time.Second}}, &yes
}

// there tells whether a Migration is there.
func (r *rig) there(name string) bool {
	var m api.Migration
	err := r.client.Get(r.t.Context(), types.NamespacedName{Namespace: r.ns, Name: name}, &m)
	r.must(client.IgnoreNotFound(err))
	return err == nil
}

// plays lets rounds go on, each taking so many seconds of the rig's clock.
func (r *rig) plays(name string, seconds ...int) func() {
	aged := map[string]bool{}
	return func() {
		for n, s := range seconds {
			round := fmt.Sprintf("%s-precopy-%d", name, n+1)
			if !r.there(round) {
				continue
			}
			if !aged[round] {
				aged[round] = true
				// Its creation is the API server's time, its end the rig's.
				r.now = time.Now().Add(time.Duration(s) * time.Second)
			}
			r.step(round)
			if r.there(round) {
				r.carryOut(round)()
			}
		}
	}
}

// TestPrecopy makes rounds while the application runs, stops it when the next is
// foreseen to be short, and leaves no round behind.
func TestPrecopy(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.must(r.client.Delete(t.Context(), r.workloads("data"), client.GracePeriodSeconds(0)))
	running := r.state()
	r.migration("move", precopied)
	m := r.until("move", "enough rounds", is("Precopied"), r.plays("move", 1000, 400, 100))
	same(t, "while rounds are made", r.state(), running)
	if len(m.Status.Precopy) != 3 || m.Status.Precopy[2].Took == nil || m.Status.Precopy[2].Status != api.MigrationStatusSuccessful {
		t.Fatalf("rounds: %+v", m.Status.Precopy)
	}
	if c := meta.FindStatusCondition(m.Status.Conditions, "Precopied"); c.Reason != "ShortEnough" {
		t.Errorf("it stops for %s: %s", c.Reason, c.Message)
	}
	third := r.get("move-precopy-3").Status.Volumes[0]
	r.target.firstReady = r.now.Add(time.Second)
	var base *api.TransferBase
	m = r.until("move", "its end", ended, func() {
		for _, transfer := range r.transfersOf(r.get("move")) {
			base = transfer.Spec.Base
		}
		for n := 1; n <= 3; n++ {
			if round := fmt.Sprintf("move-precopy-%d", n); r.there(round) {
				r.step(round)
			}
		}
	}, r.carryOut("move"))
	if m.Status.Status != api.MigrationStatusSuccessful || base == nil || base.Image != third.Image {
		t.Errorf("it ended as %s, and the last copy starts from %+v, want image %s", m.Status.Status, base, third.Image)
	}
	if got := r.state()["web"]; got != "stopped was 3" {
		t.Errorf("at the end web %s", got)
	}
	for n := 1; n <= 3; n++ {
		if r.there(fmt.Sprintf("move-precopy-%d", n)) {
			t.Errorf("round %d is left", n)
		}
	}
	if len(r.target.canceled) > 0 || len(r.target.rounds) == 0 {
		t.Errorf("with its rounds went the target's record, by which it could be rolled back: %v, %v", r.target.canceled, r.target.rounds)
	}
	if left := r.left(m); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestPrecopyEndsEarly cancels, fails and deletes during a round: the application was
// never stopped, and no round goes on.
func TestPrecopyEndsEarly(t *testing.T) {
	for _, how := range []string{"cancel", "fail", "delete"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			r.claim("data")
			r.must(r.client.Delete(t.Context(), r.workloads("data"), client.GracePeriodSeconds(0)))
			running := r.state()
			r.migration("move", precopied)
			play := r.plays("move", 1000, 400)
			m := r.until("move", "round 2", func(*api.Migration) bool { return r.there("move-precopy-2") }, play)
			switch how {
			case "cancel":
				r.cancel(m)
			case "delete":
				r.must(r.client.Delete(t.Context(), m))
			case "fail":
				r.must(r.client.Delete(t.Context(), r.get("move-precopy-2")))
			}
			for range 20 {
				r.step("move")
				play()
			}
			same(t, how, r.state(), running)
			if r.there("move-precopy-1") || r.there("move-precopy-2") {
				t.Error("rounds are left")
			}
			if how == "delete" {
				if r.there("move") {
					t.Errorf("it is not gone: %+v", r.get("move").Status)
				}
				return
			}
			m = r.get("move")
			if !ended(m) || how == "fail" && !strings.Contains(ready(m).Message, "round 2, Migration move-precopy-2: it was deleted") {
				t.Errorf("it is %s: %+v", m.Status.Status, m.Status.Conditions)
			}
		})
	}
}

func ready(m *api.Migration) metav1.Condition {
	if c := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady); c != nil {
		return *c
	}
	return metav1.Condition{}
}

package controller_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// minutes lets everything get no further for a minute.
func minutes(s *api.MigrationSpec) {
	quiesced(s)
	minute := &metav1.Duration{Duration: time.Minute}
	s.Timeouts = &api.Timeouts{Unreachable: minute, Quiesce: minute, Snapshots: minute, Exposure: minute, Target: minute}
}

// TestPodsThatNeverEnd: the wait for them names the pod, is not shortened by a restart,
// and ends with the source as it was; each pod that ends starts it anew.
func TestPodsThatNeverEnd(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	pod := r.workloads("data")
	other := pod.DeepCopy()
	other.Name, other.ResourceVersion, other.UID = "db-1", "", ""
	r.must(r.client.Create(t.Context(), other))
	before := r.state()
	r.migration("move", minutes)
	r.until("move", stopping, is(stopping))
	wait := func(times int, each time.Duration) *api.Migration {
		for range times {
			r.now = r.now.Add(each)
			r.step("move")
		}
		return r.get("move")
	}
	m := wait(3, 15*time.Second)
	if w := m.Status.Waiting; w == nil || w.For != "Quiesce" || !strings.Contains(w.Message, "db-0") || w.Stood.Duration < 25*time.Second {
		t.Fatalf("it does not say what it waits for: %+v", w)
	}
	r.must(r.client.Delete(t.Context(), other, client.GracePeriodSeconds(0)))
	if m = wait(1, 10*time.Second); m.Status.Waiting.Stood.Duration != 0 {
		t.Fatalf("a pod ended, and yet it got no further: %+v", m.Status.Waiting)
	}
	if m = wait(1, 10*time.Hour); m.Status.Stage == api.MigrationStageFinal {
		t.Fatalf("time in which nobody looked counts: %+v", m.Status)
	}
	if m = wait(4, 20*time.Second); m.Status.Stage != api.MigrationStageFinal {
		t.Fatalf("it waits for ever: %+v", m.Status)
	}
	said := ready(m)
	if said.Reason != "TimedOut" || !strings.Contains(said.Message, "pod "+r.ns+"/db-0") || !strings.Contains(said.Message, "spec.timeouts.quiesce is 1m0s") {
		t.Errorf("said: %+v", said)
	}
	m = r.until("move", "its end", ended)
	same(t, "after the end", r.state(), before)
	if m.Status.Waiting != nil {
		t.Errorf("it still waits: %+v", m.Status.Waiting)
	}
}

// TestNothingStartsOnTheTarget: a Migration that was to wait for the target's first pod
// does not call it a success when there is none.
func TestNothingStartsOnTheTarget(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.migration("move", func(s *api.MigrationSpec) {
		yes := true
		s.StartApplications, s.Timeouts = &yes, &api.Timeouts{Start: &metav1.Duration{Duration: time.Minute}}
	})
	m := r.until("move", "its end", ended, r.carryOut("move"), func() { r.now = r.now.Add(10 * time.Second) })
	r.migration("staged", func(s *api.MigrationSpec) {
		yes := true
		s.StartApplications, s.Stage, s.Timeouts = &yes, &yes, &api.Timeouts{Start: &metav1.Duration{Duration: time.Minute}}
	})
	if staged := r.until("staged", "its end", ended, r.carryOut("staged")); staged.Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("a stage run starts nothing, and ended as %s: %+v", staged.Status.Status, ready(staged))
	}
	if said := ready(m); m.Status.Status != api.MigrationStatusPartialSuccess || said.Reason != "NotStarted" || !strings.Contains(said.Message, "within 1m0s") {
		t.Errorf("%s: %+v", m.Status.Status, said)
	}
}

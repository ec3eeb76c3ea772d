package controller_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// TestRetriesAreCounted: what is tried again is in the status with its count and its
// reason: what the controller does, what nodes do, and what the target does.
func TestRetriesAreCounted(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.migration("move", nil)
	r.until("move", admitted, is(admitted))
	r.target.deaf(3)
	for range 3 {
		r.step("move")
	}
	if got := r.get("move").Status.Retries; len(got) != 1 || got[0].Stage != "AskTarget" || got[0].Count != 3 || got[0].Cluster != api.HookSource || got[0].Reason == "" {
		t.Errorf("the target did not answer three times: %+v", got)
	}
	r.until("move", "a transfer", func(m *api.Migration) bool { return len(r.transfersOf(m)) > 0 })
	failed := r.transfersOf(r.get("move"))[0]
	at := metav1.Now()
	failed.Status.Phase, failed.Status.Attempts, failed.Status.LastFailure, failed.Status.LastFailed = api.TransferPending, 3, "connection reset", &at
	r.must(r.client.Status().Update(t.Context(), &failed))
	r.step("move")
	r.target.retries = []migrate.TargetRetry{{Stage: "HandOver", Count: 2, Reason: "the volume is busy", First: r.now, Last: r.now}}
	m := r.until("move", "its end", ended, r.carryOut("move"))
	told := map[string]api.Retry{}
	for _, retry := range m.Status.Retries {
		told[strings.TrimSpace(string(retry.Cluster)+" "+retry.Stage+" "+retry.Volume)] = retry
	}
	if u := told["Source Upload "+types.NamespacedName{Namespace: r.ns, Name: "data"}.String()]; u.Count != 2 || u.Reason != "connection reset" {
		t.Errorf("a node tried twice again: %+v", m.Status.Retries)
	}
	if h := told["Target HandOver"]; h.Count != 2 || h.Reason != "the volume is busy" {
		t.Errorf("the target tried twice again: %+v", m.Status.Retries)
	}
}

// TestLostPairIsTold: a run whose pair is not ready any more says so afterwards, and one
// that has not begun does not.
func TestLostPairIsTold(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.pairIs(metav1.ConditionFalse, "not yet")
	r.migration("move", nil)
	r.until("move", "the pair is missed", func(m *api.Migration) bool { return ready(m).Reason == "PairNotReady" })
	if got := r.get("move").Status.Retries; len(got) != 0 {
		t.Errorf("nothing was tried yet: %+v", got)
	}
	r.pairIs(metav1.ConditionTrue, "")
	r.until("move", admitted, is(admitted))
	r.pairIs(metav1.ConditionFalse, "cannot reach it")
	r.step("move")
	r.step("move")
	r.pairIs(metav1.ConditionTrue, "")
	m := r.until("move", "its end", ended, r.carryOut("move"))
	if got := m.Status.Retries; m.Status.Status != api.MigrationStatusSuccessful || len(got) != 1 || got[0].Stage != "PairNotReady" || got[0].Count != 2 ||
		!strings.Contains(got[0].Reason, "cannot reach it") {
		t.Errorf("%s: %+v", m.Status.Status, got)
	}
}

// pairIs says how the pair of the rig stands.
func (r *rig) pairIs(stands metav1.ConditionStatus, message string) {
	r.t.Helper()
	var p api.ClusterPair
	r.must(r.client.Get(r.t.Context(), types.NamespacedName{Namespace: r.ns, Name: "west"}, &p))
	meta.SetStatusCondition(&p.Status.Conditions, metav1.Condition{Type: api.ConditionReady, Status: stands, Reason: "ByTheTest", Message: message})
	r.must(r.client.Status().Update(r.t.Context(), &p))
}

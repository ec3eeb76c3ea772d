package controller_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// rollback asks for a Migration to be taken back.
func (r *rig) rollback(name string, drop bool) {
	r.t.Helper()
	m := r.get(name)
	yes := true
	before := m.DeepCopy()
	m.Spec.Rollback, m.Spec.DropTargetWrites = &yes, &drop
	r.must(r.client.Patch(r.t.Context(), m, client.MergeFrom(before)))
}

// moved is a quiesced Migration that has succeeded, and how the source was before.
func (r *rig) moved() (before map[string]string) {
	r.t.Helper()
	r.claim("data")
	r.must(r.client.Delete(r.t.Context(), r.workloads("data"), client.GracePeriodSeconds(0)))
	before = r.state()
	r.target.firstReady = r.now
	r.migration("move", quiesced)
	r.until("move", "its end", ended, r.carryOut("move"))
	return before
}

// TestRollback takes a Migration back long after it succeeded: the source runs again
// only when the target is through, and doing it again does nothing.
func TestRollback(t *testing.T) {
	r := newRig(t)
	r.target.resources = []migrate.TargetResource{{Version: "v1", Kind: "ConfigMap", Namespace: r.ns, Name: "settings", OK: true}}
	before := r.moved()
	if s := r.get("move").Status.Summary; s.Volumes != "1/1" || s.Resources != "1/1" {
		t.Errorf("moved: %+v", s)
	}
	stopped := r.state()
	r.rollback("move", false)
	for range 4 {
		r.step("move")
		same(t, "before the target is through", r.state(), stopped)
	}
	m := r.until("move", "rolled back", func(m *api.Migration) bool { return m.Status.Status == api.MigrationStatusRolledBack })
	same(t, "rolled back", r.state(), before)
	if s := m.Status.Summary; s.Volumes != "0/1" || s.Resources != "0/1" {
		t.Errorf("rolled back: %+v", s)
	}
	if meta.IsStatusConditionTrue(m.Status.Conditions, "Complete") || !is("RolledBack")(m) {
		t.Errorf("conditions %+v", m.Status.Conditions)
	}
	asked := len(r.target.takenBack)
	for range 3 {
		r.step("move")
	}
	if len(r.target.takenBack) != asked {
		t.Error("the target was asked again after the end")
	}
	r.must(r.client.Delete(t.Context(), r.get("move")))
	for range 8 {
		r.step("move")
	}
	if left := r.left(m); len(left) > 0 || len(r.target.rounds) > 0 {
		t.Errorf("left: %v; on the target: %v", left, r.target.rounds)
	}
}

// TestRollbackRefused leaves both sides alone where the target was written to, until
// that may go.
func TestRollbackRefused(t *testing.T) {
	r := newRig(t)
	before := r.moved()
	stopped := r.state()
	r.target.writes = "claim cms/data: 512 bytes differ"
	r.rollback("move", false)
	refused := func(m *api.Migration) bool {
		c := meta.FindStatusCondition(m.Status.Conditions, "RollingBack")
		return c != nil && c.Reason == "TargetWritten" && strings.Contains(c.Message, "512 bytes differ")
	}
	m := r.until("move", "refused", refused)
	if m.Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("it is %s", m.Status.Status)
	}
	same(t, "refused", r.state(), stopped)
	r.rollback("move", true)
	r.until("move", "rolled back", func(m *api.Migration) bool { return m.Status.Status == api.MigrationStatusRolledBack })
	same(t, "rolled back", r.state(), before)
	if back := r.target.takenBack[0]; !back.DropWrites || back.Request <= m.Generation {
		t.Errorf("the target was asked for %+v", back)
	}
}

// TestRollbackBringsWrites has the target bring them, and the source started then; that
// they are to be dropped as well is refused by the API.
func TestRollbackBringsWrites(t *testing.T) {
	r := newRig(t)
	before := r.moved()
	r.target.writes = "claim cms/data: 512 bytes differ"
	m := r.get("move")
	was, yes := m.DeepCopy(), true
	m.Spec.Rollback, m.Spec.BringTargetWrites, m.Spec.DropTargetWrites = &yes, &yes, &yes
	if err := r.client.Patch(t.Context(), m, client.MergeFrom(was)); err == nil || !strings.Contains(err.Error(), "leave out dropTargetWrites, or bringTargetWrites") {
		t.Fatalf("both: %v", err)
	}
	m.Spec.DropTargetWrites = nil
	r.must(r.client.Patch(t.Context(), m, client.MergeFrom(was)))
	r.until("move", "rolled back", func(m *api.Migration) bool { return m.Status.Status == api.MigrationStatusRolledBack })
	same(t, "rolled back", r.state(), before)
	if back := r.target.takenBack[0]; !back.BringWrites || back.DropWrites {
		t.Errorf("the target was asked for %+v", back)
	}
}

// TestRollbackSparesTheSource brings nothing over what the source wrote itself: it was
// never stopped, or runs again.
func TestRollbackSparesTheSource(t *testing.T) {
	refused := func(words string) func(*api.Migration) bool {
		return func(m *api.Migration) bool {
			c := meta.FindStatusCondition(m.Status.Conditions, "RollingBack")
			return c != nil && c.Reason == "SourceWritten" && strings.Contains(c.Message, words)
		}
	}
	bring := func(r *rig) {
		m := r.get("move")
		was, yes := m.DeepCopy(), true
		m.Spec.Rollback, m.Spec.BringTargetWrites = &yes, &yes
		r.must(r.client.Patch(t.Context(), m, client.MergeFrom(was)))
	}
	r := newRig(t)
	r.claim("data")
	r.migration("move", nil)
	r.until("move", "its end", ended, r.carryOut("move"))
	bring(r)
	r.until("move", "refused", refused("was not stopped"))
	s := newRig(t)
	s.moved()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: "db-0"}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	s.must(s.client.Create(t.Context(), pod))
	bring(s)
	s.until("move", "refused", refused("was started again"))
	if len(r.target.takenBack)+len(s.target.takenBack) > 0 {
		t.Error("the target was asked")
	}
}

// TestRollbackIsFinal: the target has no record any more, or the run was a stage.
func TestRollbackIsFinal(t *testing.T) {
	r := newRig(t)
	r.moved()
	clear(r.target.rounds)
	r.rollback("move", true)
	final := func(reason string) func(*api.Migration) bool {
		return func(m *api.Migration) bool {
			c := meta.FindStatusCondition(m.Status.Conditions, "RollingBack")
			return c != nil && c.Reason == reason && m.Status.Status == api.MigrationStatusSuccessful
		}
	}
	r.until("move", "final", final("Final"))
	s := newRig(t)
	s.claim("data")
	s.stage("one", staged)
	s.rollback("one", false)
	s.until("one", "final", final("StageRun"))
}

// TestRollbackEndsBeforeDeletion: what has begun is finished first.
func TestRollbackEndsBeforeDeletion(t *testing.T) {
	r := newRig(t)
	before := r.moved()
	r.rollback("move", false)
	for range 3 {
		r.step("move")
	}
	r.must(r.client.Delete(t.Context(), r.get("move")))
	for range 12 {
		r.step("move")
	}
	if !r.target.back {
		t.Error("the rollback was left half done")
	}
	same(t, "deleted", r.state(), before)
}

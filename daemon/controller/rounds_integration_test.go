package controller_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

func staged(s *api.MigrationSpec) {
	yes := true
	s.Stage = &yes
}

// stage runs one stage to its end, and returns it with the transfer that it made.
func (r *rig) stage(name string, change func(*api.MigrationSpec)) (*api.Migration, api.VolumeTransfer) {
	r.t.Helper()
	r.migration(name, change)
	var made api.VolumeTransfer
	m := r.until(name, "its end", ended, func() {
		if all := r.transfersOf(r.get(name)); len(all) > 0 {
			made = all[0]
		}
	}, r.carryOut(name))
	if m.Status.Status != api.MigrationStatusSuccessful {
		r.t.Fatalf("%s ended as %+v", name, m.Status)
	}
	return m, made
}

// TestRounds stages three times and then moves: each round starts from exactly one
// base, which the last one drops.
func TestRounds(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	first, transfer := r.stage("stage-1", staged)
	if transfer.Spec.Base != nil {
		t.Errorf("the first round starts from %+v", transfer.Spec.Base)
	}
	last := first
	for _, name := range []string{"stage-2", "stage-3"} {
		m, transfer := r.stage(name, staged)
		was := last.Status.Volumes[0]
		if b := transfer.Spec.Base; b == nil || b.Image != was.Image || b.SnapshotHandle != was.SnapshotHandle || transfer.Spec.From != was.Image {
			t.Errorf("%s starts from %+v, and %s is the round before", name, b, was.Image)
		}
		if left := r.storage.left(); len(left) != 1 {
			t.Errorf("after %s there is not one base: %v", name, left)
		}
		if b := r.target.begun[len(r.target.begun)-1]; !b.Stage || b.Application != first.Status.Application || b.Round != m.Status.Round {
			t.Errorf("the target was told %+v", b)
		}
		last = m
	}
	move, transfer := r.stage("move", nil)
	if b := transfer.Spec.Base; b == nil || b.Image != last.Status.Volumes[0].Image {
		t.Errorf("the last round starts from %+v", b)
	}
	if left := r.left(move); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if len(r.target.canceled) > 0 {
		t.Errorf("the target was told to take back %v", r.target.canceled)
	}
}

// TestFailedRoundKeepsABase fails a round before it is sealed, and another on the
// target: the next one starts from what was stored last.
func TestFailedRoundKeepsABase(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	good, _ := r.stage("good", staged)
	r.migration("unsealed", staged)
	r.until("unsealed", "its upload", func(m *api.Migration) bool { return len(r.transfersOf(m)) > 0 })
	m := r.get("unsealed")
	yes := true
	m.Spec.Cancel = &yes
	r.must(r.client.Update(t.Context(), m))
	r.until("unsealed", "its end", ended, r.carryOut("unsealed"))
	r.target.phase = migrate.TargetFailed
	r.migration("bad", staged)
	var transfer api.VolumeTransfer
	bad := r.until("bad", "its end", func(m *api.Migration) bool {
		if all := r.transfersOf(m); len(all) > 0 {
			transfer = all[0]
		}
		return ended(m) && meta.IsStatusConditionTrue(m.Status.Conditions, "TargetCleared")
	}, r.carryOut("bad"))
	if transfer.Spec.Base == nil || transfer.Spec.Base.Image != good.Status.Volumes[0].Image {
		t.Errorf("after a round that was not sealed it starts from %+v", transfer.Spec.Base)
	}
	if len(r.target.canceled) != 1 || r.target.canceled[0] != bad.Status.Application+"@"+bad.Status.Round {
		t.Errorf("the target was told to take back %v", r.target.canceled)
	}
	r.target.phase = migrate.TargetReady
	if _, transfer := r.stage("again", staged); transfer.Spec.Base == nil || transfer.Spec.Base.Image != bad.Status.Volumes[0].Image {
		t.Errorf("after a round that failed on the target it starts from %+v", transfer.Spec.Base)
	}
	if left := r.storage.left(); len(left) != 1 {
		t.Errorf("there is not one base: %v", left)
	}
}

// TestNextRoundStartsAtTheSeal takes a round while the target still brings the last one
// forward: it starts from what that one stored, and the target is told of one after the
// other. What moves the application waits for all of them.
func TestNextRoundStartsAtTheSeal(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.target.phase = migrate.TargetVolumes
	r.migration("a", staged)
	a := r.until("a", "the target", is(begun), r.carryOut("a"))
	r.migration("b", staged)
	var transfer api.VolumeTransfer
	r.until("b", "its seal", is(sealed), func() {
		if all := r.transfersOf(r.get("b")); len(all) > 0 {
			transfer = all[0]
		}
	}, r.carryOut("b"))
	if base := transfer.Spec.Base; base == nil || base.Image != a.Status.Volumes[0].Image {
		t.Errorf("it starts from %+v, and %s was sealed last", base, a.Status.Volumes[0].Image)
	}
	r.migration("move", nil)
	for range 5 {
		r.step("b")
		r.step("move")
	}
	if b := r.get("b"); len(r.target.begun) != 1 || !strings.Contains(readyOf(b), "Migration a of the same application") {
		t.Errorf("the target was told of %d rounds while it brings the first one forward: %s", len(r.target.begun), readyOf(b))
	}
	if m := r.get("move"); is(admitted)(m) || !strings.Contains(readyOf(m), "of the same application") {
		t.Errorf("the move did not wait: %s", readyOf(m))
	}
	r.target.phase = migrate.TargetReady
	r.until("a", "its end", ended)
	r.until("b", "its end", ended)
	if left := r.storage.left(); len(left) != 1 {
		t.Errorf("there is not one base: %v", left)
	}
	r.until("move", "its end", ended, r.carryOut("move"))
	if left := r.storage.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func readyOf(m *api.Migration) string {
	if c := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady); c != nil {
		return c.Reason + ": " + c.Message
	}
	return ""
}

// TestRemadeClaimHasNoBase replaces a claim between two rounds by another of the
// same name.
func TestRemadeClaimHasNoBase(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.stage("before", staged)
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "data"}}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-" + r.ns + "-data"}}
	r.forceDelete(pvc)
	r.forceDelete(pv)
	r.volume = "other-"
	r.claim("data")
	if _, transfer := r.stage("after", staged); transfer.Spec.Base != nil {
		t.Errorf("another volume starts from %+v", transfer.Spec.Base)
	}
	if left := r.storage.left(); len(left) != 1 {
		t.Errorf("there is not one base: %v", left)
	}
}

func (r *rig) forceDelete(obj client.Object) {
	r.t.Helper()
	r.must(r.client.Delete(r.t.Context(), obj))
	r.must(r.client.Get(r.t.Context(), client.ObjectKeyFromObject(obj), obj))
	obj.SetFinalizers(nil)
	r.must(r.client.Update(r.t.Context(), obj))
}

// TestTurns makes two Migrations of one application at once: the second waits, and
// says for whom.
func TestTurns(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.target.phase = migrate.TargetVolumes
	r.migration("a", nil)
	r.until("a", "the target", is(begun), r.carryOut("a"))
	r.migration("b", staged)
	for range 5 {
		r.step("b")
	}
	b := r.get("b")
	if ready := meta.FindStatusCondition(b.Status.Conditions, api.ConditionReady); ready == nil || !strings.Contains(ready.Message, "Migration a of the same application") || is(admitted)(b) {
		t.Fatalf("the second did not wait: %+v", b.Status)
	}
	r.target.phase = migrate.TargetReady
	r.until("a", "its end", ended)
	r.until("b", "its end", ended, r.carryOut("b"))
}

// TestLastOneTakesAll deletes the Migrations of an application: what was kept for
// another round goes with the last one.
func TestLastOneTakesAll(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.stage("a", staged)
	r.stage("b", staged)
	for i, name := range []string{"b", "a"} {
		m := r.get(name)
		r.must(r.client.Delete(t.Context(), m))
		for range 8 {
			r.step(name)
		}
		if err := r.client.Get(t.Context(), types.NamespacedName{Namespace: r.ns, Name: name}, m); client.IgnoreNotFound(err) != nil || err == nil {
			t.Fatalf("%s is still there: %v %+v", name, err, m.Status)
		}
		if kept := len(r.storage.left()); kept != 1-i {
			t.Errorf("after %s was deleted there are %d bases", name, kept)
		}
	}
	if len(r.target.canceled) != 1 || !strings.HasSuffix(r.target.canceled[0], " whole") {
		t.Errorf("the target was told to take back %v", r.target.canceled)
	}
	var books corev1.ConfigMapList
	r.must(r.client.List(t.Context(), &books, client.InNamespace(home), client.MatchingLabels{"app.kubernetes.io/managed-by": "godwit"}))
	for _, b := range books.Items {
		if strings.HasPrefix(b.Annotations["godwit.io/application"], r.ns+"/") {
			t.Errorf("ConfigMap %s is left", b.Name)
		}
	}
}

// TestACopyOutlivesItsSource deletes the last Migration of a schedule, and the last
// one of a namespace that goes: the target keeps what it has. Nothing stays on the
// source.
func TestACopyOutlivesItsSource(t *testing.T) {
	for name, lose := range map[string]func(*rig){
		"schedule": func(r *rig) {
			m := r.get("a")
			m.Annotations = map[string]string{api.AnnotationScheduleName: "dr"}
			r.must(r.client.Update(t.Context(), m))
			r.must(r.client.Delete(t.Context(), m))
		},
		"namespace": func(r *rig) {
			r.must(r.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.ns}}))
			r.must(r.client.Delete(t.Context(), r.get("a")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.claim("data")
			r.stage("a", staged)
			lose(r)
			for range 8 {
				r.step("a")
			}
			var m api.Migration
			if err := r.client.Get(t.Context(), types.NamespacedName{Namespace: r.ns, Name: "a"}, &m); client.IgnoreNotFound(err) != nil || err == nil {
				t.Fatalf("it is still there: %v %+v", err, m.Status)
			}
			if slices.ContainsFunc(r.target.canceled, func(c string) bool { return strings.HasSuffix(c, " whole") }) {
				t.Errorf("the target was told to drop its copy: %v", r.target.canceled)
			}
			if kept := r.storage.left(); len(kept) != 0 {
				t.Errorf("bases are left on the source: %v", kept)
			}
		})
	}
}

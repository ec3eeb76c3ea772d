package controller_test

import (
	"fmt"
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

// TestMigrationToItsEnd sees that every volume moves, few are exposed at once, and
// nothing is left.
func TestMigrationToItsEnd(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		r.claim(fmt.Sprintf("data-%d", i))
	}
	r.migrations.Exposures = 2
	r.migration("move", nil)
	m := r.until("move", "its end", ended, r.carryOut("move"))
	if m.Status.Status != api.MigrationStatusSuccessful || m.Status.Summary.NumberOfMigratedVolumes != 5 {
		t.Errorf("it ended as %+v", m.Status)
	}
	if r.storage.most != 2 {
		t.Errorf("%d volumes were exposed at once, and 2 may be", r.storage.most)
	}
	if left := r.left(m); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if len(r.target.begun) != 1 || len(r.target.begun[0].Volumes) != 5 {
		t.Errorf("the target was told %+v", r.target.begun)
	}
	rung := meta.FindStatusCondition(m.Status.Conditions, incremental)
	if rung == nil || rung.Status != metav1.ConditionFalse || !strings.Contains(rung.Message, r.ns+"/data-3: Scan") {
		t.Errorf("the rungs are told as %+v", rung)
	}
	for _, condition := range []string{checked, snapshotted, uploaded, sealed} {
		if !is(condition)(m) {
			t.Errorf("condition %s is not set", condition)
		}
	}
}

// TestObjectsAreOfTheSnapshots changes the application while its volumes are
// stored: the round has the objects of the moment of the snapshots, however often
// the controller starts anew.
func TestObjectsAreOfTheSnapshots(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "settings"}, Data: map[string]string{"size": "small"}}
	// More than one Secret holds, and nothing that compresses.
	config.Data["noise"] = noise(700 << 10)
	r.must(r.client.Create(t.Context(), config))
	more := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "more"}, Data: map[string]string{"noise": noise(900 << 10)}}
	r.must(r.client.Create(t.Context(), more))
	r.storage.ready = false
	r.migration("move", nil)
	r.until("move", "its snapshots", is(snapshotted))
	config.Data["size"] = "large"
	r.must(r.client.Update(t.Context(), config))
	r.storage.ready = true
	m := r.until("move", "its seal", is(sealed), r.carryOut("move"))
	round, err := r.repository.Sealed(t.Context(), m.Status.Application, m.Status.Round)
	r.must(err)
	text := string(round.Objects)
	if !strings.Contains(text, "size: small") || strings.Contains(text, "size: large") || !strings.Contains(text, more.Data["noise"]) {
		t.Error("the round's objects are not of the moment of its snapshots")
	}
	if m = r.until("move", "its end", ended, r.carryOut("move")); len(r.left(m)) > 0 {
		t.Errorf("left: %v", r.left(m))
	}
}

// noise is text that does not compress, the same each time.
func noise(size int) string {
	var b strings.Builder
	x := uint64(88172645463325252)
	for b.Len() < size {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		fmt.Fprintf(&b, "%016x", x)
	}
	return b.String()
}

// TestTransferFollowsItsHolder moves the exposure to another node: a transfer of
// a node that is gone is let go, one of a node that is there is waited for.
func TestTransferFollowsItsHolder(t *testing.T) {
	for _, there := range []bool{false, true} {
		t.Run(fmt.Sprintf("node there %t", there), func(t *testing.T) {
			r := newRig(t)
			r.claim("data")
			node := "lost-" + r.ns
			if there {
				r.must(r.client.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}))
			}
			r.storage.node = node
			r.migration("move", nil)
			m := r.until("move", "a transfer", func(m *api.Migration) bool { return len(r.transfersOf(m)) == 1 })
			first := r.transfersOf(m)[0]
			before := first.DeepCopy()
			first.Finalizers = []string{api.TransferFinalizer}
			r.must(r.client.Patch(t.Context(), &first, client.MergeFrom(before)))
			r.storage.node = "n2"
			for range 5 {
				r.step("move")
			}
			transfers := r.transfersOf(m)
			if len(transfers) != 1 {
				t.Fatalf("%d transfers", len(transfers))
			}
			switch now := transfers[0]; {
			case there && (now.UID != first.UID || now.DeletionTimestamp.IsZero()):
				t.Errorf("the transfer of a node that is there was not asked to end, or did not get the time: %+v", now.ObjectMeta)
			case !there && (now.UID == first.UID || now.Spec.Node != "n2" || !now.Spec.Taken.Equal(first.Spec.Taken)):
				t.Errorf("the transfer did not follow its volume: %+v", now.Spec)
			}
		})
	}
}

// TestBadMigrations end with one message and nothing left.
func TestBadMigrations(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.MigrationSpec)
		refuse []migrate.Problem
		want   string
	}{
		"a refusal":    {nil, []migrate.Problem{{Reason: "ClaimExists", Message: "claim is there already"}}, "claim is there already"},
		"no namespace": {func(s *api.MigrationSpec) { s.Namespaces = []string{"nowhere"} }, nil, "only contain the current namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.claim("data")
			r.target.problems = c.refuse
			r.migration("move", c.change)
			m := r.until("move", "its end", ended)
			ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
			if m.Status.Status != api.MigrationStatusFailed || ready == nil || !strings.Contains(ready.Message, c.want) {
				t.Errorf("it ended as %s: %+v", m.Status.Status, ready)
			}
			if left := r.left(m); len(left) > 0 || len(r.target.begun) > 0 {
				t.Errorf("left: %v; begun: %v", left, r.target.begun)
			}
		})
	}
}

// TestDeletionTakesBack deletes a Migration at each of its stages.
func TestDeletionTakesBack(t *testing.T) {
	for _, stage := range []string{admitted, snapshotted, uploaded, begun} {
		t.Run(stage, func(t *testing.T) {
			r := newRig(t)
			r.claim("data")
			r.target.phase = migrate.TargetVolumes
			r.migration("move", nil)
			m := r.until("move", stage, is(stage), r.carryOut("move"))
			r.must(r.client.Delete(t.Context(), m))
			for range 10 {
				r.step("move")
			}
			err := r.client.Get(t.Context(), types.NamespacedName{Namespace: r.ns, Name: "move"}, m)
			if client.IgnoreNotFound(err) != nil || err == nil {
				t.Fatalf("it is still there: %v, %+v", err, m.Status)
			}
			if left := r.left(m); len(left) > 0 || len(r.target.rounds) > 0 {
				t.Errorf("left: %v; on the target: %v", left, r.target.rounds)
			}
		})
	}
}

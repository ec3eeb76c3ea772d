package cli

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// testRollback asks for a rollback that is refused, and again with what it takes.
func (c *cluster) testRollback(t *testing.T) {
	t.Helper()
	c.bad(t, "rollback migration longone -n cms", "Migration longone has not ended: end it with cancel migration longone")
	c.bad(t, "rollback migration bad good -n cms", "exactly one")
	answer := func(change func(*api.Migration)) {
		m := &api.Migration{}
		if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "good"}, m); err != nil {
			t.Fatal(err)
		}
		change(m)
		if err := c.client.Status().Update(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	c.good(t, "rollback migration good -n cms --wait=false")
	answer(func(m *api.Migration) {
		if m.Spec.Rollback == nil || !*m.Spec.Rollback || *m.Spec.DropTargetWrites {
			t.Errorf("asked for %+v", m.Spec.LifeOptions)
		}
		m.Status.Conditions = append(m.Status.Conditions, metav1.Condition{
			Type: "RollingBack", Status: "False", Reason: "TargetWritten", Message: "claim cms/db: 512 bytes differ",
			ObservedGeneration: m.Generation + 2, LastTransitionTime: metav1.Now(),
		})
	})
	// Asked again it counts from the answer to this wish.
	c.bad(t, "rollback migration good -n cms", "Migration good is not rolled back: claim cms/db: 512 bytes differ")
	c.good(t, "rollback migration good -n cms --drop-target-writes --wait=false")
	answer(func(m *api.Migration) {
		if !*m.Spec.DropTargetWrites {
			t.Errorf("asked for %+v", m.Spec.LifeOptions)
		}
		m.Status.Status = api.MigrationStatusRolledBack
	})
	c.bad(t, "rollback migration good -n cms", "Migration good was rolled back already")
	answer(func(m *api.Migration) { m.Status.Status = api.MigrationStatusSuccessful })
	if got := c.good(t, "get migration good -n cms -o yaml"); !strings.Contains(got, "dropTargetWrites: true") {
		t.Errorf("get: %s", got)
	}
}

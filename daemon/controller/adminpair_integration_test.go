package controller_test

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
)

// adminPair makes a ClusterPair in the admin namespace, to a cluster.
func (r *rig) adminPair(name, cluster string, admin bool) *api.ClusterPair {
	r.t.Helper()
	scope := pairing.Scope{Admin: admin}
	if !admin {
		scope.Namespaces = []string{r.ns}
	}
	id := name + "-" + r.ns
	_, err := r.migrations.Peers.Put(r.t.Context(), pairing.Peer{
		PairID: id, Direction: pairing.Outgoing, ClusterID: cluster, ClusterName: cluster, Scope: scope,
	})
	r.must(err)
	p := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: id}}
	r.must(r.client.Create(r.t.Context(), p))
	p.Status.PairID = id
	meta.SetStatusCondition(&p.Status.Conditions, metav1.Condition{Type: api.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready"})
	r.must(r.client.Status().Update(r.t.Context(), p))
	return p
}

// TestAdminPairVouches has an admin pair asked about, and answer for, what has no
// namespace, and the Migration's own for all else.
func TestAdminPairVouches(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.must(r.client.Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "reader-" + r.ns}}))
	r.must(r.client.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reads-" + r.ns},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "reader-" + r.ns},
		Subjects:   []rbacv1.Subject{{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "system:serviceaccounts:" + r.ns}},
	}))
	admin := r.adminPair("admin", "west", true)
	r.migration("m", func(s *api.MigrationSpec) { s.AdminClusterPair = admin.Name })
	m := r.until("m", "its end", ended, r.carryOut("m"))
	if m.Status.Status != api.MigrationStatusSuccessful {
		t.Fatalf("%+v", m.Status)
	}
	if len(r.target.begun) != 1 || !r.target.begun[0].AwaitVouch {
		t.Errorf("begun: %+v", r.target.begun)
	}
	if v := r.target.vouched; len(v) != 1 || v[0].PairID != r.pairID || v[0].Round != m.Status.Round || v[0].Application != m.Status.Application {
		t.Errorf("vouched: %+v", v)
	}
	if len(r.target.asked) != 2 || len(r.target.asked[0].Volumes) != 1 || len(r.target.asked[1].Volumes) != 0 {
		t.Errorf("%d questions, want the own pair's with the volumes and the admin pair's", len(r.target.asked))
	}
	sealed, err := r.repository.Sealed(t.Context(), m.Status.Application, m.Status.Round)
	r.must(err)
	if !strings.Contains(string(sealed.Objects), "reads-"+r.ns) {
		t.Error("the round lacks the ClusterRoleBinding of the namespace")
	}
}

// TestAdminPairsThatCannotVouch wait where waiting helps, and are refused by name
// where it does not.
func TestAdminPairsThatCannotVouch(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	for name, tt := range map[string]struct {
		pair  *api.ClusterPair
		words string
	}{
		"plain":   {r.adminPair("plain", "west", false), "is no admin pair"},
		"another": {r.adminPair("another", "north", true), "leads to cluster north"},
	} {
		r.migration(name, func(s *api.MigrationSpec) { s.AdminClusterPair = tt.pair.Name })
		m := r.until(name, "its end", ended)
		ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
		if m.Status.Status != api.MigrationStatusFailed || ready == nil || ready.Reason != "AdminPairInvalid" || !strings.Contains(ready.Message, tt.words) {
			t.Errorf("%s: %+v", name, ready)
		}
	}
	incoming := r.adminPair("incoming", "west", true)
	incoming.Labels = map[string]string{api.LabelDirection: api.DirectionIncoming}
	r.must(r.client.Update(t.Context(), incoming))
	for _, name := range []string{"nothere", incoming.Name} {
		r.migration("waits-"+name, func(s *api.MigrationSpec) { s.AdminClusterPair = name })
		m := r.until("waits-"+name, "waiting", func(m *api.Migration) bool {
			ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
			return ready != nil && ready.Reason == "AdminPairNotFound"
		})
		if m.Status.Stage == api.MigrationStageFinal {
			t.Errorf("%s: it ended: %+v", name, m.Status)
		}
	}
	if len(r.target.begun)+len(r.target.vouched) != 0 {
		t.Errorf("the target was told %+v and %+v", r.target.begun, r.target.vouched)
	}
}

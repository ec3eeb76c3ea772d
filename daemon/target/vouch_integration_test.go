package target_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/rpc"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	pairingrpc "github.com/godwit-io/godwit/pairing/rpc"
	"github.com/godwit-io/godwit/snapshot"
)

// sourceOf reaches the victim as a cluster of that id.
func sourceOf(clusterID string) *rpc.Remotes {
	wire := pairingrpc.Client{Now: time.Now}
	return rpc.NewRemotes(&pairing.Joiner{
		Peers: &pairingtest.Peers{}, Exchange: wire, ClusterID: clusterID, Now: time.Now, Random: rand.Reader,
	}, wire)
}

// seal signs objects as a round of an application.
func (a *attacker) seal(t *testing.T, app, round string, objects []byte) migrate.RoundRef {
	t.Helper()
	key, err := a.peer.SealingPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := snapshot.Seal(snapshot.RecoveryPoint{App: app, Round: round, Cluster: "source-id", Sealed: time.Now()}, objects, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.bucket.Seal(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	return migrate.RoundRef{Application: app, Round: round, Namespaces: []string{"cms"}}
}

// run begins a round that awaits a vouch, has it vouched for, and returns how it fares.
func (a *attacker) run(t *testing.T, ref migrate.RoundRef, vouch func()) migrate.TargetStatus {
	t.Helper()
	if err := a.target.Begin(t.Context(), migrate.Begin{RoundRef: ref, IncludeResources: true, AwaitVouch: true}); err != nil {
		t.Fatal(err)
	}
	a.reconcile(t, ref.Application)
	if status := a.reconcile(t, ref.Application); status.Phase != "" && status.Phase != api.StandbyPending || len(status.Resources) > 0 {
		t.Errorf("it did not wait to be vouched for: %+v", status)
	}
	vouch()
	for range 40 {
		if s := a.reconcile(t, ref.Application); s.Phase == api.StandbyReady || s.Phase == api.StandbyFailed {
			break
		}
	}
	status, err := a.target.Status(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func (a *attacker) reconcile(t *testing.T, application string) api.StandbyStatus {
	t.Helper()
	var standbys api.StandbyList
	if err := a.client.List(t.Context(), &standbys, client.InNamespace(home)); err != nil {
		t.Fatal(err)
	}
	for i := range standbys.Items {
		s := &standbys.Items[i]
		if s.Spec.Application != application || s.Spec.PairID != a.peer.PairID {
			continue
		}
		if _, err := a.agent.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(s)}); err != nil {
			t.Fatal(err)
		}
		if err := a.client.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
			t.Fatal(err)
		}
		return s.Status
	}
	t.Fatalf("no Standby of %s", application)
	return api.StandbyStatus{}
}

const clusterRole = rbacHead + "kind: ClusterRole\nmetadata: {name: NAME}\nrules: []\n"

// TestVouchedRounds are those of a namespaced pair, with what has no namespace
// brought on an admin pair's word. Each attempt on that word is refused.
func TestVouchedRounds(t *testing.T) {
	v := newVictim(t)
	a := v.pair(t, pairing.Scope{Namespaces: []string{"cms", "fresh"}})
	admin := v.pair(t, pairing.Scope{Admin: true})
	honest(t, v, a, admin)
	t.Run("words of others", func(t *testing.T) { wrongVouchers(t, v, a, admin) })
	t.Run("more than was vouched for", func(t *testing.T) { overreach(t, v, a, admin) })
}

func honest(t *testing.T, v *victim, a, admin *attacker) {
	t.Helper()
	objects := strings.ReplaceAll(clusterRole, "NAME", "honest") +
		"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: fresh, labels: {team: web}}\n" +
		"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: cms, labels: {pod-security.kubernetes.io/enforce: privileged}}\n" +
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: honest, namespace: cms}\n"
	ref := a.seal(t, "cms/honest", "r1", []byte(objects))
	status := a.run(t, ref, func() {
		if err := admin.target.Vouch(t.Context(), migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID}); err != nil {
			t.Fatal(err)
		}
		if err := admin.target.Vouch(t.Context(), migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID}); err != nil {
			t.Fatalf("said again: %v", err)
		}
	})
	if status.Phase != migrate.TargetReady {
		t.Fatalf("%+v", status)
	}
	for _, r := range status.Resources {
		if !r.OK {
			t.Errorf("%+v", r)
		}
	}
	var fresh, cms corev1.Namespace
	if err := errors.Join(
		v.client.Get(t.Context(), client.ObjectKey{Name: "honest"}, &rbacv1.ClusterRole{}),
		v.client.Get(t.Context(), client.ObjectKey{Name: "fresh"}, &fresh), v.client.Get(t.Context(), client.ObjectKey{Name: "cms"}, &cms),
	); err != nil || fresh.Labels["team"] != "web" || cms.Labels["pod-security.kubernetes.io/enforce"] != "" {
		t.Errorf("%v; fresh %v, cms %v", err, fresh.Labels, cms.Labels)
	}
}

// wrongVouchers are pairs whose word is not taken.
func wrongVouchers(t *testing.T, v *victim, a, admin *attacker) {
	ref := a.seal(t, "cms/words", "r1", []byte(strings.ReplaceAll(clusterRole, "NAME", "evil")))
	foreign := v.pairBy(t, sourceOf("other-id"), pairing.Scope{Admin: true})
	scoped := v.pair(t, pairing.Scope{Admin: true, Namespaces: []string{"shop"}})
	elsewhere := ref
	elsewhere.Namespaces = []string{"shop"}
	attempts := map[string]struct {
		by    *attacker
		vouch migrate.Vouch
		want  error
		words string
	}{
		"the round's own pair":                  {a, migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID}, pairing.ErrNamespace, "it is no admin pair"},
		"another cluster's admin pair":          {foreign, migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID}, pairing.ErrRequest, "no pair of the same cluster"},
		"for a pair that is not there":          {admin, migrate.Vouch{RoundRef: ref, PairID: "nothere"}, pairing.ErrRequest, "no pair of the same cluster"},
		"an admin pair of other namespaces":     {scoped, migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID}, pairing.ErrNamespace, "cms"},
		"one that lies about the namespaces":    {scoped, migrate.Vouch{RoundRef: migrate.RoundRef{Application: "shop/words", Round: "r1", Namespaces: []string{"shop"}}, PairID: a.peer.PairID}, migrate.ErrUnknownRound, ""},
		"for a round that was not begun":        {admin, migrate.Vouch{RoundRef: migrate.RoundRef{Application: "cms/words", Round: "r2", Namespaces: []string{"cms"}}, PairID: a.peer.PairID}, migrate.ErrUnknownRound, ""},
		"for the admin pair's round of no such": {admin, migrate.Vouch{RoundRef: ref, PairID: admin.peer.PairID}, migrate.ErrUnknownRound, ""},
	}
	status := a.run(t, ref, func() {
		for name, tt := range attempts {
			err := tt.by.target.Vouch(t.Context(), tt.vouch)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%s: %v, want %v with %q", name, err, tt.want, tt.words)
			}
		}
		if s := a.reconcile(t, ref.Application); len(s.Resources) > 0 {
			t.Errorf("it went on without a vouch: %+v", s)
		}
		// Begun anew without waiting, nobody having vouched.
		next := a.seal(t, "cms/words2", "r1", []byte(strings.ReplaceAll(clusterRole, "NAME", "evil")))
		if s, err := a.begin(t, next); err != nil || s.Resources[0].OK {
			t.Errorf("%+v, %v", s, err)
		}
		if err := admin.target.Vouch(t.Context(), migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID}); err != nil {
			t.Fatal(err)
		}
		if err := pairing.Revoke(t.Context(), &v.grants, &v.peers, admin.peer.PairID); err != nil {
			t.Fatal(err)
		}
	})
	if len(status.Resources) != 1 || status.Resources[0].OK || !strings.Contains(status.Resources[0].Reason, "without a namespace") {
		t.Errorf("vouched for by a pair that was revoked since: %+v", status)
	}
	v.absent(t, "evil")
}

// overreach is what comes along in a round that was vouched for.
func overreach(t *testing.T, v *victim, a, _ *attacker) {
	admin := v.pair(t, pairing.Scope{Admin: true})
	var role unstructured.Unstructured
	role.SetAPIVersion(rbacv1.SchemeGroupVersion.String())
	role.SetKind("ClusterRole")
	role.SetName("evil")
	changed, err := workload.Pack(workload.Instructions{Overrides: []api.ObjectOverride{everyRight()}}, []unstructured.Unstructured{role})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		objects []byte
		words   string
	}{
		"a ClusterRole that the owner's rules changed": {changed, "without a namespace"},
		"an object of another namespace":               {[]byte("apiVersion: v1\nkind: Secret\nmetadata: {name: evil, namespace: shop}\n"), "not covered"},
		"another namespace":                            {[]byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: evil}\n"), "evil"},
		"a RoleBinding to cluster-admin":               {[]byte(rbacHead + "kind: RoleBinding\nmetadata: {name: evil, namespace: cms}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, name: default, namespace: cms}]\n"), "grants more"},
		"a privileged pod":                             {[]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: evil, namespace: cms}\nspec: {containers: [{name: c, image: i, securityContext: {privileged: true}}]}\n"), "privileged"},
		"our own kinds":                                {[]byte("apiVersion: godwit.io/v1alpha1\nkind: SchedulePolicy\nmetadata: {name: evil}\npolicy: {}\n"), "data mover"},
	} {
		app := "cms/" + strings.NewReplacer(" ", "-", "'", "").Replace(strings.ToLower(name))
		ref := a.seal(t, app, "r1", tt.objects)
		status := a.run(t, ref, func() {
			if err := admin.target.Vouch(t.Context(), migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID}); err != nil {
				t.Fatal(err)
			}
		})
		if len(status.Resources) != 1 || status.Resources[0].OK || !strings.Contains(status.Resources[0].Reason, tt.words) {
			t.Errorf("%s: %+v, want a refusal with %q", name, status, tt.words)
		}
	}
	v.absent(t, "evil")
	// The word for one round is none for the next.
	ref := a.seal(t, "cms/honest", "r2", []byte(strings.ReplaceAll(clusterRole, "NAME", "evil")))
	if err := a.target.Begin(t.Context(), migrate.Begin{RoundRef: ref, IncludeResources: true}); err == nil {
		for range 40 {
			a.reconcile(t, ref.Application)
		}
	}
	v.absent(t, "evil")
}

func (v *victim) absent(t *testing.T, name string) {
	t.Helper()
	for _, o := range []client.Object{
		&rbacv1.ClusterRole{}, &corev1.Namespace{}, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "cms"}}, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms"}},
	} {
		if err := v.client.Get(t.Context(), client.ObjectKey{Namespace: o.GetNamespace(), Name: name}, o); !apierrors.IsNotFound(err) {
			t.Errorf("%T %s: %v", o, name, err)
		}
	}
}

// everyRight gives a role all of them.
func everyRight() api.ObjectOverride {
	return api.ObjectOverride{
		ResourceSelectors: []api.ResourceSelector{{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"}},
		Patch:             `{"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}`,
	}
}

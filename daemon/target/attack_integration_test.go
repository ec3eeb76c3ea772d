package target_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/rpc"
	"github.com/godwit-io/godwit/daemon/target"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	pairingrpc "github.com/godwit-io/godwit/pairing/rpc"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

const home = "godwit-system"

// victim is a target: a real API server, the agent on it, and its wire.
type victim struct {
	config  *rest.Config
	client  client.Client
	agent   *target.Agent
	peers   pairingtest.Peers
	grants  pairingtest.Grants
	token   func(pairing.Scope) pairing.Token
	bucket  *snapshottest.Memory
	remotes *rpc.Remotes
}

// bucketOpener gives everybody the same repository.
type bucketOpener struct{ bucket *snapshottest.Memory }

type bucketRepository struct {
	*snapshottest.Memory
	snapshot.Trees
}

func (bucketRepository) Close(context.Context) error { return nil }

func (o bucketOpener) Open(context.Context, snapshot.Location, bool) (snapshot.Repository, error) {
	return bucketRepository{Memory: o.bucket}, nil
}
func (bucketOpener) Probe(context.Context, snapshot.Location) (snapshot.StoreTraits, error) {
	return snapshot.StoreTraits{}, nil
}

type anywhere struct{}

func (anywhere) ForPeer(context.Context, pairing.Peer, string) (snapshot.Location, error) {
	return snapshot.Location{}, nil
}
func (anywhere) EnsureSecret(context.Context, pairing.Peer, string) (string, error) { return "s", nil }

func newVictim(t *testing.T) *victim {
	t.Helper()
	config := freshServer(t)
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{config: config, client: c, bucket: snapshottest.NewMemory()}
	v.agent = &target.Agent{
		Client: c, Live: c, Peers: &v.peers, Locator: anywhere{}, Opener: bucketOpener{v.bucket},
		Objects: workload.Cluster{Discovery: d, Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))},
		Events:  events.NewFakeRecorder(100), Namespace: home, Concurrent: 1, Now: time.Now,
	}
	v.serve(t)
	v.aggregate(t)
	for _, name := range []string{home, "cms", "shop", "trusted"} {
		v.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return v
}

// aggregate does what the controller manager does elsewhere: it gives the
// ClusterRole "admin" the rules of those that are labelled for it.
func (v *victim) aggregate(t *testing.T) {
	t.Helper()
	var admin rbacv1.ClusterRole
	for _, part := range []string{"view", "edit", "admin"} {
		var role rbacv1.ClusterRole
		err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			err := v.client.Get(ctx, client.ObjectKey{Name: "system:aggregate-to-" + part}, &role)
			return err == nil, client.IgnoreNotFound(err)
		})
		if err != nil {
			t.Fatal(err)
		}
		admin.Rules = append(admin.Rules, role.Rules...)
	}
	rules := admin.Rules
	if err := v.client.Get(t.Context(), client.ObjectKey{Name: "admin"}, &admin); err != nil {
		t.Fatal(err)
	}
	admin.Rules = rules
	if err := v.client.Update(t.Context(), &admin); err != nil {
		t.Fatal(err)
	}
}

func (v *victim) serve(t *testing.T) {
	t.Helper()
	authority, err := pairing.NewAuthority("target-id", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := pairingrpc.NewServer(pairingrpc.Config{
		Issuer:       &pairing.Issuer{Grants: &v.grants, Peers: &v.peers, Ring: pairing.NewRing(authority), Now: time.Now, Random: rand.Reader},
		StorageCheck: func(context.Context, pairing.Peer) error { return nil }, Log: slog.New(slog.DiscardHandler),
	}).GRPC()
	rpc.Register(server, v.agent.For)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener) //nolint:errcheck // it ends with Stop
	t.Cleanup(server.Stop)
	v.token = func(scope pairing.Scope) pairing.Token {
		token, err := pairing.Mint(t.Context(), &v.grants, pairing.MintRequest{
			Scope: scope, Endpoint: listener.Addr().String(), ClusterID: "target-id", CAFingerprint: authority.Fingerprint(),
		}, time.Now(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	v.remotes = sourceOf("source-id")
}

func (v *victim) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := v.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// attacker owns a source that is paired with the victim.
type attacker struct {
	*victim
	peer   pairing.Peer
	target migrate.Target
	rounds int
}

func (v *victim) pair(t *testing.T, scope pairing.Scope) *attacker {
	t.Helper()
	return v.pairBy(t, v.remotes, scope)
}

func (v *victim) pairBy(t *testing.T, remotes *rpc.Remotes, scope pairing.Scope) *attacker {
	t.Helper()
	peer, err := remotes.Join(t.Context(), v.token(scope), pairing.ClusterPair{Namespace: "cms"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remotes.Close(peer.PairID) })
	there, err := remotes.Target(t.Context(), peer)
	if err != nil {
		t.Fatal(err)
	}
	return &attacker{victim: v, peer: peer, target: there}
}

// bring seals objects as a round, has the target start it, and returns how each
// object fared.
func (a *attacker) bring(t *testing.T, objects string, spoil func(*snapshot.SealedRound)) (migrate.TargetStatus, error) {
	t.Helper()
	a.rounds++
	ref := migrate.RoundRef{Application: fmt.Sprintf("cms/attack-%d", a.rounds), Round: "r1", Namespaces: []string{"cms"}}
	key, err := a.peer.SealingPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := snapshot.Seal(snapshot.RecoveryPoint{App: ref.Application, Round: ref.Round, Cluster: "source-id", Sealed: time.Now()}, []byte(objects), key)
	if err != nil {
		t.Fatal(err)
	}
	if spoil != nil {
		spoil(&sealed)
	}
	if err := a.bucket.Seal(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	return a.begin(t, ref)
}

func (a *attacker) begin(t *testing.T, ref migrate.RoundRef) (migrate.TargetStatus, error) {
	t.Helper()
	if err := a.target.Begin(t.Context(), migrate.Begin{RoundRef: ref, IncludeResources: true}); err != nil {
		return migrate.TargetStatus{}, err
	}
	var standbys api.StandbyList
	if err := a.client.List(t.Context(), &standbys, client.InNamespace(home)); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		for _, s := range standbys.Items {
			if s.Spec.Application != ref.Application {
				continue
			}
			if _, err := a.agent.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&s)}); err != nil {
				return migrate.TargetStatus{}, err
			}
		}
		status, err := a.target.Status(t.Context(), ref)
		if err != nil || status.Phase == migrate.TargetReady || status.Phase == migrate.TargetFailed {
			return status, err
		}
	}
	t.Fatal("the round came to no end")
	return migrate.TargetStatus{}, nil
}

const rbacHead = "apiVersion: rbac.authorization.k8s.io/v1\n"

// The source signs what it likes, and its pair is for one namespace.
func TestObjectsOutsideThePair(t *testing.T) {
	v := newVictim(t)
	a := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}})
	yes := true
	v.create(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "owners"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}, &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "agent"},
		Spec: corev1.ReplicationControllerSpec{Selector: map[string]string{"app": "agent"}, Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "agent"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "trusted", SecurityContext: &corev1.SecurityContext{Privileged: &yes}}}},
		}},
	})
	for name, tt := range map[string]struct{ object, words string }{
		"another namespace":    {"apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\n", "not covered"},
		"Godwit's namespace":   {"apiVersion: v1\nkind: Secret\nmetadata: {name: godwit-authority, namespace: godwit-system}\n", "Godwit's own"},
		"ClusterRoleBinding":   {rbacHead + "kind: ClusterRoleBinding\nmetadata: {name: evil}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, name: default, namespace: cms}]\n", "without a namespace"},
		"ClusterRole in cms":   {rbacHead + "kind: ClusterRole\nmetadata: {name: evil, namespace: cms}\nrules: []\n", "cluster-scoped"},
		"webhook":              {"apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {name: evil}\n", "without a namespace"},
		"definition":           {"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: evil.example.com}\n", "without a namespace"},
		"foreign volume":       {"apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: evil}\n", "without a namespace"},
		"Role that escalates":  {rbacHead + "kind: Role\nmetadata: {name: evil, namespace: cms}\nrules: [{apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [escalate]}]\n", "grants more"},
		"bound to the cluster": {rbacHead + "kind: RoleBinding\nmetadata: {name: evil, namespace: cms}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, name: default, namespace: cms}]\n", "grants more"},
		"joins the owners":     {rbacHead + "kind: RoleBinding\nmetadata: {name: owners, namespace: cms}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, name: default, namespace: cms}]\n", "grants more"},
		"privileged pod":       {"apiVersion: v1\nkind: Pod\nmetadata: {name: evil, namespace: cms}\nspec: {containers: [{name: c, image: i, securityContext: {privileged: true}}]}\n", "privileged"},
		"privileged by merge":  {"apiVersion: v1\nkind: ReplicationController\nmetadata: {name: agent, namespace: cms}\nspec: {template: {spec: {containers: [{name: agent, image: evil}]}}}\n", "privileged"},
		"endpoints":            {"apiVersion: v1\nkind: Endpoints\nmetadata: {name: evil, namespace: cms}\n", "does not let"},
		"our own kinds":        {"apiVersion: godwit.io/v1alpha1\nkind: ClusterPair\nmetadata: {name: evil, namespace: cms}\nspec: {}\n", "data mover"},
	} {
		t.Run(name, func(t *testing.T) {
			status, err := a.bring(t, tt.object, nil)
			if err != nil || len(status.Resources) != 1 {
				t.Fatalf("%+v, %v", status, err)
			}
			if r := status.Resources[0]; r.OK || !strings.Contains(r.Reason, tt.words) {
				t.Errorf("%+v, want a refusal with %q", r, tt.words)
			}
		})
	}
	v.untouched(t)
}

// untouched looks for what the attacks would have left.
func (v *victim) untouched(t *testing.T) {
	t.Helper()
	var owners rbacv1.RoleBinding
	var agent corev1.ReplicationController
	if err := errors.Join(
		v.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "owners"}, &owners),
		v.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "agent"}, &agent),
	); err != nil || len(owners.Subjects) != 0 || agent.Spec.Template.Spec.Containers[0].Image != "trusted" {
		t.Errorf("%v, %+v, %+v", err, owners.Subjects, agent.Spec.Template.Spec.Containers)
	}
	for _, o := range []client.Object{
		&rbacv1.ClusterRoleBinding{}, &rbacv1.ClusterRole{}, &corev1.PersistentVolume{},
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "cms"}}, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "cms"}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms"}},
	} {
		if err := v.client.Get(t.Context(), client.ObjectKey{Namespace: o.GetNamespace(), Name: "evil"}, o); !apierrors.IsNotFound(err) {
			t.Errorf("%T: %v", o, err)
		}
	}
}

// Whoever can write to the bucket cannot have the target start from it.
func TestRoundsThatTheSourceDidNotSeal(t *testing.T) {
	v := newVictim(t)
	a, other := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}}), v.pair(t, pairing.Scope{Namespaces: []string{"cms"}})
	const object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: evil, namespace: cms}\n"
	resign := func(key ed25519.PrivateKey, change func(*snapshot.RecoveryPoint)) func(*snapshot.SealedRound) {
		return func(s *snapshot.SealedRound) {
			var p snapshot.RecoveryPoint
			if err := json.Unmarshal(s.Statement, &p); err != nil {
				t.Fatal(err)
			}
			change(&p)
			signed, err := snapshot.Seal(p, s.Objects, key)
			if err != nil {
				t.Fatal(err)
			}
			s.Statement, s.Signature = signed.Statement, signed.Signature
		}
	}
	foreign, err := other.peer.SealingPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	same := func(*snapshot.RecoveryPoint) {}
	for name, tt := range map[string]struct {
		spoil func(*snapshot.SealedRound)
		words string
	}{
		"unsigned":               {func(s *snapshot.SealedRound) { s.Signature = nil }, "signature"},
		"signed by a stranger":   {resign(stranger, same), "signature"},
		"signed by another pair": {resign(foreign, same), "signature"},
		"altered objects":        {func(s *snapshot.SealedRound) { s.Objects = append(s.Objects, "---\n"...) }, "hash"},
		"altered statement":      {func(s *snapshot.SealedRound) { s.Statement = append(s.Statement[:len(s.Statement)-1], " }"...) }, "signature"},
		"without its objects":    {func(s *snapshot.SealedRound) { s.Objects = nil }, "hash"},
	} {
		t.Run(name, func(t *testing.T) {
			status, err := a.bring(t, object, tt.spoil)
			if err != nil || status.Phase != migrate.TargetFailed || !strings.Contains(status.Message, tt.words) {
				t.Errorf("%+v, %v: want a failure with %q", status, err, tt.words)
			}
		})
	}
	if err := v.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "evil"}, &corev1.ConfigMap{}); !apierrors.IsNotFound(err) {
		t.Errorf("something was started from them: %v", err)
	}
	if status, err := a.bring(t, object, nil); err != nil || status.Phase != migrate.TargetReady {
		t.Errorf("the honest round: %+v, %v", status, err)
	}
}

// TestServiceThatStandsWithItsOwnAddress brings a Service back to where it stands with
// another address and another node port, twice: it keeps them.
func TestServiceThatStandsWithItsOwnAddress(t *testing.T) {
	v := newVictim(t)
	a := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}})
	standing := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "web"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, ClusterIP: "10.0.0.9", Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080}}}}
	v.create(t, standing)
	for range 2 {
		status, err := a.bring(t, "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: cms}, spec: {type: NodePort, clusterIP: 172.20.1.1, clusterIPs: [172.20.1.1], ports: [{port: 80, nodePort: 31080}]}}\n", nil)
		if err != nil {
			t.Fatal(err)
		}
		if status.Phase != migrate.TargetReady || len(status.Resources) != 1 || !status.Resources[0].OK {
			t.Errorf("it came to %+v", status)
		}
		var now corev1.Service
		if err := v.client.Get(t.Context(), client.ObjectKeyFromObject(standing), &now); err != nil {
			t.Fatal(err)
		}
		if now.Spec.ClusterIP != "10.0.0.9" || now.Spec.Ports[0].NodePort != 30080 || now.Annotations[workload.AnnotationMigrated] != "true" {
			t.Errorf("it stands as %+v %v", now.Spec, now.Annotations)
		}
	}
}

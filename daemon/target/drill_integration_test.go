package target_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/target"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// objectsOfCMS are those of an application that is reached from outside.
const objectsOfCMS = `
apiVersion: v1
kind: Namespace
metadata: {name: cms}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: cms}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 4Ki}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: cms}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: web, env: [{name: DB, value: db.cms.svc.cluster.local}]}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: cms}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open, namespace: cms}
spec: {podSelector: {}, ingress: [{}], egress: [{}], policyTypes: [Ingress, Egress]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: cms}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: cms-everything}
rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]
`

// stage is a target whose nodes, volumes and controllers are played by the test.
type stage struct {
	*victim
	t         *testing.T
	store     *store
	snapshots *snapshots
	// keys are those that sources seal with, by pair.
	keys map[string]ed25519.PrivateKey
}

// store is the bucket, until it is lost.
type store struct {
	bucketOpener
	lost atomic.Bool
}

func (o *store) lose() { o.lost.Store(true) }

func (o *store) Open(ctx context.Context, l snapshot.Location, create bool) (snapshot.Repository, error) {
	if o.lost.Load() {
		return nil, errLost
	}
	return o.bucketOpener.Open(ctx, l, create)
}

// EnsureHold binds the claim and publishes it at once.
func (s stage) EnsureHold(ctx context.Context, r csi.HoldRequest) (csi.Mounted, error) {
	var pvc corev1.PersistentVolumeClaim
	key := client.ObjectKey{Namespace: r.Namespace, Name: r.Claim}
	if err := s.client.Get(ctx, key, &pvc); err != nil {
		return csi.Mounted{}, err
	}
	if pvc.Spec.VolumeName == "" {
		pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + pvc.Name}}
		pv.Spec.AccessModes, pv.Spec.VolumeMode = pvc.Spec.AccessModes, pvc.Spec.VolumeMode
		pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("4Ki")}
		pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "handle-" + pvc.Name}
		if err := client.IgnoreAlreadyExists(s.client.Create(ctx, pv)); err != nil {
			return csi.Mounted{}, err
		}
		pvc.Spec.VolumeName = pv.Name
		if err := s.client.Update(ctx, &pvc); err != nil {
			return csi.Mounted{}, err
		}
	}
	return csi.Mounted{Ready: true, Node: "n1", PodUID: "pod", PersistentVolume: pvc.Spec.VolumeName, Mode: r.Mode}, nil
}

func (stage) DropHold(context.Context, csi.HoldRequest) (bool, error) { return true, nil }

// play does what nodes and Kubernetes' own controllers do elsewhere.
func (s stage) play() {
	s.t.Helper()
	ctx := s.t.Context()
	var transfers api.VolumeTransferList
	var claims corev1.PersistentVolumeClaimList
	var volumes corev1.PersistentVolumeList
	var namespaces corev1.NamespaceList
	for _, list := range []client.ObjectList{&transfers, &claims, &volumes, &namespaces} {
		s.must(s.client.List(ctx, list))
	}
	for _, t := range transfers.Items {
		if t.Status.Phase != api.TransferSucceeded {
			t.Status.Phase = api.TransferSucceeded
			s.loosely(s.client.Status().Update(ctx, &t))
		}
	}
	for _, ns := range namespaces.Items {
		if ns.DeletionTimestamp.IsZero() {
			continue
		}
		for _, of := range []client.Object{&corev1.PersistentVolumeClaim{}, &appsv1.Deployment{}, &networkingv1.NetworkPolicy{}} {
			s.must(s.client.DeleteAllOf(ctx, of, client.InNamespace(ns.Name)))
		}
		if slices.ContainsFunc(claims.Items, func(pvc corev1.PersistentVolumeClaim) bool { return pvc.Namespace == ns.Name }) {
			continue
		}
		ns.Spec.Finalizers = nil
		s.loosely(s.client.SubResource("finalize").Update(ctx, &ns))
	}
	unprotect := func(o client.Object) {
		if !o.GetDeletionTimestamp().IsZero() {
			o.SetFinalizers(nil)
			s.loosely(s.client.Update(ctx, o))
		}
	}
	for i := range claims.Items {
		unprotect(&claims.Items[i])
	}
	for i := range volumes.Items {
		unprotect(&volumes.Items[i])
	}
}

func (s stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// loosely takes what the agent, which writes too, made old meanwhile: the next turn
// looks again.
func (s stage) loosely(err error) {
	s.t.Helper()
	if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		s.must(err)
	}
}

// until plays until done.
func (s stage) until(what string, done func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s: %+v, %+v", what, s.drill(), s.standbys())
		}
		s.play()
		<-tick.C
	}
}

func (s stage) standbys() []api.StandbyStatus {
	s.t.Helper()
	var list api.StandbyList
	s.must(s.client.List(s.t.Context(), &list))
	var all []api.StandbyStatus
	for _, standby := range list.Items {
		all = append(all, standby.Status)
	}
	return all
}

func (s stage) drill() *api.Drill {
	s.t.Helper()
	var d api.Drill
	if err := s.client.Get(s.t.Context(), client.ObjectKey{Namespace: home, Name: "trial"}, &d); err != nil {
		s.must(client.IgnoreNotFound(err))
		return nil
	}
	return &d
}

// newStage runs the agent as the controller does, with a standby that holds a round.
func newStage(t *testing.T) (stage, *api.Standby) {
	t.Helper()
	s := stage{victim: newVictim(t), t: t, keys: map[string]ed25519.PrivateKey{}}
	s.store = &store{bucketOpener: bucketOpener{s.bucket}}
	s.snapshots = &snapshots{taken: map[string]csi.Owner{}}
	s.agent.Opener, s.agent.Snapshots = s.store, s.snapshots
	standby := s.source("p", "east", "r1")
	mgr, err := ctrl.NewManager(s.config, ctrl.Options{
		Scheme: s.client.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{UsePriorityQueue: new(false), SkipNameValidation: new(true)},
	})
	s.must(err)
	s.agent.Holds, s.agent.Events = s, events.NewFakeRecorder(10000)
	s.must(s.agent.SetupWithManager(mgr))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the agent: %v", err)
		}
	})
	s.create(t, standby)
	s.until("the standby holds its round", func() bool {
		s.must(s.client.Get(t.Context(), client.ObjectKeyFromObject(standby), standby))
		return standby.Status.Phase == api.StandbyReady
	})
	return s, standby
}

// source is a paired cluster with one sealed round, and the standby that it asks for.
func (s stage) source(pair, cluster, round string) *api.Standby {
	s.t.Helper()
	s.seal(pair, cluster, round)
	standby := &api.Standby{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "cms-cms"}}
	if pair != "p" {
		standby.Name += "-" + pair
	}
	standby.Spec = api.StandbySpec{PairID: pair, Application: "cms/cms", Round: round, Namespaces: []string{"cms"}, Stage: true}
	standby.Spec.Volumes = []api.StandbyClaim{{
		Namespace: "cms", Name: "data", VolumeMode: "Filesystem", AccessModes: []string{"ReadWriteOnce"}, SizeBytes: 4096, SourceVolume: "pv-of-the-source",
	}}
	return standby
}

// seal puts a round of a paired cluster into the repository.
func (s stage) seal(pair, cluster, round string) {
	s.t.Helper()
	ctx := s.t.Context()
	private, known := s.keys[pair]
	if !known {
		public, made, err := ed25519.GenerateKey(nil)
		s.must(err)
		_, err = s.peers.Put(ctx, pairing.Peer{
			PairID: pair, Direction: pairing.Incoming, ClusterID: cluster, Scope: pairing.Scope{Admin: true}, SealingPublicKey: public,
			RepositoryPassword: "the two sides of this pair share it",
		})
		s.must(err)
		private = made
		s.keys[pair] = made
	}
	w, err := s.bucket.Begin(ctx, snapshot.Image{Volume: snapshot.Volume{Cluster: cluster, Namespace: "cms", Name: "data"}, Kind: snapshot.Block, Round: round, Size: 4096}, "")
	s.must(err)
	image, _, err := w.Commit(ctx)
	s.must(err)
	point := snapshot.RecoveryPoint{App: "cms/cms", Round: round, Cluster: cluster, Sealed: time.Now(), Images: []snapshot.Image{image}}
	sealed, err := snapshot.Seal(point, []byte(objectsOfCMS), private)
	s.must(err)
	s.must(s.bucket.Seal(ctx, sealed))
}

func (s stage) trial(change func(*api.DrillSpec)) *api.Drill {
	s.t.Helper()
	d := &api.Drill{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "trial"}}
	d.Spec = api.DrillSpec{Standby: "cms-cms", Namespaces: map[string]string{"cms": "cms-drill"}}
	if change != nil {
		change(&d.Spec)
	}
	s.create(s.t, d)
	return d
}

// TestStandbyOnTrial drills, fails a drill, and activates without the object store:
// one standby goes through all, as it would.
func TestStandbyOnTrial(t *testing.T) {
	s, standby := newStage(t)
	t.Run("drill", func(*testing.T) { s.drillSucceeds(standby) })
	t.Run("failing drill", func(*testing.T) { s.drillFails(standby) })
	t.Run("snapshots of rounds", func(*testing.T) { s.snapshotsRounds(standby) })
	t.Run("activation without the store", func(*testing.T) { s.activatesWithoutTheStore(standby) })
	t.Run("another source's copy", func(*testing.T) { s.keepsToItself() })
}

// snapshotsRounds keeps the newest rounds in snapshots, and opens an older one from
// there with the store gone.
func (s stage) snapshotsRounds(standby *api.Standby) {
	t, ctx := s.t, s.t.Context()
	next := func(round string, change func(*api.StandbySpec)) {
		s.seal("p", "east", round)
		before := s.standby(standby)
		after := before.DeepCopy()
		after.Spec.Round = round
		change(&after.Spec)
		s.must(s.client.Patch(ctx, after, client.MergeFrom(before)))
		s.until("it holds "+round, func() bool { return s.standby(standby).Status.Round == round })
	}
	next("r2", func(spec *api.StandbySpec) { spec.Snapshots = 2 })
	for _, round := range []string{"r3", "r4"} {
		next(round, func(*api.StandbySpec) {})
	}
	kept := s.standby(standby).Status.Snapshots
	if len(kept) != 2 || kept[0].Round != "r4" || kept[1].Round != "r3" || !kept[1].Ready || s.snapshots.count() != 2 {
		t.Fatalf("%d snapshots are there, and it says %+v", s.snapshots.count(), kept)
	}
	s.store.lose()
	d := s.trial(func(d *api.DrillSpec) { d.Round = "r3" })
	s.until("the older round is open", func() bool { return s.drill().Status.Phase == api.DrillStarting })
	var list api.StandbyList
	s.must(s.client.List(ctx, &list, client.MatchingLabels{api.LabelDrill: string(d.UID)}))
	if len(list.Items) != 1 || len(list.Items[0].Spec.Drill.Snapshots) != 1 || list.Items[0].Spec.Drill.Snapshots[0] != kept[1].Volumes[0] {
		t.Errorf("it is not made of the snapshot: %+v", list.Items)
	}
	s.must(s.client.Delete(ctx, s.drill()))
	s.until("the drill is gone", func() bool { return s.drill() == nil })
	s.store.lost.Store(false)
	if still := s.standby(standby).Status; still.Round != "r4" || len(still.Snapshots) != 2 || s.snapshots.count() != 2 {
		t.Errorf("the drill touched the standby: %+v", still)
	}
}

// snapshots plays the storage: each snapshot is ready at once.
type snapshots struct {
	mu    sync.Mutex
	taken map[string]csi.Owner
}

func (s *snapshots) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken)
}

func (*snapshots) Capability(context.Context, *corev1.PersistentVolumeClaim) (csi.Capability, error) {
	return csi.Capability{Driver: "d", SnapshotClass: "c"}, nil
}

func (s *snapshots) EnsureSnapshot(_ context.Context, r csi.SnapshotRequest) (csi.SnapshotState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.taken[r.Name]
	s.taken[r.Name] = r.Owner
	return csi.SnapshotState{Ready: there, UID: types.UID(r.Name)}, nil
}

func (s *snapshots) LookAtSnapshot(_ context.Context, o csi.Owner, _, name string) (csi.SnapshotState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return csi.SnapshotState{Ready: s.taken[name] == o, UID: types.UID(name)}, nil
}

// EnsureExposure is for rollbacks, and none is played here.
func (*snapshots) EnsureExposure(context.Context, csi.ExposureRequest) (csi.Mounted, error) {
	return csi.Mounted{}, errors.New("nothing is to be exposed here")
}

func (s *snapshots) Release(_ context.Context, o csi.Owner) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, owner := range s.taken {
		if owner == o {
			delete(s.taken, name)
		}
	}
	return true, nil
}

// keepsToItself brings another source's application of the same name, which has a
// standby of its own, and is not handed over to claims that are in use.
func (s stage) keepsToItself() {
	t, ctx := s.t, s.t.Context()
	s.store.lost.Store(false)
	second := s.source("q", "north", "r7")
	s.create(t, second)
	s.until("it holds its round", func() bool { return s.standby(second).Status.Round == "r7" })
	before := s.standby(second)
	after := before.DeepCopy()
	after.Spec.Activation = &api.StandbyActivation{}
	s.must(s.client.Patch(ctx, after, client.MergeFrom(before)))
	s.until("it says which claim is in use", func() bool {
		return strings.Contains(s.standby(second).Status.Message, "claim cms/data is on this cluster already")
	})
	if v := s.standby(second).Status.Volumes[0]; v.HandedOver || v.Image != v.Wants {
		t.Errorf("the volume is touched: %+v", v)
	}
	var pvc corev1.PersistentVolumeClaim
	s.must(s.client.Get(ctx, client.ObjectKey{Namespace: "cms", Name: "data"}, &pvc))
	if pvc.Spec.VolumeName != "pv-of-the-source" {
		t.Errorf("the application has volume %s", pvc.Spec.VolumeName)
	}
	// Once nothing uses the claim any more, it goes on by itself.
	s.must(s.client.Delete(ctx, &pvc))
	s.until("it is handed over", func() bool { v := s.standby(second).Status.Volumes; return len(v) == 1 && v[0].HandedOver })
}

// drillSucceeds opens the round in a namespace of its own, closed before anything is in
// it, and removes all again. The standby stays as it is.
func (s stage) drillSucceeds(standby *api.Standby) {
	t, ctx := s.t, s.t.Context()
	taken := &api.Drill{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "bad"}}
	taken.Spec = api.DrillSpec{Standby: "cms-cms", Namespaces: map[string]string{"cms": "cms"}}
	if err := s.client.Create(ctx, taken); err == nil || !strings.Contains(err.Error(), "beside the application") {
		t.Errorf("a drill in the application's own namespace: %v", err)
	}
	s.trial(nil)
	var web appsv1.Deployment
	s.until("its workload is there", func() bool {
		return s.client.Get(ctx, client.ObjectKey{Namespace: "cms-drill", Name: "web"}, &web) == nil
	})
	s.until("it waits for its pods", func() bool { return s.drill().Status.Phase == api.DrillStarting && s.drill().Status.Ready == "0/2" })
	s.looksClosed(&web)
	if after := s.standby(standby); after.Status.Round != "r1" || after.Generation != standby.Generation || meta.IsStatusConditionTrue(after.Status.Conditions, "HandingOver") {
		t.Errorf("the standby is touched: %+v", after.Status)
	}
	web.Status.ObservedGeneration, web.Status.Replicas, web.Status.ReadyReplicas = web.Generation, 2, 2
	s.must(s.client.Status().Update(ctx, &web))
	s.until("it succeeds", func() bool { return s.drill().Status.Phase == api.DrillSucceeded })
	if d := s.drill().Status; d.Ready != "2/2" || d.Round != "r1" || d.LastSuccess == nil || len(d.Results) != 1 || !strings.Contains(d.Message, "not part of it") {
		t.Errorf("the result is %+v", d)
	}
	s.must(s.client.Delete(ctx, s.drill()))
	s.until("it is gone", func() bool { return s.drill() == nil })
	s.nothingLeft(standby)
}

func (s stage) standby(of *api.Standby) *api.Standby {
	s.t.Helper()
	var now api.Standby
	s.must(s.client.Get(s.t.Context(), client.ObjectKeyFromObject(of), &now))
	return &now
}

// looksClosed holds the drill's namespace against what must not be in it.
func (s stage) looksClosed(web *appsv1.Deployment) {
	s.t.Helper()
	ctx := s.t.Context()
	if *web.Spec.Replicas != 2 || web.Spec.Template.Spec.Containers[0].Env[0].Value != "db.cms-drill.svc.cluster.local" {
		s.t.Errorf("the workload speaks to the real one: %+v", web.Spec)
	}
	var policies networkingv1.NetworkPolicyList
	var ingresses networkingv1.IngressList
	var service corev1.Service
	s.must(s.client.List(ctx, &policies, client.InNamespace("cms-drill")))
	s.must(s.client.List(ctx, &ingresses, client.InNamespace("cms-drill")))
	s.must(s.client.Get(ctx, client.ObjectKey{Namespace: "cms-drill", Name: "web"}, &service))
	if len(policies.Items) != 1 || policies.Items[0].Name != "godwit-drill" || len(ingresses.Items) > 0 {
		s.t.Errorf("the namespace is open: %+v %+v", policies.Items, ingresses.Items)
	}
	if service.Spec.Type != corev1.ServiceTypeClusterIP || service.Spec.Ports[0].NodePort != 0 {
		s.t.Errorf("the service is reached from outside: %+v", service.Spec)
	}
	var role metav1.PartialObjectMetadata
	role.SetGroupVersionKind(web.GroupVersionKind())
	role.APIVersion, role.Kind = "rbac.authorization.k8s.io/v1", "ClusterRole"
	if err := s.client.Get(ctx, client.ObjectKey{Name: "cms-everything"}, &role); client.IgnoreNotFound(err) != nil || err == nil {
		s.t.Errorf("an object of the whole cluster was brought: %v", err)
	}
	var own appsv1.DeploymentList
	s.must(s.client.List(ctx, &own, client.InNamespace("cms")))
	if len(own.Items) > 0 {
		s.t.Error("something was brought to the application's own namespace")
	}
}

// nothingLeft finds what a drill made and did not remove.
func (s stage) nothingLeft(standby *api.Standby) {
	s.t.Helper()
	ctx := s.t.Context()
	var volumes corev1.PersistentVolumeList
	var claims corev1.PersistentVolumeClaimList
	var copies api.StandbyList
	var secrets corev1.SecretList
	s.must(s.client.List(ctx, &volumes))
	s.must(s.client.List(ctx, &claims))
	s.must(s.client.List(ctx, &copies))
	s.must(s.client.List(ctx, &secrets, client.InNamespace(home)))
	if len(volumes.Items) != 1 || len(claims.Items) != 1 || len(copies.Items) != 1 || copies.Items[0].Name != standby.Name {
		s.t.Errorf("left: %d volumes, %d claims, %d standbies", len(volumes.Items), len(claims.Items), len(copies.Items))
	}
	for _, secret := range secrets.Items {
		if strings.HasPrefix(secret.Name, "undo-") {
			s.t.Errorf("left: Secret %s", secret.Name)
		}
	}
	if err := s.client.Get(ctx, client.ObjectKey{Name: "cms-drill"}, &corev1.Namespace{}); client.IgnoreNotFound(err) != nil || err == nil {
		s.t.Errorf("left: the namespace (%v)", err)
	}
}

// drillFails in time, takes no namespace that is somebody's, and clears up by
// itself where it repeats.
func (s stage) drillFails(standby *api.Standby) {
	t, ctx := s.t, s.t.Context()
	s.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms-drill"}})
	s.trial(func(d *api.DrillSpec) { d.DeadlineSeconds, d.IntervalHours = 8, 24 })
	s.until("it says whose the namespace is", func() bool { return strings.Contains(s.drill().Status.Message, "is not this drill's") })
	if s.drill().Status.Started != nil {
		t.Error("it began in a namespace of somebody's")
	}
	s.must(s.client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms-drill"}}))
	s.until("it fails, since no pod is ready in time", func() bool { d := s.drill(); return len(d.Status.Results) == 1 })
	if d := s.drill().Status; d.Results[0].Success || !strings.Contains(d.Results[0].Message, "0/2 were ready") || d.NextRun == nil || d.LastSuccess != nil {
		t.Errorf("the result is %+v", d)
	}
	s.until("it clears up", func() bool {
		var copies api.StandbyList
		s.must(s.client.List(ctx, &copies))
		return len(copies.Items) == 1
	})
	s.nothingLeft(standby)
	if s.drill().Status.Results[0].Success {
		t.Error("clearing up changed the result")
	}
	s.must(s.client.Delete(ctx, s.drill()))
	s.until("it is gone", func() bool { return s.drill() == nil })
}

var errLost = errors.New("the store is gone")

// activatesWithoutTheStore brings the application up from what the standby holds
// when the store is lost as well, once its round is named. Without a name nobody
// knows whether there is a newer one.
func (s stage) activatesWithoutTheStore(standby *api.Standby) {
	t, ctx := s.t, s.t.Context()
	s.store.lose()
	activate := func(round string) {
		before := s.standby(standby)
		after := before.DeepCopy()
		after.Spec.Activation = &api.StandbyActivation{Round: round}
		s.must(s.client.Patch(ctx, after, client.MergeFrom(before)))
	}
	copied := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "nightly"}}
	copied.Annotations = map[string]string{api.AnnotationStaticCopy: "true", api.AnnotationCopyStandby: standby.Name}
	copied.Spec.Template.Spec.ClusterPair, copied.Spec.Template.Spec.Namespaces = "west", []string{"cms"}
	s.create(t, copied)
	activate("")
	s.until("it says that the store is gone", func() bool { return strings.Contains(s.standby(standby).Status.Message, errLost.Error()) })
	activate("r4")
	s.until("it is activated", func() bool {
		now := s.standby(standby).Status
		return now.Activating && now.Phase == api.StandbyReady
	})
	var web appsv1.Deployment
	s.must(s.client.Get(ctx, client.ObjectKey{Namespace: "cms", Name: "web"}, &web))
	if *web.Spec.Replicas != 2 {
		t.Errorf("it does not run: %+v", web.Spec)
	}
	if s.must(s.client.Get(ctx, client.ObjectKeyFromObject(copied), copied)); !copied.Status.ApplicationActivated {
		t.Error("the copy of its schedule does not say that it runs here")
	}
}

// TestOlderRoundOnTrial activates an older round from its snapshots on a real API
// server, with the store lost.
func TestOlderRoundOnTrial(t *testing.T) {
	s, standby := newStage(t)
	for _, round := range []string{"r2", "r3"} {
		s.seal("p", "east", round)
		before := s.standby(standby)
		after := before.DeepCopy()
		after.Spec.Round, after.Spec.Snapshots = round, 2
		s.must(s.client.Patch(t.Context(), after, client.MergeFrom(before)))
		s.until("it holds "+round, func() bool { return s.standby(standby).Status.Round == round })
	}
	s.store.lose()
	before := s.standby(standby)
	kept := before.Status.Snapshots[1]
	if kept.Round != "r2" || !kept.Ready || kept.Volumes[0].Image == "" || kept.Volumes[0].UID == "" {
		t.Fatalf("it keeps %+v", before.Status.Snapshots)
	}
	after := before.DeepCopy()
	after.Spec.Activation = &api.StandbyActivation{Round: "r2"}
	s.must(s.client.Patch(t.Context(), after, client.MergeFrom(before)))
	var made corev1.PersistentVolumeClaim
	s.until("a volume is made of the snapshot", func() bool {
		var list corev1.PersistentVolumeClaimList
		s.must(s.client.List(t.Context(), &list, client.InNamespace(home)))
		for _, pvc := range list.Items {
			if from := pvc.Spec.DataSource; from != nil && from.Kind == "VolumeSnapshot" && from.Name == kept.Volumes[0].Snapshot {
				made = pvc
			}
		}
		return made.Name != ""
	})
	s.until("it is activated", func() bool {
		now := s.standby(standby).Status
		return now.Activating && now.Phase == api.StandbyReady && now.Round == "r2"
	})
	var volume corev1.PersistentVolume
	s.must(s.client.Get(t.Context(), client.ObjectKey{Name: "pv-of-the-source"}, &volume))
	if volume.Spec.CSI.VolumeHandle != "handle-"+made.Name {
		t.Errorf("the application has volume %s, and that of the snapshot is %s", volume.Spec.CSI.VolumeHandle, made.Name)
	}
	s.until("what it held before goes, since it is in a snapshot", func() bool {
		var list corev1.PersistentVolumeClaimList
		s.must(s.client.List(t.Context(), &list, client.InNamespace(home)))
		return len(list.Items) == 0
	})
}

var (
	_ target.Holds     = stage{}
	_ target.Snapshots = (*snapshots)(nil)
)

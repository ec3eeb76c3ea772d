package controller_test

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/transfer"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

const home = "godwit-system"

// The conditions by which a Migration tells how far it is.
const (
	admitted    = "Admitted"
	checked     = "Preflight"
	snapshotted = "Snapshotted"
	uploaded    = "Uploaded"
	sealed      = "Sealed"
	begun       = "Begun"
	released    = "Released"
	incremental = "Incremental"
	stopping    = "Quiescing"
)

// rig is a source cluster with a real API server, whose storage, nodes and
// target are played by the test.
type rig struct {
	t          *testing.T
	client     client.Client
	ns         string
	pairID     string
	peer       pairing.Peer
	peers      *pairingtest.Peers
	remote     remote
	storage    *storage
	target     *target
	repository *snapshottest.Memory
	migrations *controller.Migrations
	now        time.Time
	// volume begins the names of volumes.
	volume string
	// method is what nodes say that they read by, Scan unless set.
	method snapshot.Method
	// changed is what a storage that is asked says of what changed; mute lets it say
	// nothing at all.
	changed string
	mute    bool
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, repository: snapshottest.NewMemory(), storage: newStorage(), target: newTarget(), now: time.Now()}
	r.client, r.ns = connect(t)
	r.pairID = "pair-" + r.ns
	if err := r.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: home}}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	_, sealing, err := ed25519.GenerateKey(nil)
	r.must(err)
	r.peers = &pairingtest.Peers{}
	r.peer = pairing.Peer{
		PairID: r.pairID, Direction: pairing.Outgoing, ClusterID: "west", Scope: pairing.Scope{Namespaces: []string{r.ns}},
		SealingKey: pairing.Secret(sealing.Seed()), RepositoryPassword: "password", RepositoryPrefix: "godwit/" + r.pairID + "/", Certificate: []byte("there"),
	}
	r.remote = remote{r.pairID: r.target, "": r.target}
	r.migrations = &controller.Migrations{
		Client: r.client, Live: r.client, Peers: r.peers, Remote: r.remote, Locator: locator{}, Opener: opener{r.repository},
		Snapshots: r.storage, Objects: objects(t), Events: events.NewFakeRecorder(10000), ClusterID: "east",
		Namespace: home, AdminNamespace: home, Concurrent: 1, Now: func() time.Time { return r.now },
	}
	r.pair("west", r.peer)
	return r
}

func objects(t *testing.T) workload.Cluster {
	t.Helper()
	return objectsBy(t, server)
}

func objectsBy(t *testing.T, config *rest.Config) workload.Cluster {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return workload.Cluster{Discovery: d, Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) pair(name string, peer pairing.Peer) {
	r.t.Helper()
	_, err := r.peers.Put(r.t.Context(), peer)
	r.must(err)
	p := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name}}
	p.Spec.Options = map[string]string{api.OptionBackupLocation: "relay"}
	r.must(r.client.Create(r.t.Context(), p))
	p.Status.PairID, p.Status.Repository = peer.PairID, peer.RepositoryID()
	meta.SetStatusCondition(&p.Status.Conditions, metav1.Condition{Type: api.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready"})
	r.must(r.client.Status().Update(r.t.Context(), p))
}

// claim makes a bound claim of block storage.
func (r *rig) claim(name string) {
	r.t.Helper()
	class, size := "fast", resource.MustParse("1Gi")
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: cmp.Or(r.volume, "pvc-") + r.ns + "-" + name}}
	pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: size}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "handle-" + pv.Name}
	r.must(r.client.Create(r.t.Context(), pv))
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name}}
	pvc.Spec.AccessModes, pvc.Spec.StorageClassName, pvc.Spec.VolumeName = pv.Spec.AccessModes, &class, pv.Name
	pvc.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: size}
	r.must(r.client.Create(r.t.Context(), pvc))
	pvc.Status.Phase, pvc.Status.Capacity = corev1.ClaimBound, pv.Spec.Capacity
	r.must(r.client.Status().Update(r.t.Context(), pvc))
}

func (r *rig) migration(name string, change func(*api.MigrationSpec)) {
	r.t.Helper()
	m := &api.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name}}
	m.Spec = api.MigrationSpec{ClusterPair: "west", Namespaces: []string{r.ns}}
	if change != nil {
		change(&m.Spec)
	}
	r.must(r.client.Create(r.t.Context(), m))
}

func (r *rig) get(name string) *api.Migration {
	r.t.Helper()
	var m api.Migration
	r.must(r.client.Get(r.t.Context(), types.NamespacedName{Namespace: r.ns, Name: name}, &m))
	return &m
}

// step lets the reconciler look once.
func (r *rig) step(name string) {
	r.t.Helper()
	_, err := r.migrations.Reconcile(r.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: r.ns, Name: name}})
	r.must(err)
}

// until steps until done, playing nodes and target in between.
func (r *rig) until(name, what string, done func(*api.Migration) bool, play ...func()) *api.Migration {
	r.t.Helper()
	var m *api.Migration
	for range 60 {
		r.step(name)
		for _, p := range play {
			p()
		}
		if m = r.get(name); done(m) {
			return m
		}
	}
	r.t.Fatalf("Migration %s never got to %s: %+v", name, what, m.Status)
	return nil
}

func ended(m *api.Migration) bool {
	return m.Status.Stage == api.MigrationStageFinal && meta.IsStatusConditionTrue(m.Status.Conditions, released)
}

func is(condition string) func(*api.Migration) bool {
	return func(m *api.Migration) bool { return meta.IsStatusConditionTrue(m.Status.Conditions, condition) }
}

// transfersOf lists what was written for nodes.
func (r *rig) transfersOf(m *api.Migration) []api.VolumeTransfer {
	r.t.Helper()
	var list api.VolumeTransferList
	r.must(r.client.List(r.t.Context(), &list, client.InNamespace(home), client.MatchingLabels{transfer.LabelOwner: string(m.UID)}))
	return list.Items
}

// carryOut plays the nodes: every transfer commits an image.
func (r *rig) carryOut(name string) func() {
	return func() {
		for _, t := range r.transfersOf(r.get(name)) {
			keep := t.Spec.Direction == api.Keep
			if t.Status.Phase == api.TransferSucceeded || !t.DeletionTimestamp.IsZero() || keep && r.mute {
				continue
			}
			if keep && r.changed != "" {
				t.Status.Phase, t.Status.Differs = api.TransferSucceeded, r.changed
				r.must(r.client.Status().Update(r.t.Context(), &t))
				continue
			}
			w, err := r.repository.Begin(r.t.Context(), snapshot.Image{
				Volume: snapshot.Volume{Cluster: t.Spec.Volume.Cluster, Namespace: t.Spec.Volume.Namespace, Name: t.Spec.Volume.Name},
				Kind:   snapshot.Block, Round: t.Spec.Round, Size: 4096, Taken: t.Spec.Taken.Time,
			}, "")
			r.must(err)
			image, _, err := w.Commit(r.t.Context())
			r.must(err)
			t.Status.Phase, t.Status.Image, t.Status.Size, t.Status.Method = api.TransferSucceeded, string(image.ID), 4096, string(cmp.Or(r.method, snapshot.MethodScan))
			r.must(r.client.Status().Update(r.t.Context(), &t))
		}
	}
}

// left lists what a Migration made for itself and that is still there.
func (r *rig) left(m *api.Migration) []string {
	r.t.Helper()
	left := r.storage.left()
	for _, t := range r.transfersOf(m) {
		left = append(left, "transfer "+t.Name)
	}
	var secrets corev1.SecretList
	r.must(r.client.List(r.t.Context(), &secrets, client.InNamespace(home), client.MatchingLabels{transfer.LabelOwner: string(m.UID)}))
	for _, s := range secrets.Items {
		left = append(left, "secret "+s.Name)
	}
	return left
}

// remote leads to the targets by their pairs; what has no name leads to all others.
type remote map[string]*target

func (remote) Join(context.Context, pairing.Token, string) (pairing.Peer, error) {
	return pairing.Peer{}, errors.New("nothing joins here")
}

func (remote) Check(context.Context, pairing.Peer) (time.Time, string, error) {
	return time.Time{}, "", nil
}
func (r remote) Target(_ context.Context, p pairing.Peer) (migrate.Target, error) {
	return cmp.Or(r[p.PairID], r[""]), nil
}
func (remote) Leave(string) {}

// target keeps to what migrate.Target promises: its calls can be repeated, and a
// round that was never begun is unknown.
type target struct {
	// resources are what it says that it applied.
	resources []migrate.TargetResource
	mu        sync.Mutex
	rounds    map[string]migrate.TargetStatus
	begun     []migrate.Begin
	canceled  []string
	problems  []migrate.Problem
	details   []byte
	asked     []migrate.Preflight
	// serves are versions by kind and group; of others, all are served.
	serves map[string][]string
	phase  migrate.TargetPhase
	// firstReady is when the first pod is ready.
	firstReady time.Time
	vouched    []migrate.Vouch
	// ran are the hooks by name, with how often each was asked for while it was not
	// there; said gives what a hook comes to.
	ran  []string
	said map[string]migrate.HookResult
	// writes says what was written on the target since; takenBack are the rollbacks
	// that were asked for, and back says that the first of them is through.
	writes    string
	takenBack []migrate.RollBack
	// unanswered calls are yet to come.
	unanswered int
	retries    []migrate.TargetRetry
	back       bool
}

var _ migrate.Target = (*target)(nil)

func newTarget() *target {
	return &target{rounds: map[string]migrate.TargetStatus{}, phase: migrate.TargetReady}
}

func (t *target) Preflight(_ context.Context, p migrate.Preflight) (migrate.Forecast, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unanswered > 0 {
		t.unanswered--
		return migrate.Forecast{}, pairing.ErrUnreachable
	}
	if len(p.Kinds) > 0 {
		return migrate.Forecast{Served: t.served(p.Kinds)}, nil
	}
	t.asked = append(t.asked, p)
	return migrate.Forecast{Problems: t.problems, Details: t.details}, nil
}

func (t *target) Begin(_ context.Context, b migrate.Begin) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unanswered > 0 {
		t.unanswered--
		return pairing.ErrUnreachable
	}
	if _, known := t.rounds[b.Application+"@"+b.Round]; !known {
		t.rounds[b.Application+"@"+b.Round] = migrate.TargetStatus{Phase: migrate.TargetVolumes}
		t.begun = append(t.begun, b)
	}
	return nil
}

func (t *target) Vouch(_ context.Context, v migrate.Vouch) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.rounds[v.Application+"@"+v.Round]; !known {
		return migrate.ErrUnknownRound
	}
	t.vouched = append(t.vouched, v)
	return nil
}

func (t *target) Status(_ context.Context, r migrate.RoundRef) (migrate.TargetStatus, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unanswered > 0 {
		t.unanswered--
		return migrate.TargetStatus{}, pairing.ErrUnreachable
	}
	if _, known := t.rounds[r.Application+"@"+r.Round]; !known {
		return migrate.TargetStatus{}, migrate.ErrUnknownRound
	}
	return migrate.TargetStatus{Phase: t.phase, FirstReady: t.firstReady, Retries: t.retries, Resources: t.resources}, nil
}

func (t *target) Hook(_ context.Context, h migrate.Hook) (migrate.HookResult, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.Drop {
		done := len(t.ran) == 0
		t.ran = nil
		return migrate.HookResult{Done: done}, nil
	}
	if !slices.Contains(t.ran, h.Name) {
		if h.Started {
			return migrate.HookResult{Done: true, Message: "its Job was deleted"}, nil
		}
		t.ran = append(t.ran, h.Name)
		return migrate.HookResult{Job: "job-" + h.Name}, nil
	}
	if r, there := t.said[h.Name]; there {
		return r, nil
	}
	return migrate.HookResult{Job: "job-" + h.Name, Done: true, OK: true, Log: "log of " + h.Name}, nil
}

func (t *target) Cancel(_ context.Context, r migrate.Cancel) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unanswered > 0 {
		t.unanswered--
		return false, pairing.ErrUnreachable
	}
	key := r.Application + "@" + r.Round
	if r.Whole {
		key += " whole"
		if len(t.rounds) == 0 {
			return true, nil
		}
		clear(t.rounds)
		t.canceled = append(t.canceled, key)
		return false, nil
	}
	if _, known := t.rounds[key]; !known {
		return true, nil
	}
	delete(t.rounds, key)
	t.canceled = append(t.canceled, key)
	return false, nil
}

func (t *target) FailOver(context.Context, migrate.FailOver) (migrate.FailOverReport, error) {
	return migrate.FailOverReport{}, errors.New("this target has no schedules")
}

func (t *target) RollBack(_ context.Context, r migrate.RollBack) (migrate.RollBackReport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.rounds[r.Application+"@"+r.Round]; !known {
		return migrate.RollBackReport{}, migrate.ErrUnknownRound
	}
	switch {
	case t.back:
		return migrate.RollBackReport{Done: true}, nil
	case t.writes != "" && !r.DropWrites && !r.BringWrites:
		return migrate.RollBackReport{Refused: true, Message: t.writes}, nil
	}
	t.takenBack = append(t.takenBack, r)
	t.back = len(t.takenBack) > 2
	return migrate.RollBackReport{Message: "objects are undone"}, nil
}

// storage keeps to what csi.Snapshots promises.
type storage struct {
	mu        sync.Mutex
	snapshots map[string]csi.Owner   // by namespace/name
	exposures map[string]csi.Mounted // by owner
	aliases   map[string]bool        // by owner
	// cut and ready say how far new snapshots are.
	cut, ready bool
	taken      time.Time
	// node is where exposures are published.
	node string
	most int
	// waiting is what exposures wait for; empty for nothing.
	waiting string
}

var _ controller.Snapshots = (*storage)(nil)

func newStorage() *storage {
	return &storage{
		snapshots: map[string]csi.Owner{}, exposures: map[string]csi.Mounted{}, aliases: map[string]bool{},
		cut: true, ready: true, taken: time.Now().Truncate(time.Second), node: "n1",
	}
}

func (s *storage) Capability(context.Context, *corev1.PersistentVolumeClaim) (csi.Capability, error) {
	return csi.Capability{Driver: "d", SnapshotClass: "c", Blocks: true}, nil
}

func (s *storage) EnsureTogether(ctx context.Context, requests []csi.SnapshotRequest) ([]csi.Member, error) {
	members := make([]csi.Member, 0, len(requests))
	for _, r := range requests {
		state, err := s.ensureSnapshot(ctx, r)
		if err != nil {
			return nil, err
		}
		members = append(members, csi.Member{Snapshot: r.Name, SnapshotState: state})
	}
	return members, nil
}

func (s *storage) ensureSnapshot(_ context.Context, r csi.SnapshotRequest) (csi.SnapshotState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Namespace + "/" + r.Name
	if owner, there := s.snapshots[key]; there && owner != r.Owner {
		return csi.SnapshotState{}, fmt.Errorf("snapshot %s is of %s", key, owner.Name)
	}
	s.snapshots[key] = r.Owner
	state := csi.SnapshotState{Ready: s.ready, Handle: "handle-of-" + r.Name}
	if s.cut {
		state.Taken = s.taken
	}
	return state, nil
}

func (s *storage) EnsureAlias(_ context.Context, r csi.ExposureRequest) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[string(r.Owner.UID)] = true
	return "", nil
}

func (s *storage) EnsureExposure(_ context.Context, r csi.ExposureRequest) (csi.Mounted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.snapshots[r.Namespace+"/"+r.Snapshot]; !there {
		return csi.Mounted{}, fmt.Errorf("there is no snapshot %s", r.Snapshot)
	}
	m, there := s.exposures[string(r.Owner.UID)]
	if s.waiting != "" {
		m = csi.Mounted{Waiting: s.waiting}
		s.exposures[string(r.Owner.UID)] = m
		return m, nil
	}
	if !there || m.Node != s.node {
		m = csi.Mounted{Ready: true, Node: s.node, PodUID: types.UID("pod-on-" + s.node), PersistentVolume: "pv-" + r.Name, Mode: r.Mode}
	}
	s.exposures[string(r.Owner.UID)] = m
	s.most = max(s.most, len(s.exposures))
	return m, nil
}

func (s *storage) Adopt(_ context.Context, k csi.Kept, from, to csi.Owner) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	snapshot := types.NamespacedName{Namespace: k.Namespace, Name: cmp.Or(k.Group, k.Snapshot)}
	owner, there := s.snapshots[snapshot.String()]
	if !there || owner != from && owner != to {
		return fmt.Errorf("snapshot %s is of %q and not of %q", snapshot, owner.Name, from.Name)
	}
	s.snapshots[snapshot.String()] = to
	return nil
}

func (s *storage) Release(_ context.Context, o csi.Owner) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, exposed := s.exposures[string(o.UID)]; exposed || s.aliases[string(o.UID)] {
		delete(s.exposures, string(o.UID))
		delete(s.aliases, string(o.UID))
		return false, nil
	}
	done := true
	for key, owner := range s.snapshots {
		if owner.UID == o.UID {
			for exposed := range s.exposures {
				if strings.HasPrefix(exposed, string(o.UID)) {
					return false, fmt.Errorf("snapshot %s is released while it is exposed", key)
				}
			}
			delete(s.snapshots, key)
			done = false
		}
	}
	return done, nil
}

func (s *storage) left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []string
	for key := range s.snapshots {
		left = append(left, "snapshot "+key)
	}
	for key := range s.exposures {
		left = append(left, "exposure "+key)
	}
	for key := range s.aliases {
		left = append(left, "alias "+key)
	}
	slices.Sort(left)
	return left
}

type locator struct{}

func (locator) Location(context.Context, types.NamespacedName) (snapshot.Location, error) {
	return snapshot.Location{}, nil
}

func (locator) ForPeer(context.Context, pairing.Peer, string) (snapshot.Location, error) {
	return snapshot.Location{}, nil
}

func (locator) EnsureSecret(context.Context, pairing.Peer, string) (string, error) {
	return "repository", nil
}
func (locator) DeleteSecret(context.Context, string) error { return nil }

// opener opens the one repository in memory, which keeps no trees.
type opener struct{ memory *snapshottest.Memory }

type repository struct {
	*snapshottest.Memory
	snapshot.Trees
}

func (repository) Close(context.Context) error { return nil }

func (o opener) Open(context.Context, snapshot.Location, bool) (snapshot.Repository, error) {
	return repository{Memory: o.memory}, nil
}
func (opener) Probe(context.Context, snapshot.Location) (snapshot.StoreTraits, error) {
	return snapshot.StoreTraits{}, nil
}

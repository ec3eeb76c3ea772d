package target

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// world is two clusters that hand one application to and fro by one repository. The
// test plays the sources, the nodes and the storage, and remembers what each volume
// must hold.
type world struct {
	t      *testing.T
	memory *snapshottest.Memory
	sides  map[string]*side
	random *rand.Rand
	// content is what each image holds.
	content map[string]string
	// rounds maps a round to what the application's volumes held at its snapshots.
	rounds map[string]map[string]string
	// active is the side that has the application, n counts what was written and sealed.
	active string
	n      int
}

// side is one cluster.
type side struct {
	w    *world
	name string
	// kill lets a write fail now and then.
	kill bool
	// storage is by the driver's name of a volume; made counts volumes.
	storage map[string]*device
	made    int
	client  client.Client
	agent   *Agent
	// key seals what this side sends; session is the other's way in.
	key     ed25519.PrivateKey
	session migrate.Target
	// shots are what VolumeSnapshots hold; one that is asked for is ready the next time.
	shots map[string]device
	// lost is true where the bucket is out of reach from here.
	lost bool
}

var errNoBucket = errors.New("the bucket is out of reach")

func other(name string) string { return map[string]string{"east": "west", "west": "east"}[name] }

func volumesOfApp() []string { return []string{"a", "b"} }

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, memory: snapshottest.NewMemory(), random: rand.New(rand.NewPCG(seed, 7)), active: "east",
		content: map[string]string{}, rounds: map[string]map[string]string{}, sides: map[string]*side{},
	}
	keys := map[string]ed25519.PrivateKey{}
	for _, name := range []string{"east", "west"} {
		_, key, err := ed25519.GenerateKey(nil)
		w.must(err)
		keys[name] = key
	}
	for _, name := range []string{"east", "west"} {
		w.sides[name] = w.newSide(name, keys)
	}
	for _, v := range volumesOfApp() {
		w.sides["east"].provision(v)
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) newSide(name string, keys map[string]ed25519.PrivateKey) *side {
	w.t.Helper()
	scheme := schemeOfFakes(w.t)
	s := &side{w: w, name: name, key: keys[name], storage: map[string]*device{}, shots: map[string]device{}}
	s.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&api.Standby{}, &api.VolumeTransfer{}, &api.MigrationSchedule{}).
		WithObjects(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: s.create, Delete: s.delete,
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if err := s.killed(); err != nil {
					return err
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	public := func(name string) ed25519.PublicKey { return keys[name].Public().(ed25519.PublicKey) } //nolint:forcetypeassert // it is one
	peers := &pairingtest.Peers{}
	in := pairing.Peer{
		PairID: "from-" + other(name), Direction: pairing.Incoming, ClusterID: other(name), Scope: pairing.Scope{Namespaces: []string{"cms"}},
		SealingPublicKey: public(other(name)), RepositoryPassword: "password", Twin: "from-" + name,
	}
	out := pairing.Peer{PairID: "from-" + name, Direction: pairing.Outgoing, ClusterID: other(name), SealingPublicKey: public(name), RepositoryPassword: "password"}
	for _, p := range []pairing.Peer{in, out} {
		_, err := peers.Put(w.t.Context(), p)
		w.must(err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), meta.RESTScopeNamespace)
	s.agent = &Agent{
		Client: s.client, Live: s.client, Peers: peers, Locator: nowhere{}, Opener: s, Holds: s, Snapshots: s,
		Objects: workload.Cluster{Dynamic: dynamicfake.NewSimpleDynamicClient(scheme), Mapper: mapper},
		Events:  events.NewFakeRecorder(100000), Namespace: home, ClusterID: name, Now: time.Now,
	}
	s.session = s.agent.For(in)
	return s
}

func (s *side) killed() error {
	if s.kill && s.w.random.IntN(8) == 0 {
		return errKilled
	}
	return nil
}

// create plays the provisioner and the binder.
func (s *side) create(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
	if err := s.killed(); err != nil {
		return err
	}
	pvc, isClaim := o.(*corev1.PersistentVolumeClaim)
	if isClaim {
		s.made++
		pvc.UID = types.UID(fmt.Sprintf("%s-claim-%d", s.name, s.made))
		if pvc.Spec.VolumeName == "" {
			handle := fmt.Sprintf("%s-volume-%d", s.name, s.made)
			s.storage[handle] = &device{at: "noise"}
			if from := pvc.Spec.DataSource; from != nil {
				made, there := s.shots[from.Name]
				if !there {
					s.w.t.Errorf("a claim is made of VolumeSnapshot %s, which is not there", from.Name)
				}
				*s.storage[handle] = made
			}
			pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-" + handle}}
			pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: handle}
			pv.Spec.StorageClassName, pv.Spec.AccessModes = "fast", pvc.Spec.AccessModes
			pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("4Ki")}
			pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
			if err := c.Create(ctx, pv); err != nil {
				return err
			}
			pvc.Spec.VolumeName = pv.Name
		}
	}
	if standby, is := o.(*api.Standby); is {
		s.made++
		standby.UID = types.UID(fmt.Sprintf("%s-standby-%d", s.name, s.made))
	}
	return c.Create(ctx, o, opts...)
}

// delete plays the reclaimer: storage goes with its claim, unless it is retained.
func (s *side) delete(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
	if err := s.killed(); err != nil {
		return err
	}
	pvc, isClaim := o.(*corev1.PersistentVolumeClaim)
	if !isClaim {
		return c.Delete(ctx, o, opts...)
	}
	var pv corev1.PersistentVolume
	if err := c.Get(ctx, types.NamespacedName{Name: pvc.Spec.VolumeName}, &pv); err == nil && pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		delete(s.storage, pv.Spec.CSI.VolumeHandle)
		if err := c.Delete(ctx, &pv); err != nil {
			return err
		}
	}
	return c.Delete(ctx, o, opts...)
}

// provision makes the application's claim where it was installed.
func (s *side) provision(name string) {
	s.w.t.Helper()
	s.w.must(s.client.Create(s.w.t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: name},
		Spec:       corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}},
	}))
}

// device is what the claim's storage holds.
func (s *side) device(namespace, name string) *device {
	s.w.t.Helper()
	var pvc corev1.PersistentVolumeClaim
	s.w.must(s.client.Get(s.w.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, &pvc))
	var pv corev1.PersistentVolume
	s.w.must(s.client.Get(s.w.t.Context(), types.NamespacedName{Name: pvc.Spec.VolumeName}, &pv))
	d := s.storage[pv.Spec.CSI.VolumeHandle]
	if d == nil {
		s.w.t.Fatalf("%s: the storage of claim %s/%s was deleted", s.name, namespace, name)
	}
	return d
}

func (s *side) EnsureHold(ctx context.Context, r csi.HoldRequest) (csi.Mounted, error) {
	var pvc corev1.PersistentVolumeClaim
	if err := s.client.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: r.Claim}, &pvc); err != nil {
		return csi.Mounted{}, err
	}
	return csi.Mounted{Ready: true, Node: "n1", PodUID: "pod", PersistentVolume: pvc.Spec.VolumeName, Mode: r.Mode}, nil
}

func (*side) DropHold(context.Context, csi.HoldRequest) (bool, error) { return true, nil }

func (*side) Capability(context.Context, *corev1.PersistentVolumeClaim) (csi.Capability, error) {
	return csi.Capability{Driver: "d", SnapshotClass: "c", Blocks: true}, nil
}

func (s *side) EnsureSnapshot(_ context.Context, r csi.SnapshotRequest) (csi.SnapshotState, error) {
	name := types.UID(r.Name)
	if _, there := s.shots[r.Name]; !there {
		s.shots[r.Name] = *s.device(r.Namespace, r.Claim)
		return csi.SnapshotState{UID: name}, nil
	}
	return csi.SnapshotState{Ready: true, UID: name}, nil
}

func (s *side) LookAtSnapshot(_ context.Context, _ csi.Owner, _, name string) (csi.SnapshotState, error) {
	_, there := s.shots[name]
	return csi.SnapshotState{Ready: there, UID: types.UID(name)}, nil
}

// Open and Probe are the way to the bucket.
func (s *side) Open(ctx context.Context, l snapshot.Location, create bool) (snapshot.Repository, error) {
	if s.lost {
		return nil, errNoBucket
	}
	return memoryOpener{s.w.memory}.Open(ctx, l, create)
}

func (s *side) Probe(ctx context.Context, l snapshot.Location) (snapshot.StoreTraits, error) {
	return memoryOpener{s.w.memory}.Probe(ctx, l)
}

func (*side) EnsureExposure(context.Context, csi.ExposureRequest) (csi.Mounted, error) {
	return csi.Mounted{}, errors.New("nothing is exposed here")
}

func (*side) Release(context.Context, csi.Owner) (bool, error) { return true, nil }

// write lets the application write on a side, whoever is active.
func (s *side) write() {
	for _, v := range volumesOfApp() {
		s.w.n++
		*s.device("cms", v) = device{at: fmt.Sprintf("written-%d", s.w.n)}
	}
}

func (w *world) holds(d *device) string {
	if d.towards != "" {
		return "something between"
	}
	return d.at
}

// seal makes a round of what the application's volumes hold on a side.
func (s *side) seal() (migrate.Begin, error) {
	w := s.w
	w.n++
	round := fmt.Sprintf("r%04d", w.n)
	peer := pairing.Peer{RepositoryPassword: "password"}
	e, err := epochIn(w.t.Context(), w.memory, peer, "cms/cms")
	w.must(err)
	if e.Bars(s.name) {
		return migrate.Begin{}, snapshot.ErrSuperseded // As a Migration does.
	}
	return s.sealIn(round, e.Number), nil
}

func (s *side) sealIn(round string, epoch int64) migrate.Begin {
	w := s.w
	point := snapshot.RecoveryPoint{App: "cms/cms", Round: round, Cluster: s.name, Epoch: epoch, Sealed: time.Now()}
	b := migrate.Begin{RoundRef: ref(round), Stage: true, Schedule: &migrate.Schedule{Name: "nightly", Template: []byte("{}")}}
	w.rounds[round] = map[string]string{}
	for _, name := range volumesOfApp() {
		w.rounds[round][name] = w.holds(s.device("cms", name))
		image := store(w.t, w.memory, snapshot.Volume{Cluster: s.name, Namespace: "cms", Name: name}, round, w.rounds[round][name])
		point.Images = append(point.Images, image)
		w.content[string(image.ID)] = w.rounds[round][name]
		b.Volumes = append(b.Volumes, migrate.Claim{Namespace: "cms", Name: name, StorageClass: "fast", VolumeMode: "Filesystem", AccessModes: []string{"ReadWriteOnce"}, SizeBytes: 4096})
	}
	sealed, err := snapshot.Seal(point, []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: cms}\n"), s.key)
	w.must(err)
	w.must(w.memory.Seal(w.t.Context(), sealed))
	return b
}

func (s *side) where() types.NamespacedName {
	return types.NamespacedName{Namespace: home, Name: standbyName("from-"+other(s.name), "cms/cms")}
}

func (s *side) standby() *api.Standby {
	s.w.t.Helper()
	var standby api.Standby
	s.w.must(s.client.Get(s.w.t.Context(), s.where(), &standby))
	return &standby
}

// step lets the agent look once, and plays the nodes and who applies the objects.
func (s *side) step() {
	s.w.t.Helper()
	ctx := s.w.t.Context()
	if now := s.standby(); allHandedOver(now) && !meta.IsStatusConditionTrue(now.Status.Conditions, conditionApplied) {
		s.applyClaims(now)
		return
	} else if !now.DeletionTimestamp.IsZero() && meta.IsStatusConditionTrue(now.Status.Conditions, conditionHandingOver) {
		s.undoClaims()
	}
	if _, err := s.agent.Reconcile(ctx, ctrl.Request{NamespacedName: s.where()}); err != nil && !errors.Is(err, errKilled) && !errors.Is(err, errNoBucket) {
		s.w.t.Fatal(err)
	}
	s.work()
}

func allHandedOver(s *api.Standby) bool {
	return len(s.Status.Volumes) > 0 && s.Status.Bringing == s.Spec.Round && !slices.ContainsFunc(s.Status.Volumes, func(v api.StandbyVolume) bool { return !v.HandedOver })
}

// applyClaims makes the application's claims as the round's objects do.
func (s *side) applyClaims(now *api.Standby) {
	s.w.t.Helper()
	for _, v := range now.Status.Volumes {
		err := s.client.Create(s.w.t.Context(), &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: v.Name}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: v.Volume},
		})
		if errors.Is(err, errKilled) {
			return
		}
		s.w.must(client.IgnoreAlreadyExists(err))
	}
	meta.SetStatusCondition(&now.Status.Conditions, metav1.Condition{Type: conditionApplied, Status: metav1.ConditionTrue, Reason: "Applied"})
	s.w.must(s.client.Status().Update(s.w.t.Context(), now))
}

// undoClaims takes the application's claims back as the records of its objects do.
func (s *side) undoClaims() {
	s.w.t.Helper()
	for _, name := range volumesOfApp() {
		var claim corev1.PersistentVolumeClaim
		err := s.client.Get(s.w.t.Context(), types.NamespacedName{Namespace: "cms", Name: name}, &claim)
		if err == nil {
			err = s.client.Delete(s.w.t.Context(), &claim)
		}
		if err = client.IgnoreNotFound(err); !errors.Is(err, errKilled) {
			s.w.must(err)
		}
	}
}

func (s *side) work() {
	s.w.t.Helper()
	ctx := s.w.t.Context()
	var list api.VolumeTransferList
	s.w.must(s.client.List(ctx, &list))
	for _, t := range list.Items {
		if t.Status.Phase == api.TransferSucceeded {
			continue
		}
		d, whole := s.device(home, t.Name), s.w.random.IntN(2) == 0
		switch {
		case t.Spec.Reconcile && whole:
			*d = device{at: s.w.content[t.Spec.Image]}
		case t.Spec.Reconcile:
			*d = device{at: "reconciled in part"}
		default:
			s.w.must(d.apply(s.w.content[t.Spec.From], s.w.content[t.Spec.Image], whole))
		}
		if whole {
			t.Status.Phase = api.TransferSucceeded
			s.w.must(s.client.Status().Update(ctx, &t))
		}
	}
}

func (s *side) settle(what string, done func() bool) {
	s.w.t.Helper()
	for range 400 {
		if done() {
			return
		}
		s.step()
	}
	s.w.t.Fatalf("%s never gets to %s: %+v", s.name, what, s.standby().Status)
}

// begin says it again until the agent takes it, as a source does; it gives back what
// refuses it for good.
func (s *side) begin(b migrate.Begin) error {
	for range 50 {
		err := s.session.Begin(s.w.t.Context(), b)
		if err == nil || errors.Is(err, migrate.ErrActivated) {
			return err
		}
		if errors.Is(err, errKilled) {
			continue
		}
		s.step()
	}
	return errors.New("it never begins")
}

// copySays sees that the copy of the schedule says whether the application runs here.
func (s *side) copySays(active bool) {
	s.w.t.Helper()
	var c api.MigrationSchedule
	s.w.must(s.client.Get(s.w.t.Context(), types.NamespacedName{Namespace: "cms", Name: "nightly"}, &c))
	if c.Status.ApplicationActivated != active {
		s.w.t.Fatalf("applicationActivated of the schedule's copy on %s is %t", s.name, !active)
	}
}

// check sees that a side's application holds what it must.
func (s *side) check(what string, want map[string]string) {
	s.w.t.Helper()
	for _, v := range volumesOfApp() {
		if got := s.w.holds(s.device("cms", v)); got != want[v] {
			s.w.t.Fatalf("%s: volume %s on %s holds %q, want %q", what, v, s.name, got, want[v])
		}
	}
	var volumes corev1.PersistentVolumeList
	s.w.must(s.client.List(s.w.t.Context(), &volumes))
	known := map[string]string{}
	for _, pv := range volumes.Items {
		handle := pv.Spec.CSI.VolumeHandle
		if before := known[handle]; before != "" {
			s.w.t.Errorf("%s: volumes %s and %s on %s have the same storage", what, before, pv.Name, s.name)
		}
		known[handle] = pv.Name
	}
}

// TestThereAndBack hands an application to and fro: rounds, kills, planned moves that
// are cancelled at any moment, failovers with the source lost, and old sources that
// come back and write. The application is always the newest round that was activated
// by, whole, and an old source is never taken.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			first := true
			for range 6 {
				if w.round() {
					first = false
				}
				if first {
					continue
				}
				switch w.random.IntN(3) {
				case 0:
					w.failover()
				case 1:
					w.planned()
				}
			}
		})
	}
}

// round replicates once, and reports whether it got there.
func (w *world) round() bool {
	from, to := w.sides[w.active], w.sides[other(w.active)]
	from.write()
	b, err := from.seal()
	w.must(err)
	w.must(to.begin(b))
	to.kill = w.random.IntN(2) == 0
	to.settle("round "+b.Round, func() bool { return reachedRound(to.standby()) })
	to.kill = false
	to.copySays(false)
	if s := to.standby(); s.Spec.Snapshots == 0 && w.random.IntN(2) == 0 {
		s.Spec.Snapshots = 2
		w.must(to.client.Update(w.t.Context(), s))
	}
	for _, v := range to.standby().Status.Volumes {
		d := to.device(home, (&run{s: to.standby()}).nameFor(&v))
		if got := w.holds(d); got != w.rounds[b.Round][v.Name] {
			w.t.Fatalf("round %s: standby volume %s holds %q", b.Round, v.Name, got)
		}
	}
	return true
}

// failover loses the source after it wrote what was never sent.
func (w *world) failover() {
	from, to := w.sides[w.active], w.sides[other(w.active)]
	from.write()
	if w.random.IntN(2) == 0 {
		// It was just sending another round.
		b, err := from.seal()
		w.must(err)
		w.must(to.begin(b))
		for range w.random.IntN(12) {
			to.step()
		}
	}
	s := to.standby()
	s.Spec.Activation = &api.StandbyActivation{}
	if kept := s.Status.Snapshots; len(kept) > 0 && kept[len(kept)-1].Ready && w.random.IntN(2) == 0 {
		// An older round, from its snapshots: the bucket may be gone as well.
		s.Spec.Activation.Round = kept[len(kept)-1].Round
		to.lost = w.random.IntN(2) == 0
	}
	w.must(to.client.Update(w.t.Context(), s))
	to.kill = w.random.IntN(2) == 0
	to.settle("its activation", func() bool { now := to.standby(); return now.Status.Activating && reachedRound(now) })
	to.kill, to.lost = false, false
	to.settle("its epoch", func() bool {
		return meta.IsStatusConditionTrue(to.standby().Status.Conditions, conditionRaised) && reachedRound(to.standby())
	})
	if named := s.Spec.Activation.Round; named != "" && to.standby().Spec.Round != named {
		w.t.Fatalf("round %s is activated, and %s was named", to.standby().Spec.Round, named)
	}
	to.check("failover", w.rounds[to.standby().Spec.Round])
	to.copySays(true)
	w.active = to.name
	// The old source comes back, writes, and is refused, in the bucket and at the door.
	from.write()
	if _, err := from.seal(); !errors.Is(err, snapshot.ErrSuperseded) {
		w.t.Errorf("the old source finds itself at liberty to seal: %v", err)
	}
	late := from.sealIn(fmt.Sprintf("z%04d", w.n), 0)
	if err := to.session.Begin(w.t.Context(), late); !errors.Is(err, migrate.ErrActivated) {
		w.t.Errorf("the old source's round is taken: %v", err)
	}
}

// planned moves the application with its source stopped, and takes that back at any
// moment.
func (w *world) planned() {
	from, to := w.sides[w.active], w.sides[other(w.active)]
	from.write()
	b, err := from.seal()
	w.must(err)
	b.Stage, b.StartApplications, b.Activate = false, true, true
	w.must(to.begin(b))
	to.kill = w.random.IntN(2) == 0
	cancelAt := w.random.IntN(30)
	for range cancelAt {
		to.step()
	}
	moved := true
	if w.random.IntN(2) == 0 {
		moved = w.cancel(to, b)
	}
	if !moved {
		to.kill = false
		from.check("taken back", w.rounds[b.Round])
		return
	}
	to.settle("the move", func() bool { return reachedRound(to.standby()) })
	to.kill = false
	to.check("planned move", w.rounds[b.Round])
	to.copySays(true)
	w.active = to.name
	if _, err := from.seal(); !errors.Is(err, snapshot.ErrSuperseded) {
		w.t.Errorf("after a move the source finds itself at liberty to seal: %v", err)
	}
}

// cancel takes a move back, and reports whether it was too late.
func (w *world) cancel(to *side, b migrate.Begin) (moved bool) {
	for range 200 {
		done, err := to.session.Cancel(w.t.Context(), migrate.Cancel{RoundRef: b.RoundRef})
		switch {
		case errors.Is(err, migrate.ErrActivated):
			return true
		case err != nil && !errors.Is(err, errKilled):
			w.t.Fatal(err)
		case done:
			return false
		}
		if err := to.client.Get(w.t.Context(), to.where(), &api.Standby{}); err != nil {
			w.must(client.IgnoreNotFound(err))
			continue
		}
		to.step()
	}
	w.t.Fatal("it is never taken back")
	return false
}

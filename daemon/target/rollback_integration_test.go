package target_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

var errCut = errors.New("the process was killed here")

// cutClient lets only so many writes through.
type cutClient struct {
	client.Client
	left int
}

func (c *cutClient) write(do func() error) error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return do()
}

func (c *cutClient) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	return c.write(func() error { return c.Client.Create(ctx, o, opts...) })
}

func (c *cutClient) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	return c.write(func() error { return c.Client.Delete(ctx, o, opts...) })
}

func (c *cutClient) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	return c.write(func() error { return c.Client.Patch(ctx, o, p, opts...) })
}

func (c *cutClient) Status() client.SubResourceWriter { return cutStatus{c.Client.Status(), c} }

type cutStatus struct {
	client.SubResourceWriter
	c *cutClient
}

func (s cutStatus) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
	return s.c.write(func() error { return s.SubResourceWriter.Patch(ctx, o, p, opts...) })
}

// played are the storage and the nodes of the victim, played by the test.
type played struct {
	*attacker
	t         *testing.T
	round     migrate.RoundRef
	snapshots map[string]types.UID
	// differs is what a comparison finds.
	differs string
	// modes are those in which snapshots were exposed; an exposure without a snapshot
	// counts as Live.
	modes map[csi.Mode]bool
	live  bool
	// unsnapshot storage has no snapshots.
	unsnapshot bool
	// waiting is what volumes wait for before a node has them.
	waiting string
}

func (p *played) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// EnsureHold publishes a claim at once, on a volume of its own.
func (p *played) EnsureHold(ctx context.Context, r csi.HoldRequest) (csi.Mounted, error) {
	var pvc corev1.PersistentVolumeClaim
	if err := p.client.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: r.Claim}, &pvc); err != nil {
		return csi.Mounted{}, err
	}
	if pvc.Spec.VolumeName == "" {
		pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-of-" + string(pvc.UID)}}
		pv.Spec.AccessModes, pv.Spec.VolumeMode = pvc.Spec.AccessModes, pvc.Spec.VolumeMode
		pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: string(pvc.UID)}
		pv.Spec.PersistentVolumeReclaimPolicy, pv.Spec.StorageClassName = corev1.PersistentVolumeReclaimDelete, "fast"
		if err := client.IgnoreAlreadyExists(p.client.Create(ctx, pv)); err != nil {
			return csi.Mounted{}, err
		}
		pvc.Spec.VolumeName = pv.Name
		if err := p.client.Update(ctx, &pvc); err != nil {
			return csi.Mounted{}, err
		}
	}
	if p.waiting != "" {
		return csi.Mounted{Waiting: p.waiting}, nil
	}
	return csi.Mounted{Ready: true, Node: "n1", PodUID: "pod", PersistentVolume: pvc.Spec.VolumeName, Mode: r.Mode}, nil
}

func (*played) DropHold(context.Context, csi.HoldRequest) (bool, error) { return true, nil }

func (p *played) Capability(context.Context, *corev1.PersistentVolumeClaim) (csi.Capability, error) {
	if p.unsnapshot {
		return csi.Capability{Driver: "d", Reason: "there is no class"}, nil
	}
	return csi.Capability{Driver: "d", SnapshotClass: "c"}, nil
}

func (p *played) EnsureSnapshot(_ context.Context, r csi.SnapshotRequest) (csi.SnapshotState, error) {
	p.snapshots[r.Name] = r.Owner.UID
	return csi.SnapshotState{Ready: true, Taken: time.Now()}, nil
}

func (*played) LookAtSnapshot(context.Context, csi.Owner, string, string) (csi.SnapshotState, error) {
	return csi.SnapshotState{}, errors.New("no older round is activated here")
}

func (p *played) EnsureExposure(_ context.Context, r csi.ExposureRequest) (csi.Mounted, error) {
	p.modes[r.Mode], p.live = true, r.Snapshot == ""
	if !p.live && p.snapshots[r.Snapshot] != r.Owner.UID {
		return csi.Mounted{}, fmt.Errorf("there is no snapshot %s", r.Snapshot)
	}
	return csi.Mounted{Ready: true, Node: "n1", PodUID: "reader", PersistentVolume: "pv-" + r.Name, Mode: r.Mode}, nil
}

func (p *played) Release(_ context.Context, o csi.Owner) (bool, error) {
	for name, owner := range p.snapshots {
		if owner == o.UID {
			delete(p.snapshots, name)
			return false, nil
		}
	}
	return true, nil
}

// nodes end transfers, and let go of what nobody uses.
func (p *played) nodes() {
	p.t.Helper()
	var transfers api.VolumeTransferList
	p.must(p.client.List(p.t.Context(), &transfers))
	for _, t := range transfers.Items {
		if t.Status.Phase == "" && t.DeletionTimestamp.IsZero() {
			t.Status.Phase = api.TransferSucceeded
			if t.Spec.Direction == api.Compare {
				t.Status.Differs = p.differs
			}
			p.must(p.client.Status().Update(p.t.Context(), &t))
		}
	}
	var pods corev1.PodList
	p.must(p.client.List(p.t.Context(), &pods, client.InNamespace("cms")))
	var claims corev1.PersistentVolumeClaimList
	p.must(p.client.List(p.t.Context(), &claims))
	for _, c := range claims.Items {
		if !c.DeletionTimestamp.IsZero() && len(c.Finalizers) > 0 && (c.Namespace == home || len(pods.Items) == 0) {
			c.Finalizers = nil
			p.must(client.IgnoreNotFound(p.client.Update(p.t.Context(), &c)))
		}
	}
	var volumes corev1.PersistentVolumeList
	p.must(p.client.List(p.t.Context(), &volumes))
	for _, v := range volumes.Items {
		if !v.DeletionTimestamp.IsZero() && len(v.Finalizers) > 0 {
			v.Finalizers = nil
			p.must(client.IgnoreNotFound(p.client.Update(p.t.Context(), &v)))
		}
	}
}

func (p *played) standby() *api.Standby {
	p.t.Helper()
	var list api.StandbyList
	p.must(p.client.List(p.t.Context(), &list, client.InNamespace(home)))
	if len(list.Items) != 1 {
		p.t.Fatalf("there are %d standbys", len(list.Items))
	}
	return &list.Items[0]
}

func (p *played) step() {
	p.t.Helper()
	_, err := p.agent.Reconcile(p.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(p.standby())})
	if err != nil && !errors.Is(err, errCut) && !apierrors.IsConflict(err) {
		p.t.Fatal(err)
	}
	p.nodes()
}

const movedObjects = `apiVersion: v1
kind: ConfigMap
metadata: {name: shelves, namespace: cms}
data: {from: source}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: cms}
spec: {accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: cms}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i}]}
`

// handedOver brings a round to where the application has it.
func handedOver(t *testing.T) *played {
	t.Helper()
	return handedOverAs(t, snapshot.Block)
}

func handedOverAs(t *testing.T, kind snapshot.Kind) *played {
	t.Helper()
	p := askedFor(t, kind, 0)
	for range 40 {
		p.step()
		if s := p.standby(); s.Status.Phase == api.StandbyReady {
			p.step()
			p.isMoved()
			return p
		}
	}
	t.Fatalf("the round is never reached: %+v", p.standby().Status)
	return nil
}

// asked is a target that was told of a round.
func asked(t *testing.T, patience time.Duration) *played {
	t.Helper()
	return askedFor(t, snapshot.Block, patience)
}

func askedFor(t *testing.T, kind snapshot.Kind, patience time.Duration) *played {
	t.Helper()
	v := newVictim(t)
	p := &played{attacker: v.pair(t, pairing.Scope{Namespaces: []string{"cms"}}), t: t, snapshots: map[string]types.UID{}, modes: map[csi.Mode]bool{}}
	v.agent.Holds, v.agent.Snapshots = p, p
	v.create(t, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: "d"},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "shelves"}, Data: map[string]string{"from": "target"}})
	p.round = migrate.RoundRef{Application: "cms/cms", Round: "r1", Namespaces: []string{"cms"}}
	w, err := v.bucket.Begin(t.Context(), snapshot.Image{
		Volume: snapshot.Volume{Cluster: "source-id", Namespace: "cms", Name: "data"}, Kind: kind, Round: "r1", Size: 4096,
	}, "")
	p.must(err)
	image, _, err := w.Commit(t.Context())
	p.must(err)
	objects, err := workload.Decode([]byte(movedObjects))
	p.must(err)
	packed, err := workload.Pack(workload.Instructions{StartApplications: true, Conflicts: workload.Conflicts{Resolution: "Overwrite"}}, objects)
	p.must(err)
	key, err := p.peer.SealingPrivateKey()
	p.must(err)
	sealed, err := snapshot.Seal(snapshot.RecoveryPoint{
		App: "cms/cms", Round: "r1", Cluster: "source-id", Sealed: time.Now(), Images: []snapshot.Image{image},
	}, packed, key)
	p.must(err)
	p.must(v.bucket.Seal(t.Context(), sealed))
	p.must(p.target.Begin(t.Context(), migrate.Begin{
		RoundRef: p.round, IncludeResources: true, StartApplications: true, Patience: patience, Selection: []byte(`{"excludeResourceTypes":["Secret"]}`),
		Volumes: []migrate.Claim{{Namespace: "cms", Name: "data", StorageClass: "fast", VolumeMode: "Filesystem", AccessModes: []string{"ReadWriteOnce"}, SizeBytes: 1 << 30, Volume: "pvc-source"}},
	}))
	return p
}

// have reads the application as it is on the target.
func (p *played) have() (config string, claim, web bool, volume *corev1.PersistentVolume) {
	p.t.Helper()
	var cm corev1.ConfigMap
	p.must(p.client.Get(p.t.Context(), client.ObjectKey{Namespace: "cms", Name: "shelves"}, &cm))
	there := func(o client.Object, name string) bool {
		err := p.client.Get(p.t.Context(), client.ObjectKey{Namespace: o.GetNamespace(), Name: name}, o)
		p.must(client.IgnoreNotFound(err))
		return err == nil
	}
	pv := &corev1.PersistentVolume{}
	if there(pv, "pvc-source") {
		volume = pv
	}
	in := metav1.ObjectMeta{Namespace: "cms"}
	return cm.Data["from"], there(&corev1.PersistentVolumeClaim{ObjectMeta: in}, "data"), there(&appsv1.Deployment{ObjectMeta: in}, "web"), volume
}

func (p *played) isMoved() {
	p.t.Helper()
	if config, claim, web, volume := p.have(); config != "source" || !claim || !web || volume == nil || volume.DeletionTimestamp != nil {
		p.t.Fatalf("the application is not on the target: %s, %t, %t, %+v; %+v", config, claim, web, volume, p.standby().Status)
	}
}

// ask asks for the rollback until it is done or refused.
func (p *played) ask(drop bool, request int64) migrate.RollBackReport {
	p.t.Helper()
	for range 80 {
		report, err := p.target.RollBack(p.t.Context(), migrate.RollBack{RoundRef: p.round, DropWrites: drop, Request: request})
		if err != nil && !strings.Contains(err.Error(), errCut.Error()) {
			p.t.Fatal(err)
		}
		if report.Done || report.Refused {
			return report
		}
		p.step()
	}
	p.t.Fatalf("the rollback comes to no end: %+v", p.standby().Status)
	return migrate.RollBackReport{}
}

func (p *played) isBack(kept bool) {
	p.t.Helper()
	config, claim, web, volume := p.have()
	if config != "target" || claim || web || len(p.snapshots) > 0 {
		p.t.Errorf("the target is not as it was: %s, %t, %t, %v", config, claim, web, p.snapshots)
	}
	if (volume != nil) != kept {
		p.t.Errorf("the volume is %+v", volume)
	}
	if volume != nil && (volume.Annotations["godwit.io/fenced"] == "" || volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain || volume.DeletionTimestamp != nil) {
		p.t.Errorf("the volume is not kept: %+v", volume)
	}
	var secrets corev1.SecretList
	p.must(p.client.List(p.t.Context(), &secrets, client.InNamespace(home), client.HasLabels{"godwit.io/journal"}))
	if len(secrets.Items) > 0 {
		p.t.Errorf("%d entries of the journal are left", len(secrets.Items))
	}
}

// TestRollBack refuses what would lose writes, tells the difference, and leaves the
// application alone; then it takes all back, killed at each of its writes.
func TestRollBack(t *testing.T) {
	p := handedOver(t)
	p.differs = "512 bytes in 1 chunks differ, the first at 4096"
	report := p.ask(false, 1)
	if !report.Refused || !strings.Contains(report.Message, "claim cms/data: "+p.differs) || !strings.Contains(report.Message, "dropTargetWrites") {
		t.Fatalf("%+v", report)
	}
	p.isMoved()
	if len(p.snapshots) > 0 {
		t.Errorf("left: %v", p.snapshots)
	}
	p.differs = ""
	if again := p.ask(false, 1); !again.Refused {
		t.Errorf("the same wish is answered otherwise: %+v", again)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "web-0"}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	p.create(t, pod)
	if report := p.ask(false, 2); !report.Refused || !strings.Contains(report.Message, "pod cms/web-0 has claim data") {
		t.Fatalf("%+v", report)
	}
	p.isMoved()
	p.must(p.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
	for cut := 1; ; cut++ {
		p.agent.Client = &cutClient{Client: p.client, left: cut}
		if !p.cutShort(3) {
			break
		}
	}
	p.agent.Client = p.client
	if report := p.ask(false, 3); !report.Done || !strings.Contains(report.Message, "1 volumes are kept") {
		t.Errorf("%+v", report)
	}
	p.isBack(true)
}

// TestRollBackComparesFiles: what is on a volume of files is known too, with a snapshot
// of it or without.
func TestRollBackComparesFiles(t *testing.T) {
	p := handedOverAs(t, snapshot.Tree)
	p.differs = `1 entries differ, the first "books/new": it is new`
	if report := p.ask(false, 1); !report.Refused || !strings.Contains(report.Message, "claim cms/data: "+p.differs) || p.modes[csi.Block] || !p.modes[csi.Filesystem] || p.live {
		t.Fatalf("%+v, exposed as %v", report, p.modes)
	}
	p.isMoved()
	p.differs, p.unsnapshot = "", true
	if report := p.ask(false, 2); !report.Done || !p.live {
		t.Fatalf("%+v", report)
	}
	p.isBack(true)
}

// cutShort goes on with the rollback until the process is killed; false where it
// came to its end before.
func (p *played) cutShort(request int64) bool {
	p.t.Helper()
	c, ok := p.agent.Client.(*cutClient)
	if !ok {
		p.t.Fatal("nothing is cut")
	}
	for range 80 {
		report, err := p.target.RollBack(p.t.Context(), migrate.RollBack{RoundRef: p.round, Request: request})
		switch {
		case err == nil && report.Done:
			return false
		case c.left < 0:
			return true
		case err != nil:
			p.t.Fatal(err)
		}
		p.step()
	}
	p.t.Fatal("the rollback comes to no end")
	return false
}

// TestRollBackDropsWrites throws away what was written, also the objects' changes,
// and does not end as long as a pod has a volume.
func TestRollBackDropsWrites(t *testing.T) {
	p := handedOver(t)
	p.differs = "all of it differs"
	var web appsv1.Deployment
	p.must(p.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "web"}, &web))
	one := int32(1)
	web.Spec.Replicas = &one
	p.must(p.client.Update(t.Context(), &web))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "web-0"}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	p.create(t, pod)
	for range 12 {
		report, err := p.target.RollBack(t.Context(), migrate.RollBack{RoundRef: p.round, DropWrites: true, Request: 1})
		if err != nil || report.Done || report.Refused {
			t.Fatalf("%+v, %v: with a pod at the volume", report, err)
		}
		p.step()
	}
	if s := p.standby(); !meta.IsStatusConditionTrue(s.Status.Conditions, "RollingBack") || !strings.Contains(s.Status.Message, "pod cms/web-0 has claim data") {
		t.Errorf("%+v", s.Status)
	}
	p.must(p.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
	if report := p.ask(true, 1); !report.Done {
		t.Errorf("%+v", report)
	}
	p.isBack(false)
}

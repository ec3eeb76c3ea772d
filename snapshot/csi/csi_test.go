package csi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	groupv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumegroupsnapshot/v1"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/godwit-io/godwit/snapshot/csi"
)

const (
	home   = "godwit-system"
	driver = "disk.example.com"
)

var owner = csi.Owner{UID: "3f1c", Name: "cms/move"}

// cluster plays the parts of Kubernetes that a fake client lacks.
type cluster struct {
	client.Client
	t *testing.T
}

func newCluster(t *testing.T, funcs interceptor.Funcs, objs ...client.Object) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, snapshotv1.AddToScheme, groupv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(testrestmapper.TestOnlyStaticRESTMapper(scheme)).WithObjects(objs...).
		WithStatusSubresource(&corev1.Pod{}, &snapshotv1.VolumeSnapshot{}, &snapshotv1.VolumeSnapshotContent{}, &groupv1.VolumeGroupSnapshot{}).
		WithIndex(&corev1.Event{}, "involvedObject.uid", func(o client.Object) []string {
			e, ok := o.(*corev1.Event)
			if !ok {
				return nil
			}
			return []string{string(e.InvolvedObject.UID)}
		}).WithInterceptorFuncs(funcs).Build()
	return &cluster{c, t}
}

func (c *cluster) snapshots() *csi.Snapshots {
	return csi.New(c, c, csi.Config{Namespace: home, HolderImage: "godwit:test"})
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) get(namespace, name string, obj client.Object) {
	c.t.Helper()
	c.must(c.Get(c.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, obj))
}

// ready plays the snapshot-controller for one VolumeSnapshot.
func (c *cluster) ready(namespace, name string) {
	c.t.Helper()
	var vs snapshotv1.VolumeSnapshot
	c.get(namespace, name, &vs)
	content := &snapshotv1.VolumeSnapshotContent{}
	if bound := vs.Spec.Source.VolumeSnapshotContentName; bound != nil {
		c.get("", *bound, content)
	} else {
		handle := "volume-1"
		mode := corev1.PersistentVolumeFilesystem
		content = &snapshotv1.VolumeSnapshotContent{
			ObjectMeta: metav1.ObjectMeta{Name: "snapcontent-" + name, Annotations: map[string]string{
				"snapshot.storage.kubernetes.io/deletion-secret-name": "s", "other": "x"}},
			Spec: snapshotv1.VolumeSnapshotContentSpec{
				Driver: driver, DeletionPolicy: snapshotv1.VolumeSnapshotContentRetain,
				Source:                  snapshotv1.VolumeSnapshotContentSource{VolumeHandle: &handle},
				VolumeSnapshotClassName: vs.Spec.VolumeSnapshotClassName, SourceVolumeMode: &mode,
				VolumeSnapshotRef: corev1.ObjectReference{Namespace: namespace, Name: name, UID: vs.UID},
			},
		}
		c.must(c.Create(c.t.Context(), content))
	}
	handle := "snap-1"
	content.Status = &snapshotv1.VolumeSnapshotContentStatus{SnapshotHandle: &handle}
	c.must(c.Status().Update(c.t.Context(), content))
	yes, size, taken := true, resource.MustParse("3Gi"), metav1.NewTime(time.Unix(1700000000, 0))
	vs.Status = &snapshotv1.VolumeSnapshotStatus{
		BoundVolumeSnapshotContentName: &content.Name, ReadyToUse: &yes, RestoreSize: &size, CreationTime: &taken}
	c.must(c.Status().Update(c.t.Context(), &vs))
}

func (c *cluster) onlyPod(namespace string) *corev1.Pod {
	c.t.Helper()
	var pods corev1.PodList
	c.must(c.List(c.t.Context(), &pods, client.InNamespace(namespace), client.HasLabels{csi.LabelRole}))
	if len(pods.Items) != 1 {
		c.t.Fatalf("%d holder pods in %s, want 1", len(pods.Items), namespace)
	}
	return &pods.Items[0]
}

// run plays scheduler and kubelet.
func (c *cluster) run(pod *corev1.Pod, node string) {
	c.t.Helper()
	pod.Spec.NodeName, pod.UID = node, types.UID("uid-"+pod.Name)
	c.must(c.Update(c.t.Context(), pod))
	pod.Status.Phase = corev1.PodRunning
	c.must(c.Status().Update(c.t.Context(), pod))
}

func (c *cluster) count(list client.ObjectList, opts ...client.ListOption) int {
	c.t.Helper()
	c.must(c.List(c.t.Context(), list, opts...))
	return meta.LenList(list)
}

func claim(name string, edit func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	class := "disk"
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: name, UID: types.UID("claim-" + name)},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, VolumeName: "pv-" + name,
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceStorage: resource.MustParse("2Gi")}},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
	}
	if edit != nil {
		edit(pvc)
	}
	return pvc
}

func volume(name string, modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: modes,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "volume-1"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}}}}}},
		},
	}
}

func storageClass() *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "disk"}, Provisioner: driver}
}

func snapshotClass(name, driver string, isDefault bool) *snapshotv1.VolumeSnapshotClass {
	c := &snapshotv1.VolumeSnapshotClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Driver: driver,
		DeletionPolicy: snapshotv1.VolumeSnapshotContentRetain}
	if isDefault {
		c.Annotations = map[string]string{"snapshot.storage.kubernetes.io/is-default-class": "true"}
	}
	return c
}

func user(name, claim, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: name},
		Spec: corev1.PodSpec{NodeName: node, Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}},
	}
}

func TestCapability(t *testing.T) {
	noCRDs := interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, o ...client.ListOption) error {
		if _, ok := l.(*snapshotv1.VolumeSnapshotClassList); ok {
			return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: snapshotv1.GroupName, Kind: "VolumeSnapshotClass"}}
		}
		return c.List(ctx, l, o...)
	}}
	nfs := volume("data")
	nfs.Spec.CSI = nil
	many := func(p *corev1.PersistentVolumeClaim) {
		p.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	}
	for name, c := range map[string]struct {
		funcs      interceptor.Funcs
		edit       func(*corev1.PersistentVolumeClaim)
		objs       []client.Object
		want       csi.Capability
		wantReason string
		wantErr    string
	}{
		"default first": {objs: []client.Object{volume("data"), snapshotClass("a", driver, false), snapshotClass("b", driver, true)},
			want: csi.Capability{Driver: driver, SnapshotClass: "b", Blocks: true}},
		"first by name": {objs: []client.Object{volume("data"), snapshotClass("c", driver, false), snapshotClass("b", driver, false)},
			want: csi.Capability{Driver: driver, SnapshotClass: "b", Blocks: true}},
		"another driver's": {objs: []client.Object{volume("data"), snapshotClass("a", "x", true)},
			want: csi.Capability{Driver: driver, Blocks: true}, wantReason: "no VolumeSnapshotClass names driver disk.example.com"},
		"shared":  {edit: many, objs: []client.Object{volume("data"), snapshotClass("a", driver, true)}, want: csi.Capability{Driver: driver, SnapshotClass: "a"}},
		"no CRDs": {funcs: noCRDs, objs: []client.Object{volume("data")}, want: csi.Capability{Driver: driver, Blocks: true}, wantReason: "install the snapshot.storage.k8s.io CRDs"},
		"not CSI": {objs: []client.Object{nfs}, wantReason: "PersistentVolume pv-data is not of a CSI driver"},
		"pending": {edit: func(p *corev1.PersistentVolumeClaim) { p.Spec.VolumeName, p.Status.Phase = "", corev1.ClaimPending },
			wantErr: "PersistentVolumeClaim cms/data has no volume (phase Pending): see `kubectl describe pvc`"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t, c.funcs, c.objs...)
			got, err := k.snapshots().Capability(t.Context(), claim("data", c.edit))
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) || !csi.IsFinal(err) {
					t.Fatalf("error %v, want a final one with %q", err, c.wantErr)
				}
				return
			}
			if err != nil || !strings.Contains(got.Reason, c.wantReason) {
				t.Fatalf("%+v, %v, want reason %q", got, err, c.wantReason)
			}
			if got.Reason = ""; got != c.want {
				t.Fatalf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestSnapshotIsMadeOnceAndTold(t *testing.T) {
	k := newCluster(t, interceptor.Funcs{}, claim("data", nil), volume("data"))
	s := k.snapshots()
	r := csi.SnapshotRequest{Owner: owner, Name: "round-1-data", Namespace: "cms", Claim: "data"}
	if _, err := s.EnsureSnapshot(t.Context(), r); !csi.IsFinal(err) {
		t.Fatalf("without a class: %v, want a final error", err)
	}
	r.Class = "snap"
	for range 2 {
		state, err := s.EnsureSnapshot(t.Context(), r)
		if err != nil || state != (csi.SnapshotState{}) {
			t.Fatalf("%+v, %v, want an empty state", state, err)
		}
	}
	var vs snapshotv1.VolumeSnapshot
	k.get("cms", "round-1-data", &vs)
	message := "out of space"
	vs.Status = &snapshotv1.VolumeSnapshotStatus{Error: &snapshotv1.VolumeSnapshotError{Message: &message}}
	k.must(k.Status().Update(t.Context(), &vs))
	if state, err := s.EnsureSnapshot(t.Context(), r); err != nil || state.Err != message || state.Ready {
		t.Fatalf("%+v, %v, want the driver's error", state, err)
	}
	k.ready("cms", "round-1-data")
	want := csi.SnapshotState{Ready: true, Handle: "snap-1", ContentName: "snapcontent-round-1-data",
		Taken: time.Unix(1700000000, 0), RestoreSize: 3 << 30}
	state, err := s.EnsureSnapshot(t.Context(), r)
	if err != nil || !state.Taken.Equal(want.Taken) {
		t.Fatalf("%+v, %v, want %+v", state, err, want)
	}
	if state.Taken = want.Taken; state != want {
		t.Fatalf("%+v, want %+v", state, want)
	}
}

func TestAnothersSnapshotIsRefusedAndKept(t *testing.T) {
	theirs := &snapshotv1.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "snap"}}
	k := newCluster(t, interceptor.Funcs{}, theirs)
	_, err := k.snapshots().EnsureSnapshot(t.Context(), csi.SnapshotRequest{Owner: owner, Name: "snap", Namespace: "cms", Claim: "data", Class: "c"})
	if !csi.IsFinal(err) || !strings.Contains(err.Error(), "VolumeSnapshot cms/snap is there already and was not made for cms/move: delete or rename it") {
		t.Fatalf("error %v", err)
	}
	if done, err := k.snapshots().Release(t.Context(), owner); !done || err != nil {
		t.Fatalf("Release: %t, %v", done, err)
	}
	k.get("cms", "snap", theirs)
}

// TestAdopt gives a snapshot to another owner: the release of the first leaves it,
// that of the second takes it.
func TestAdopt(t *testing.T) {
	k := newCluster(t, interceptor.Funcs{}, claim("data", nil), volume("data"))
	other := csi.Owner{UID: "b00k", Name: "cms/cms"}
	name := types.NamespacedName{Namespace: "cms", Name: "s"}
	request := csi.SnapshotRequest{Owner: owner, Name: "s", Namespace: "cms", Claim: "data", Class: "c"}
	if _, err := k.snapshots().EnsureSnapshot(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	kept := csi.Kept{Namespace: "cms", Snapshot: "s"}
	for range 2 {
		k.must(k.snapshots().Adopt(t.Context(), kept, owner, other))
	}
	if err := k.snapshots().Adopt(t.Context(), kept, owner, csi.Owner{UID: "third", Name: "x"}); !csi.IsFinal(err) {
		t.Errorf("what is not the owner's any more was given away: %v", err)
	}
	if done, err := k.snapshots().Release(t.Context(), owner); err != nil || !done {
		t.Fatalf("%t, %v", done, err)
	}
	k.get(name.Namespace, name.Name, &snapshotv1.VolumeSnapshot{})
	for range 3 {
		if _, err := k.snapshots().Release(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Get(t.Context(), name, &snapshotv1.VolumeSnapshot{}); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("it was not released: %v", err)
	}
}

package csi_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/godwit-io/godwit/snapshot/csi"
)

// exposed brings a snapshot of claim data to the point where its holder runs.
func exposed(t *testing.T, k *cluster, mode csi.Mode) (csi.ExposureRequest, *corev1.Pod) {
	t.Helper()
	s := k.snapshots()
	_, err := s.EnsureSnapshot(t.Context(), csi.SnapshotRequest{Owner: owner, Name: "snap", Namespace: "cms", Claim: "data", Class: "class"})
	k.must(err)
	r := csi.ExposureRequest{Owner: owner, Name: "data", Namespace: "cms", Claim: "data", Mode: mode, Snapshot: "snap"}
	wait := func(text string) {
		t.Helper()
		m, err := s.EnsureExposure(t.Context(), r)
		if err != nil || m.Ready || !strings.Contains(m.Waiting, text) {
			t.Fatalf("%+v, %v, want to wait for %q", m, err, text)
		}
	}
	wait("VolumeSnapshot cms/snap to be ready")
	k.ready("cms", "snap")
	wait("VolumeSnapshot godwit-system/godwit-")
	var aliases snapshotv1.VolumeSnapshotList
	if n := k.count(&aliases, client.InNamespace(home)); n != 1 {
		t.Fatalf("%d alias snapshots", n)
	}
	k.ready(home, aliases.Items[0].Name)
	wait("pod godwit-system/godwit-")
	return r, k.onlyPod(home)
}

func bindClaim(k *cluster, name string) {
	var pvc corev1.PersistentVolumeClaim
	k.get(home, name, &pvc)
	pvc.Spec.VolumeName = "pv-exposed"
	k.must(k.Update(k.t.Context(), &pvc))
	pv := volume("exposed", corev1.ReadWriteOnce)
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: home, Name: name}
	k.must(k.Create(k.t.Context(), pv))
}

func TestSnapshotIsExposedAsBlocks(t *testing.T) {
	tainted := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{
		{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule},
	}}}
	k := newCluster(t, interceptor.Funcs{}, claim("data", nil), volume("data", corev1.ReadWriteOnce), storageClass(), tainted)
	r, pod := exposed(t, k, csi.Block)

	var content snapshotv1.VolumeSnapshotContent
	k.get("", pod.Name, &content)
	if content.Spec.DeletionPolicy != snapshotv1.VolumeSnapshotContentRetain || *content.Spec.Source.SnapshotHandle != "snap-1" ||
		content.Annotations["snapshot.storage.kubernetes.io/allow-volume-mode-change"] != "true" ||
		content.Annotations["snapshot.storage.kubernetes.io/deletion-secret-name"] != "s" || content.Annotations["other"] != "" ||
		*content.Spec.SourceVolumeMode != corev1.PersistentVolumeFilesystem {
		t.Fatalf("alias content %+v", content)
	}
	var pvc corev1.PersistentVolumeClaim
	k.get(home, pod.Name, &pvc)
	if *pvc.Spec.VolumeMode != corev1.PersistentVolumeBlock || *pvc.Spec.StorageClassName != "disk" ||
		pvc.Spec.Resources.Requests.Storage().Value() != 3<<30 || pvc.Spec.DataSource.Name != pod.Name {
		t.Fatalf("claim %+v", pvc.Spec)
	}
	if len(pod.Spec.Containers[0].VolumeDevices) != 1 || !pod.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly ||
		*pod.Spec.AutomountServiceAccountToken || !*pod.Spec.SecurityContext.RunAsNonRoot || pod.Spec.SecurityContext.FSGroup != nil {
		t.Fatalf("pod %+v", pod.Spec)
	}
	keys := []string{}
	for _, tol := range pod.Spec.Tolerations {
		keys = append(keys, tol.Key)
	}
	if !slices.Contains(keys, "dedicated") || slices.Contains(keys, corev1.TaintNodeUnschedulable) {
		t.Fatalf("tolerations %v", keys)
	}
	if near := pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(near) != 1 {
		t.Fatalf("affinity %+v", pod.Spec.Affinity)
	}
	bindClaim(k, pod.Name)
	k.run(pod, "n1")
	m, err := k.snapshots().EnsureExposure(t.Context(), r)
	want := csi.Mounted{Ready: true, Node: "n1", PodUID: pod.UID, PersistentVolume: "pv-exposed", Mode: csi.Block}
	if err != nil || m != want {
		t.Fatalf("%+v, %v, want %+v", m, err, want)
	}
	if n := k.count(&corev1.PersistentVolumeClaimList{}, client.InNamespace("cms")) + k.count(&corev1.PodList{}, client.InNamespace("cms")); n != 1 {
		t.Fatalf("%d claims and pods in the application's namespace, want only its own claim", n)
	}
}

func TestStorageWithoutBlocksIsRecognized(t *testing.T) {
	k := newCluster(t, interceptor.Funcs{}, claim("data", nil), volume("data", corev1.ReadWriteOnce), storageClass())
	r, pod := exposed(t, k, csi.Block)
	var pvc corev1.PersistentVolumeClaim
	k.get(home, pod.Name, &pvc)
	pvc.UID = "temporary"
	k.must(k.Update(t.Context(), &pvc))
	k.must(k.Create(t.Context(), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "e"}, Type: corev1.EventTypeWarning, Reason: "ProvisioningFailed",
		InvolvedObject: corev1.ObjectReference{UID: "temporary"},
		Message:        "failed to provision: rpc error: code = InvalidArgument desc = block volumes are not supported",
	}))
	if _, err := k.snapshots().EnsureExposure(t.Context(), r); !errors.Is(err, csi.ErrNoBlocks) || !csi.IsFinal(err) {
		t.Fatalf("error %v, want ErrNoBlocks", err)
	}
}

func TestExposureSaysWhatItWaitsFor(t *testing.T) {
	k := newCluster(t, interceptor.Funcs{}, claim("data", nil), volume("data", corev1.ReadWriteOnce), storageClass())
	r, pod := exposed(t, k, csi.Filesystem)
	pod.UID = "pod"
	k.must(k.Update(t.Context(), pod))
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"}}
	k.must(k.Status().Update(t.Context(), pod))
	m, err := k.snapshots().EnsureExposure(t.Context(), r)
	if err != nil || !strings.HasSuffix(m.Waiting, "to run: 0/3 nodes are available") {
		t.Fatalf("%+v, %v", m, err)
	}
	pod.Spec.NodeName = "n1"
	k.must(k.Update(t.Context(), pod))
	k.must(k.Create(t.Context(), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "e"}, Type: corev1.EventTypeWarning, Reason: "FailedMount",
		InvolvedObject: corev1.ObjectReference{UID: "pod"}, Message: "wrong fs type",
	}))
	if m, err = k.snapshots().EnsureExposure(t.Context(), r); err != nil || !strings.HasSuffix(m.Waiting, "FailedMount: wrong fs type") {
		t.Fatalf("%+v, %v", m, err)
	}
}

func TestEvictedHolderIsReplaced(t *testing.T) {
	k := newCluster(t, interceptor.Funcs{}, claim("data", nil), volume("data", corev1.ReadWriteOnce), storageClass())
	r, pod := exposed(t, k, csi.Block)
	bindClaim(k, pod.Name)
	pod.Status.Phase, pod.Status.Reason = corev1.PodFailed, "Evicted"
	k.must(k.Status().Update(t.Context(), pod))
	m, err := k.snapshots().EnsureExposure(t.Context(), r)
	if err != nil || m.Ready || !strings.Contains(m.Waiting, "to be replaced, which ended: Evicted") {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err = k.snapshots().EnsureExposure(t.Context(), r); err != nil || m.Ready {
		t.Fatalf("%+v, %v", m, err)
	}
	if again := k.onlyPod(home); again.Status.Phase != "" {
		t.Fatalf("pod is %s, want a new one", again.Status.Phase)
	}
}

func TestLiveExposure(t *testing.T) {
	once, pod := corev1.ReadWriteOnce, corev1.ReadWriteOncePod
	block := corev1.PersistentVolumeBlock
	attachment := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Spec:   storagev1.VolumeAttachmentSpec{NodeName: "n2", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new(string)}},
		Status: storagev1.VolumeAttachmentStatus{Attached: true}}
	*attachment.Spec.Source.PersistentVolumeName = "pv-data"
	for name, c := range map[string]struct {
		mode     csi.Mode
		edit     func(*corev1.PersistentVolumeClaim)
		objs     []client.Object
		node     string
		waiting  string
		final    string
		anywhere bool
	}{
		"unused":         {objs: []client.Object{volume("data", once)}, anywhere: true},
		"shared":         {objs: []client.Object{volume("data", corev1.ReadWriteMany), user("app", "data", "n1")}, anywhere: true},
		"beside a user":  {objs: []client.Object{volume("data", once), user("a", "data", ""), user("b", "data", "n1")}, node: "n1"},
		"where attached": {objs: []client.Object{volume("data", once), attachment, user("app", "data", "n1")}, node: "n2"},
		"unscheduled":    {objs: []client.Object{volume("data", once), user("app", "data", "")}, waiting: "pod cms/app to be scheduled"},
		"one pod only":   {objs: []client.Object{volume("data", pod), user("app", "data", "n1")}, final: "is ReadWriteOncePod and pod app has it: scale its workload to zero"},
		"as blocks":      {mode: csi.Block, objs: []client.Object{volume("data", once)}, final: "blocks that change while they are read make no volume"},
		"raw block":      {edit: func(p *corev1.PersistentVolumeClaim) { p.Spec.VolumeMode = &block }, final: "holds no files that could be mounted: move it as blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t, interceptor.Funcs{}, append(c.objs, claim("data", c.edit))...)
			r := csi.ExposureRequest{Owner: owner, Name: "data", Namespace: "cms", Claim: "data", Mode: csi.Filesystem}
			if c.mode != "" {
				r.Mode = c.mode
			}
			m, err := k.snapshots().EnsureExposure(t.Context(), r)
			switch {
			case c.final != "":
				if !csi.IsFinal(err) || !strings.Contains(err.Error(), c.final) {
					t.Fatalf("error %v, want %q", err, c.final)
				}
				return
			case err != nil || !strings.Contains(m.Waiting, c.waiting):
				t.Fatalf("%+v, %v", m, err)
			case c.waiting != "":
				return
			}
			holder := k.onlyPod("cms")
			if !holder.Spec.Containers[0].VolumeMounts[0].ReadOnly || !holder.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly {
				t.Fatal("the live volume is not mounted read-only")
			}
			if c.anywhere {
				if holder.Spec.Affinity != nil {
					t.Fatalf("affinity %+v, want none", holder.Spec.Affinity)
				}
				return
			}
			terms := holder.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
			if got := terms[0].MatchFields[0].Values[0]; got != c.node || holder.Spec.NodeName != "" {
				t.Fatalf("node %q, want %q", got, c.node)
			}
		})
	}
}

func TestHold(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	standby := claim("standby", func(p *corev1.PersistentVolumeClaim) { p.Spec.VolumeMode = &block })
	busy := user("app", "standby", "n1")
	k := newCluster(t, interceptor.Funcs{}, standby, busy)
	s := k.snapshots()
	r := csi.HoldRequest{Owner: owner, Name: "standby", Namespace: "cms", Claim: "standby", Mode: csi.Filesystem}
	if _, err := s.EnsureHold(t.Context(), r); !csi.IsFinal(err) {
		t.Fatalf("wrong mode: %v, want a final error", err)
	}
	r.Mode = csi.Block
	if m, err := s.EnsureHold(t.Context(), r); err != nil || !strings.Contains(m.Waiting, "pod cms/app to end, which uses claim standby") {
		t.Fatalf("%+v, %v, want to wait for the user", m, err)
	}
	k.must(k.Delete(t.Context(), busy))
	_, err := s.EnsureHold(t.Context(), r)
	k.must(err)
	pod := k.onlyPod("cms")
	if pod.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly {
		t.Fatal("a volume that is to be written is held read-only")
	}
	k.run(pod, "n1")
	if m, err := s.EnsureHold(t.Context(), r); err != nil || !m.Ready || m.PersistentVolume != "pv-standby" {
		t.Fatalf("%+v, %v", m, err)
	}
	readOnly := r
	readOnly.ReadOnly = true
	if m, err := s.EnsureHold(t.Context(), readOnly); err != nil || m.Ready {
		t.Fatalf("%+v, %v: a holder for writing was taken for one that reads", m, err)
	}
	pv := "pv-standby"
	attached := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: storagev1.VolumeAttachmentSpec{
		Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv}}}
	k.must(k.Create(t.Context(), attached))
	for range 2 {
		if done, err := s.DropHold(t.Context(), r); done || err != nil {
			t.Fatalf("%t, %v: done while the volume is attached", done, err)
		}
	}
	k.must(k.Delete(t.Context(), attached))
	if done, err := s.DropHold(t.Context(), r); !done || err != nil {
		t.Fatalf("%t, %v, want done", done, err)
	}
}

func TestReleaseTakesAllOfTheOwnerAndNothingElse(t *testing.T) {
	standby := claim("standby", func(p *corev1.PersistentVolumeClaim) {
		p.Namespace = home
		p.Labels = map[string]string{csi.LabelOwner: string(owner.UID), csi.LabelManagedBy: "godwit"}
	})
	k := newCluster(t, interceptor.Funcs{}, claim("data", nil), volume("data", corev1.ReadWriteOnce), storageClass(), standby)
	_, pod := exposed(t, k, csi.Block)
	bindClaim(k, pod.Name)
	s := k.snapshots()
	_, err := s.EnsureSnapshot(t.Context(), csi.SnapshotRequest{Owner: csi.Owner{UID: "other"}, Name: "other", Namespace: "cms", Claim: "data", Class: "class"})
	k.must(err)

	// Nobody removes the volume by itself here, so that the release must wait for it.
	var order []string
	for i := 0; ; i++ {
		if i == 20 {
			t.Fatal("the exposures are not gone after 20 rounds")
		}
		done, err := s.ReleaseExposures(t.Context(), owner)
		k.must(err)
		if done {
			break
		}
		var pv corev1.PersistentVolume
		if err := k.Get(t.Context(), types.NamespacedName{Name: "pv-exposed"}, &pv); err == nil && pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			order = append(order, "volume")
			if k.count(&corev1.PersistentVolumeClaimList{}, client.HasLabels{csi.LabelRole}) != 0 || k.count(&snapshotv1.VolumeSnapshotList{}, client.InNamespace(home)) != 1 {
				t.Fatal("the volume went before its claim, or after the snapshot that it is made from")
			}
			k.must(k.Delete(t.Context(), &pv))
		}
	}
	if len(order) != 1 {
		t.Fatal("a retained temporary volume was left")
	}
	var vs snapshotv1.VolumeSnapshot
	k.get("cms", "snap", &vs)
	for i := 0; ; i++ {
		if i == 20 {
			t.Fatal("the snapshots are not gone after 20 rounds")
		}
		if done, err := s.Release(t.Context(), owner); err != nil {
			t.Fatal(err)
		} else if done {
			break
		}
	}
	left := k.count(&snapshotv1.VolumeSnapshotContentList{}) + k.count(&corev1.PodList{})
	if left != 0 {
		t.Fatalf("%d contents and pods are left", left)
	}
	k.get("cms", "other", &vs)
	k.get(home, "standby", standby)
	k.get("", "pv-data", &corev1.PersistentVolume{})
	if owners, err := s.Owners(t.Context()); err != nil || !slices.Equal(owners, []types.UID{"other"}) {
		t.Fatalf("owners %v, %v", owners, err)
	}
}

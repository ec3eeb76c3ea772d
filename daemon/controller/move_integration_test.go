package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

const (
	retained     = "Retained"
	movedBy      = "godwit.io/moved"
	policyBefore = "godwit.io/reclaim-policy-before-move"
)

// bind has a claim's volume say that it is bound to it, and where its storage is.
func (r *rig) bind(name string, source corev1.PersistentVolumeSource) *corev1.PersistentVolume {
	r.t.Helper()
	class, size := "shared", resource.MustParse("1Gi")
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name, Labels: map[string]string{"kind": "shared"}}}
	pvc.Spec.AccessModes, pvc.Spec.StorageClassName = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, &class
	pvc.Spec.VolumeName = "pv-" + r.ns + "-" + name
	pvc.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: size}
	r.must(r.client.Create(r.t.Context(), pvc))
	pvc.Status.Phase, pvc.Status.Capacity = corev1.ClaimBound, pvc.Spec.Resources.Requests
	r.must(r.client.Status().Update(r.t.Context(), pvc))
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: pvc.Spec.VolumeName}}
	pv.Spec.AccessModes, pv.Spec.Capacity, pv.Spec.StorageClassName = pvc.Spec.AccessModes, pvc.Status.Capacity, class
	pv.Spec.PersistentVolumeSource, pv.Spec.PersistentVolumeReclaimPolicy = source, corev1.PersistentVolumeReclaimDelete
	pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: r.ns, Name: name, UID: pvc.UID}
	r.must(r.client.Create(r.t.Context(), pv))
	return pv
}

func exported(path string) corev1.PersistentVolumeSource {
	return corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "files.example.com", Path: path}}
}

func (r *rig) volumeOf(name string) *corev1.PersistentVolume {
	r.t.Helper()
	var pv corev1.PersistentVolume
	r.must(r.client.Get(r.t.Context(), types.NamespacedName{Name: "pv-" + r.ns + "-" + name}, &pv))
	return &pv
}

// asBefore fails unless the volume is as it was before it was moved.
func (r *rig) asBefore(name string) {
	r.t.Helper()
	pv := r.volumeOf(name)
	if pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete || pv.Annotations[movedBy] != "" || pv.Annotations[policyBefore] != "" {
		r.t.Errorf("volume %s has policy %s and annotations %v", pv.Name, pv.Spec.PersistentVolumeReclaimPolicy, pv.Annotations)
	}
}

// handing is a Migration that stops the application and hands its shared volumes over.
func (r *rig) handing() func(*api.MigrationSpec) {
	admin := r.adminPair("admin", "west", true)
	return func(s *api.MigrationSpec) {
		quiesced(s)
		s.AdminClusterPair = admin.Name
		s.Volumes = []api.VolumeRule{{Labels: map[string]string{"kind": "shared"}, Action: api.VolumeMove}}
	}
}

// TestMove hands one volume over and copies another: nothing of the first is read,
// it is retained before the target hears of it, and stays so when all went well.
func TestMove(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	before := r.bind("files", exported("/cms"))
	pod := r.workloads("files")
	r.migration("move", r.handing())
	r.until("move", "waiting for the pod", func(m *api.Migration) bool {
		c := ready(m)
		return strings.Contains(c.Message, "waiting for pod "+r.ns+"/db-0 to end")
	})
	attached := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "csi-" + r.ns}}
	attached.Spec.Attacher, attached.Spec.NodeName, attached.Spec.Source.PersistentVolumeName = "d", "n1", &before.Name
	r.must(r.client.Create(t.Context(), attached))
	r.must(r.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
	r.until("move", "waiting for the node", func(m *api.Migration) bool {
		c := ready(m)
		return strings.Contains(c.Message, "volume "+before.Name+" is attached to node n1")
	}, r.carryOut("move"))
	if pv := r.volumeOf("files"); pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete || len(r.target.begun) > 0 {
		t.Fatalf("it went on while a node had the volume: %+v", pv.Spec)
	}
	r.must(r.client.Delete(t.Context(), attached))
	m := r.until("move", "retained", is(retained), r.carryOut("move"))
	pv := r.volumeOf("files")
	if pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain || pv.Annotations[policyBefore] != "Delete" || pv.Annotations[movedBy] != m.Status.Round {
		t.Errorf("the volume is not retained: %+v %v", pv.Spec, pv.Annotations)
	}
	if len(r.target.begun) > 0 {
		t.Error("the target was told before the volume was retained")
	}
	r.target.firstReady = r.now
	m = r.until("move", "its end", ended, r.carryOut("move"))
	r.movedAndCopied(m)
	if pv := r.volumeOf("files"); pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
		t.Errorf("the source's claim would delete what the target has: %+v", pv.Spec)
	}
}

func (r *rig) movedAndCopied(m *api.Migration) {
	r.t.Helper()
	if m.Status.Status != api.MigrationStatusSuccessful || len(m.Status.Volumes) != 2 || len(r.transfersOf(m)) > 0 {
		r.t.Fatalf("%+v", m.Status)
	}
	for _, v := range m.Status.Volumes {
		if files := v.PersistentVolumeClaim == "files"; files != (v.Action == api.VolumeMove) || files != (v.Image == "") || files != (v.BytesTotal == 0) ||
			files != strings.Contains(v.MethodReason, "nfs files.example.com:/cms") {
			r.t.Errorf("%+v", v)
		}
	}
	sealed, err := r.repository.Sealed(r.t.Context(), m.Status.Application, m.Status.Round)
	r.must(err)
	if strings.Contains(string(sealed.Statement), `"files"`) || !strings.Contains(string(sealed.Objects), "name: files") {
		r.t.Errorf("the round has an image of what was not copied, or lacks its claim: %s", sealed.Statement)
	}
	var told corev1.PersistentVolumeSpec
	for _, c := range r.target.begun[0].Volumes {
		if c.Name == "data" && len(c.Moved) > 0 {
			r.t.Errorf("claim %s is copied, and the target is handed %s", c.Name, c.Moved)
		}
		if c.Name == "files" {
			r.must(json.Unmarshal(c.Moved, &told))
		}
	}
	if told.NFS == nil || told.NFS.Path != "/cms" || told.ClaimRef != nil || told.PersistentVolumeReclaimPolicy != "" {
		r.t.Errorf("the target was told %+v", told)
	}
	if v := r.target.vouched; len(v) != 1 || len(v[0].Moved) != 1 || v[0].Moved[0].Name != "files" {
		r.t.Errorf("vouched: %+v", v)
	}
	for i, asked := range r.target.asked {
		for _, c := range asked.Volumes {
			if (i == 0) != (c.Name == "data") {
				r.t.Errorf("question %d is about claim %s", i, c.Name)
			}
		}
	}
}

// TestMoveRefused names what cannot be handed over before anything is done.
func TestMoveRefused(t *testing.T) {
	r := newRig(t)
	handing := r.handing()
	r.bind("files", exported("/cms"))
	r.bind("host", corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}})
	r.claim("foreign") // Its volume says nothing of the claim.
	r.workloads("files")
	yes := true
	larger := resource.MustParse("2Gi")
	only := func(name string, more func(*api.MigrationSpec)) func(*api.MigrationSpec) {
		return func(s *api.MigrationSpec) {
			handing(s)
			s.Volumes = []api.VolumeRule{{Name: name, Action: api.VolumeMove}, {Name: "*", Action: api.VolumeSkip}}
			if more != nil {
				more(s)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*api.MigrationSpec)
		says   string
	}{
		"in-use":    {only("files", func(s *api.MigrationSpec) { s.Quiesce = nil }), "pod " + r.ns + "/db-0 has claim files, and two clusters must not use it at once: set spec.quiesce"},
		"no-admin":  {only("files", func(s *api.MigrationSpec) { s.AdminClusterPair = "" }), "only an admin pair brings one: name one in spec.adminClusterPair"},
		"activates": {only("files", func(s *api.MigrationSpec) { s.Activate = &yes }), "leave activate out"},
		"larger":    {only("files", func(s *api.MigrationSpec) { s.Volumes[0].Size = &larger }), "a moved volume stays as it is"},
		"host":      {only("host", nil), "kind hostPath"},
		"foreign":   {only("foreign", nil), "is not bound to this claim"},
	} {
		r.migration(name, c.change)
		m := r.until(name, "its end", ended)
		if m.Status.Status != api.MigrationStatusFailed || ready(m).Reason != "VolumeNotMovable" || !strings.Contains(ready(m).Message, c.says) {
			t.Errorf("%s: %s %+v", name, m.Status.Status, ready(m))
		}
	}
	if len(r.target.begun)+len(r.target.asked) > 0 {
		t.Error("the target was asked")
	}
	r.asBefore("files")
}

// TestMoveWithoutQuiesce goes on where nothing has the volume, and ends where
// something takes it meanwhile.
func TestMoveWithoutQuiesce(t *testing.T) {
	r := newRig(t)
	handing := r.handing()
	r.bind("files", exported("/cms"))
	r.migration("move", func(s *api.MigrationSpec) { handing(s); s.Quiesce = nil })
	r.until("move", "asked", is(checked))
	pod := r.workloads("files")
	m := r.until("move", "its end", ended)
	if m.Status.Status != api.MigrationStatusFailed || ready(m).Reason != "VolumeInUse" || len(r.target.begun) > 0 {
		t.Fatalf("%+v", m.Status)
	}
	r.asBefore("files")
	r.must(r.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
	r.migration("again", func(s *api.MigrationSpec) { handing(s); s.Quiesce = nil })
	if m := r.until("again", "its end", ended); m.Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("%+v", m.Status)
	}
}

// TestMoveStages leaves what is handed over out of stage runs, and copies the rest.
func TestMoveStages(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.bind("files", exported("/cms"))
	handing := r.handing()
	yes := true
	r.migration("stage", func(s *api.MigrationSpec) {
		handing(s)
		s.Quiesce, s.Stage = nil, &yes
	})
	m := r.until("stage", "its end", ended, r.carryOut("stage"))
	if m.Status.Status != api.MigrationStatusSuccessful || len(m.Status.Volumes) != 1 || m.Status.Volumes[0].PersistentVolumeClaim != "data" {
		t.Errorf("%+v", m.Status)
	}
	r.asBefore("files")
}

// TestMoveUndone gives the policy back and starts the source after the target has let
// go, whatever undid the Migration.
func TestMoveUndone(t *testing.T) {
	for name, undo := range map[string]func(*rig){
		"cancelled": func(r *rig) {
			r.target.phase = migrate.TargetVolumes
			r.until("move", "begun", is(begun))
			yes := true
			m := r.get("move")
			m.Spec.Cancel = &yes
			r.must(r.client.Update(r.t.Context(), m))
			r.until("move", "its end", ended)
		},
		"failed": func(r *rig) {
			r.target.phase = migrate.TargetFailed
			r.until("move", "its end", ended)
		},
		"rolled back": func(r *rig) {
			r.until("move", "its end", ended)
			r.rollback("move", false)
			r.until("move", "rolled back", func(m *api.Migration) bool { return m.Status.Status == api.MigrationStatusRolledBack })
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.bind("files", exported("/cms"))
			r.must(r.client.Delete(t.Context(), r.workloads("files"), client.GracePeriodSeconds(0)))
			before := r.state()
			r.target.firstReady = r.now
			r.migration("move", r.handing())
			r.until("move", "retained", is(retained))
			undo(r)
			for range 8 {
				r.step("move")
			}
			r.asBefore("files")
			same(t, name, r.state(), before)
			if m := r.get("move"); m.Status.Volumes[0].ReclaimPolicy != "" || is(retained)(m) {
				t.Errorf("%+v", m.Status.Volumes)
			}
		})
	}
}

// TestMoveUnclear starts nothing beside a target that may have the volume.
func TestMoveUnclear(t *testing.T) {
	r := newRig(t)
	r.bind("files", exported("/cms"))
	r.must(r.client.Delete(t.Context(), r.workloads("files"), client.GracePeriodSeconds(0)))
	r.target.phase = migrate.TargetVolumes
	r.migration("move", r.handing())
	r.until("move", "begun", is(begun))
	stopped := r.state()
	r.must(r.client.Delete(t.Context(), &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "west"}}))
	r.must(r.client.Delete(t.Context(), r.get("move")))
	gone := func() bool {
		return client.IgnoreNotFound(r.client.Get(t.Context(), types.NamespacedName{Namespace: r.ns, Name: "move"}, &api.Migration{})) == nil &&
			r.client.Get(t.Context(), types.NamespacedName{Namespace: r.ns, Name: "move"}, &api.Migration{}) != nil
	}
	for range 20 {
		if gone() {
			break
		}
		r.step("move")
	}
	if !gone() {
		t.Fatalf("%+v", r.get("move").Status)
	}
	same(t, "unclear", r.state(), stopped)
	if pv := r.volumeOf("files"); pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
		t.Errorf("%+v", pv.Spec)
	}
}

var errCut = errors.New("the process was killed here")

// cutClient lets only so many writes through.
type cutClient struct {
	client.Client
	left int
}

func (c *cutClient) cut() error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return nil
}

func (c *cutClient) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	if err := c.cut(); err != nil {
		return err
	}
	return c.Client.Patch(ctx, o, p, opts...)
}

func (c *cutClient) Status() client.SubResourceWriter { return cutStatus{c.Client.Status(), c} }

type cutStatus struct {
	client.SubResourceWriter
	c *cutClient
}

func (s cutStatus) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
	if err := s.c.cut(); err != nil {
		return err
	}
	return s.SubResourceWriter.Patch(ctx, o, p, opts...)
}

// TestMoveKilledAnywhere kills the controller at each of its writes, there and back:
// the target is never told of a volume that is not retained, and the policy of before
// is never forgotten.
func TestMoveKilledAnywhere(t *testing.T) {
	for _, undone := range []bool{false, true} {
		killed := true
		for most := 0; killed; most++ {
			killed = killAfter(t, undone, most)
		}
	}
}

// killAfter lets so many writes through after the preflight, and reports whether the
// controller was killed at all.
func killAfter(t *testing.T, undone bool, most int) bool {
	t.Helper()
	r := newRig(t)
	r.bind("files", exported("/cms"))
	r.target.firstReady = r.now
	if undone {
		r.target.phase = migrate.TargetFailed
	}
	r.migration("move", r.handing())
	r.until("move", "asked", is(checked))
	cut := &cutClient{Client: r.client, left: most}
	r.migrations.Client = cut
	killed := false
	for range 40 {
		_, err := r.migrations.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: r.ns, Name: "move"}})
		if err != nil && !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		if errors.Is(err, errCut) {
			killed, cut.left = true, 1<<20
		}
		volume := r.volumeOf("files")
		if len(r.target.rounds) > 0 && volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
			t.Fatalf("after %d writes the target has a volume that is not retained", most)
		}
		if m := r.get("move"); ended(m) && (!undone || m.Status.Volumes[0].ReclaimPolicy == "") {
			break
		}
	}
	if undone {
		r.asBefore("files")
	} else if pv := r.volumeOf("files"); pv.Annotations[policyBefore] != "Delete" || r.get("move").Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("after %d writes: %v, %s", most, pv.Annotations, r.get("move").Status.Status)
	}
	return killed
}

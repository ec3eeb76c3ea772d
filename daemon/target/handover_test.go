package target

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot/csi"
)

const handle = "the-only-copy"

// released is a Holds whose holders are gone.
type released struct{}

func (released) EnsureHold(context.Context, csi.HoldRequest) (csi.Mounted, error) {
	return csi.Mounted{}, errors.New("nothing is held during a hand-over")
}
func (released) DropHold(context.Context, csi.HoldRequest) (bool, error) { return true, nil }

var errKilled = errors.New("killed")

// cluster is a fake one that lets only so many writes through.
type cluster struct {
	client.Client
	writes, most int
}

func newCluster(t *testing.T, most int, objects ...client.Object) *cluster {
	t.Helper()
	scheme := schemeOfFakes(t)
	c := &cluster{most: most}
	write := func(do func() error) error {
		if c.writes >= c.most {
			return errKilled
		}
		c.writes++
		return do()
	}
	c.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return write(func() error { return w.Create(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return write(func() error { return w.Delete(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, w client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return write(func() error { return w.Patch(ctx, o, p, opts...) })
		},
	}).Build()
	return c
}

// standby is one volume that holds its image and is still in Godwit's hands.
func standby(t *testing.T) (*api.Standby, []client.Object) {
	t.Helper()
	s := &api.Standby{ObjectMeta: metav1.ObjectMeta{Name: "cms-m", Namespace: "godwit-system", UID: "u1"}}
	s.Spec.Volumes = []api.StandbyClaim{{
		Namespace: "cms", Name: "data", VolumeMode: "Filesystem", AccessModes: []string{"ReadWriteOnce"}, SourceVolume: "pvc-of-the-source",
	}}
	s.Status.Volumes = []api.StandbyVolume{{Namespace: "cms", Name: "data", Wants: "i1", Image: "i1", Kind: "Block", Filesystem: "ext4"}}
	x := &run{Agent: &Agent{Namespace: "godwit-system"}, s: s}
	block := corev1.PersistentVolumeBlock
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-of-the-standby"}}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: handle}
	pv.Spec.VolumeMode, pv.Spec.PersistentVolumeReclaimPolicy = &block, corev1.PersistentVolumeReclaimDelete
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "godwit-system", Name: x.nameFor(&s.Status.Volumes[0]), Labels: x.labels()}}
	pvc.Spec.VolumeName = pv.Name
	return s, []client.Object{pv, pvc}
}

// safe fails unless the storage has an owner that would not delete it.
func safe(ctx context.Context, c client.Client) error {
	var volumes corev1.PersistentVolumeList
	var claims corev1.PersistentVolumeClaimList
	if err := errors.Join(c.List(ctx, &volumes), c.List(ctx, &claims)); err != nil {
		return err
	}
	held := map[string]bool{}
	for _, pvc := range claims.Items {
		held[pvc.Spec.VolumeName] = true
	}
	owned := false
	for _, pv := range volumes.Items {
		retained := pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRetain
		if !retained && !held[pv.Name] {
			return fmt.Errorf("volume %s would delete the storage: no claim holds it, and its policy is %s", pv.Name, pv.Spec.PersistentVolumeReclaimPolicy)
		}
		owned = owned || pv.Spec.CSI.VolumeHandle == handle
	}
	if !owned {
		return errors.New("no volume knows the storage any more")
	}
	return nil
}

// TestHandOverKilledAnywhere kills the hand-over after each of its writes: the
// storage is never unowned, and the next attempt ends it.
func TestHandOverKilledAnywhere(t *testing.T) {
	t.Parallel()
	killed := 0
	for most := range 8 {
		s, objects := standby(t)
		c := newCluster(t, most, objects...)
		agent := &Agent{Client: c, Live: c, Holds: released{}, Namespace: "godwit-system", Now: time.Now}
		x := &run{Agent: agent, s: s, before: s.DeepCopy()}
		for attempt := 0; !s.Status.Volumes[0].HandedOver; attempt++ {
			err := x.handOver(t.Context())
			if err != nil && !errors.Is(err, errKilled) || attempt > 5 {
				t.Fatalf("after %d writes, attempt %d: %v", most, attempt, err)
			}
			if err := safe(t.Context(), c); err != nil {
				t.Fatalf("after %d writes: %v", most, err)
			}
			if err != nil {
				killed++
				c.most = 1 << 20
			}
		}
		var made corev1.PersistentVolume
		if err := c.Get(t.Context(), client.ObjectKey{Name: "pvc-of-the-source"}, &made); err != nil {
			t.Fatalf("after %d writes: %v", most, err)
		}
		var all corev1.PersistentVolumeList
		if err := c.List(t.Context(), &all); err != nil || len(all.Items) != 1 {
			t.Errorf("after %d writes %d volumes have the storage, want one: %v", most, len(all.Items), err)
		}
		ref := made.Spec.ClaimRef
		if *made.Spec.VolumeMode != corev1.PersistentVolumeFilesystem || made.Spec.CSI.FSType != "ext4" || ref.Namespace != "cms" || ref.Name != "data" || ref.UID != "" {
			t.Errorf("after %d writes the application's volume is %+v", most, made.Spec)
		}
		if made.Annotations[annotationReclaim] != string(corev1.PersistentVolumeReclaimDelete) {
			t.Errorf("after %d writes nobody remembers the reclaim policy: %v", most, made.Annotations)
		}
	}
	if killed < 4 {
		t.Errorf("it was killed %d times only: at the policy, the volume, and the end of claim and volume", killed)
	}
}

// TestHandOverLeavesForeignVolumes shows that a name that is taken is not taken over.
func TestHandOverLeavesForeignVolumes(t *testing.T) {
	t.Parallel()
	s, objects := standby(t)
	foreign := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-of-the-source", Labels: map[string]string{"whose": "somebody's"}}}
	c := newCluster(t, 100, append(objects, foreign)...)
	x := &run{Agent: &Agent{Client: c, Live: c, Holds: released{}, Namespace: "godwit-system", Now: time.Now}, s: s, before: s.DeepCopy()}
	for range 3 {
		if err := x.handOver(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if v := s.Status.Volumes[0]; !v.HandedOver || v.Volume == foreign.Name {
		t.Errorf("the volume is %+v", v)
	}
}

package target

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// annotationAdopted marks volumes whose storage was the application's here before it
// moved away: it is never deleted with what Godwit made.
const annotationAdopted = "godwit.io/adopted"

// leftBehind are the claims that an application had on this cluster in the rounds
// that this cluster sealed of it, where the peer has the application now. They are
// nobody's but the copy's: an activation superseded them. It is nil otherwise.
func (a *Agent) leftBehind(ctx context.Context, p pairing.Peer, application string) (map[types.NamespacedName]bool, error) {
	own, err := pairing.TwinOf(ctx, a.Peers, p)
	if errors.Is(err, pairing.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	claims := map[types.NamespacedName]bool{}
	err = a.inRepository(ctx, p, func(r snapshot.Repository) error {
		e, err := epochIn(ctx, r, p, application)
		if err != nil || e.Cluster != p.ClusterID {
			return err
		}
		rounds, err := r.Recoverable(ctx, application)
		if err != nil {
			return err
		}
		for _, sealed := range rounds {
			if cluster, _ := sealed.Says(); cluster != a.ClusterID {
				continue
			}
			point, err := sealed.Read(own)
			if err != nil || point.App != application || point.Cluster != a.ClusterID {
				continue // It is not ours, whatever it says.
			}
			for _, image := range point.Images {
				claims[types.NamespacedName{Namespace: image.Volume.Namespace, Name: image.Volume.Name}] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find what %s left behind on this cluster: %w", application, err)
	}
	return claims, nil
}

// lookForOwn marks a volume that the application has a claim of here, from before it
// moved away: the copy goes there, by difference, instead of into a new volume.
func (x *run) lookForOwn(ctx context.Context, v *api.StandbyVolume) error {
	if v.Claim != "" || v.HandedOver || x.s.Spec.Activation != nil && !x.s.Spec.Activation.Planned {
		return nil
	}
	name := types.NamespacedName{Namespace: into(v), Name: v.Name}
	var claim corev1.PersistentVolumeClaim
	if err := x.Live.Get(ctx, name, &claim); apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read claim %s: %w", name, err)
	}
	left, err := x.leftBehind(ctx, x.peer, x.s.Spec.Application)
	if err != nil {
		return err
	}
	if !left[name] {
		return nil
	}
	v.Adopting, v.Adopted, v.Kept = true, false, ""
	return nil
}

// adopts is true for a standby with volumes that were the application's here.
func (x *run) adopts() bool {
	return slices.ContainsFunc(x.s.Status.Volumes, func(v api.StandbyVolume) bool { return v.Adopting || v.Adopted })
}

// comesBack is for an application that comes back: what stands here is what it left
// behind, and is overwritten unless the user said otherwise.
func comesBack(c workload.Conflicts) workload.Conflicts {
	if c.Resolution == "" || c.Resolution == api.ConflictAbort {
		c.Resolution = api.ConflictOverwrite
	}
	return c
}

// adopt makes standby volumes of the application's claims of before. Its workloads
// here are stopped first: they are superseded, and nobody may use what is written.
func (x *run) adopt(ctx context.Context) error {
	user, err := x.stopLeftBehind(ctx)
	if err != nil {
		return err
	}
	if x.s.Status.Message = user; user != "" {
		return nil
	}
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if !v.Adopting {
			continue
		}
		if err := x.adoptVolume(ctx, v); err != nil {
			return fmt.Errorf("adopt claim %s/%s: %w", into(v), v.Name, err)
		}
	}
	return nil
}

// stopLeftBehind stops what uses the claims that are adopted, and says which pod
// still has one; empty for none.
func (x *run) stopLeftBehind(ctx context.Context) (string, error) {
	claims, namespaces := map[types.NamespacedName]bool{}, map[string]bool{}
	for i := range x.s.Status.Volumes {
		if v := &x.s.Status.Volumes[i]; v.Adopting {
			claims[types.NamespacedName{Namespace: into(v), Name: v.Name}], namespaces[into(v)] = true, true
		}
	}
	uses := func(namespace, claim string) bool {
		return claims[types.NamespacedName{Namespace: namespace, Name: claim}]
	}
	in := slices.Sorted(maps.Keys(namespaces))
	users, err := workload.UsersOf(ctx, x.Objects, in, uses)
	if err != nil {
		return "", fmt.Errorf("find what uses the claims that %s left behind: %w", x.s.Spec.Application, err)
	}
	for _, w := range users {
		if err := workload.Stop(ctx, x.Objects, w); err != nil {
			return "", err
		}
		x.Events.Eventf(x.s, nil, corev1.EventTypeNormal, "StoppedSuperseded", "Adopt",
			"%s is stopped: its application runs on cluster %s, whose copy comes back into the volumes here", w.Ref, x.peer.ClusterName)
	}
	for _, namespace := range in {
		var pods corev1.PodList
		if err := x.Live.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return "", fmt.Errorf("list the pods of namespace %s: %w", namespace, err)
		}
		for i := range pods.Items {
			if claim := workload.ClaimOf(&pods.Items[i], uses); claim != "" && pods.Items[i].Labels[csi.LabelRole] == "" {
				return fmt.Sprintf("waiting for pod %s/%s to end, which has claim %s: delete it where no workload made it", namespace, pods.Items[i].Name, claim), nil
			}
		}
	}
	return "", nil
}

// adoptVolume takes the storage of one claim over, without it ever being unowned:
// the volume is retained, a second one for the same storage is made for the
// standby's claim, and only then the application's claim and volume go.
func (x *run) adoptVolume(ctx context.Context, v *api.StandbyVolume) error {
	var claim, standby corev1.PersistentVolumeClaim
	err := x.Live.Get(ctx, types.NamespacedName{Namespace: into(v), Name: v.Name}, &claim)
	if apierrors.IsNotFound(err) {
		err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v)}, &standby)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read standby claim: %w", err)
		}
		if err == nil {
			if err := x.dropAdoptedFrom(ctx, &standby); err != nil {
				return err
			}
		}
		v.Adopting, v.Adopted, v.Reason = false, err == nil, ""
		// Whatever it holds, it is looked at before it is written.
		v.Claim, v.Image, v.From = standby.UID, "", ""
		if err != nil {
			x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "ClaimGone", "Adopt", "claim %s/%s was deleted meanwhile: its volume is a full copy", into(v), v.Name)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read it: %w", err)
	}
	var pv corev1.PersistentVolume
	if err := x.Live.Get(ctx, types.NamespacedName{Name: claim.Spec.VolumeName}, &pv); err != nil {
		return fmt.Errorf("read volume %s: %w", claim.Spec.VolumeName, err)
	}
	if kept, err := x.keepOld(ctx, v, &claim); err != nil || !kept {
		return err
	}
	if err := x.retain(ctx, &pv); err != nil {
		return err
	}
	if err := x.ensureAdopted(ctx, v, &claim, &pv); err != nil {
		return err
	}
	if err := x.Client.Delete(ctx, &claim, client.Preconditions{UID: &claim.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete it: %w", err)
	}
	if err := x.Client.Delete(ctx, &pv, client.Preconditions{UID: &pv.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete volume %s, whose storage is the standby's: %w", pv.Name, err)
	}
	return nil
}

// dropAdoptedFrom deletes what was left of the application's own volume.
func (x *run) dropAdoptedFrom(ctx context.Context, standby *corev1.PersistentVolumeClaim) error {
	var pv corev1.PersistentVolume
	if err := x.Live.Get(ctx, types.NamespacedName{Name: standby.Spec.VolumeName}, &pv); err != nil {
		return fmt.Errorf("read volume %s: %w", standby.Spec.VolumeName, err)
	}
	return x.dropMadeOf(ctx, &pv)
}

// keepOld keeps what the volume holds in a snapshot, where its driver can, before
// anything of it is overwritten. It reports whether that is done.
func (x *run) keepOld(ctx context.Context, v *api.StandbyVolume, claim *corev1.PersistentVolumeClaim) (bool, error) {
	if !claim.DeletionTimestamp.IsZero() {
		return true, nil // It was kept before its claim was deleted.
	}
	capability, err := x.Snapshots.Capability(ctx, claim)
	if err != nil {
		return false, err
	}
	if capability.SnapshotClass == "" {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "NotKept", "Adopt",
			"what claim %s/%s holds here is overwritten, and is not kept: %s", claim.Namespace, claim.Name, capability.Reason)
		return true, nil
	}
	name := "kept-" + x.nameFor(v) + "-" + string(claim.UID)[:8]
	state, err := x.Snapshots.EnsureSnapshot(ctx, csi.SnapshotRequest{
		Owner: csi.Owner{UID: x.s.UID + "-kept", Name: x.s.Name}, Name: name, Namespace: claim.Namespace, Claim: claim.Name, Class: capability.SnapshotClass,
	})
	if err != nil {
		return false, err
	}
	if !state.Ready {
		v.Reason = "Waiting for the snapshot of what is overwritten: " + state.Err
		return false, nil
	}
	if v.Kept != name {
		v.Kept = name
		x.Events.Eventf(x.s, nil, corev1.EventTypeNormal, "Kept", "Adopt",
			"what claim %s/%s held here is kept in VolumeSnapshot %s/%s: delete that when it is not wanted any more", claim.Namespace, claim.Name, claim.Namespace, name)
	}
	return true, nil
}

// ensureAdopted makes the standby's claim over the storage of the application's.
func (x *run) ensureAdopted(ctx context.Context, v *api.StandbyVolume, claim *corev1.PersistentVolumeClaim, old *corev1.PersistentVolume) error {
	name, mode := x.nameFor(v), corev1.PersistentVolumeFilesystem
	if v.Kind == string(snapshot.Block) {
		mode = corev1.PersistentVolumeBlock
	}
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
		Spec:       *old.Spec.DeepCopy(),
	}
	for k, value := range old.Annotations {
		pv.Annotations[k] = value
	}
	delete(pv.Annotations, "pv.kubernetes.io/bound-by-controller")
	pv.Annotations[annotationAdopted], pv.Annotations[annotationStandby] = claim.Namespace+"/"+claim.Name, x.s.Name
	pv.Annotations[annotationMadeOf] = madeOf(old)
	pv.Spec.VolumeMode = &mode
	pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: x.Namespace, Name: name}
	if err := x.Client.Create(ctx, pv); client.IgnoreAlreadyExists(err) != nil {
		return fmt.Errorf("create volume %s: %w", name, err)
	}
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: x.Namespace, Name: name, Labels: x.labels(),
			Annotations: map[string]string{annotationStandby: x.s.Name, "godwit.io/claim": v.Namespace + "/" + v.Name},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			VolumeMode: &mode, AccessModes: old.Spec.AccessModes, StorageClassName: &old.Spec.StorageClassName, VolumeName: name,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: old.Spec.Capacity[corev1.ResourceStorage]}},
		},
	}
	if err := x.Client.Create(ctx, pvc); client.IgnoreAlreadyExists(err) != nil {
		return fmt.Errorf("create standby claim %s: %w", name, err)
	}
	return nil
}

// forgetActivation makes a standby of one that had the application, or was about to:
// its volumes are the application's, and are adopted.
func (x *run) forgetActivation(ctx context.Context) error {
	if a := x.s.Spec.Activation; a != nil && !a.Planned {
		return nil
	}
	handedOver := slices.ContainsFunc(x.s.Status.Volumes, func(v api.StandbyVolume) bool { return v.HandedOver })
	if handedOver {
		// What was applied is the application's own by now, and nobody takes it back.
		if err := x.deleteUndo(ctx); err != nil {
			return err
		}
	}
	s := &x.s.Status
	s.Epoch = 0
	for _, condition := range []string{conditionActivating, conditionRaising, conditionRaised, conditionHandingOver} {
		meta.RemoveStatusCondition(&s.Conditions, condition)
	}
	for i := range s.Volumes {
		if v := &s.Volumes[i]; v.HandedOver {
			*v = api.StandbyVolume{Namespace: v.Namespace, Name: v.Name, Kind: v.Kind, Remade: v.Remade, Displaced: v.Displaced}
		}
	}
	return nil
}

// keepsAdopted is true for a standby that goes back no further than to hold the round
// that is cancelled: its volumes were the application's here, and hold some of it.
func keepsAdopted(s *api.Standby) bool {
	handingOver := meta.IsStatusConditionTrue(s.Status.Conditions, conditionHandingOver)
	return !handingOver && s.DeletionTimestamp.IsZero() &&
		slices.ContainsFunc(s.Status.Volumes, func(v api.StandbyVolume) bool { return v.Adopting || v.Adopted })
}

// holdAdopted lets such a standby hand nothing over, and reports whether it knows.
func (s *session) holdAdopted(ctx context.Context, standby *api.Standby) (bool, error) {
	if standby.Spec.Stage && standby.Spec.Activation == nil {
		return standby.Status.ObservedGeneration == standby.Generation, nil
	}
	was := standby.DeepCopy()
	standby.Spec.Stage, standby.Spec.Activation, standby.Spec.Cancel = true, nil, false
	if err := s.Client.Patch(ctx, standby, client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})); err != nil {
		return false, fmt.Errorf("keep Standby %s from handing over: %w", standby.Name, err)
	}
	return false, nil
}

// leaveAdopted lets go of a volume whose storage was the application's here: it stays,
// retained, and unbound.
func (x *run) leaveAdopted(ctx context.Context, pv *corev1.PersistentVolume) error {
	before := pv.DeepCopy()
	delete(pv.Labels, labelOwner)
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	if err := x.Client.Patch(ctx, pv, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("let go of volume %s: %w", pv.Name, err)
	}
	x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "VolumeLeft", "TakeBack",
		"volume %s has the storage of claim %s, partly overwritten, and is left as it is, unbound: delete it when nobody wants it", pv.Name, pv.Annotations[annotationAdopted])
	return nil
}

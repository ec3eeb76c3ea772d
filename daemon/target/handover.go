package target

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

const (
	// annotationReclaim remembers the policy that a volume gets back in the end.
	annotationReclaim = "godwit.io/reclaim-policy"
	// annotationMadeOf is on a volume that was made over the storage of another: that
	// one's name/uid, to be deleted.
	annotationMadeOf = "godwit.io/made-of"
)

// handOver gives the volumes to the application, once no node holds any of them.
//
// The storage changes hands without ever being unowned: the standby's
// PersistentVolume is retained, a second one for the same storage is made for
// the application's claim, and only then the standby's claim and volume go.
// Mode and claim of a PersistentVolume cannot be changed, hence a second one.
func (x *run) handOver(ctx context.Context) error {
	done, err := x.dropTransfers(ctx)
	if err != nil || !done {
		return err
	}
	done, err = x.dropHolds(ctx)
	if err != nil {
		return err
	}
	if !done {
		x.s.Status.Message = "waiting for the nodes to let go of the volumes"
		return nil
	}
	x.s.Status.Message = ""
	if !x.has(conditionHandingOver) {
		if err := x.claimsFree(ctx); err != nil {
			return err
		}
		x.mark(conditionHandingOver, "Begun", "the volumes are handed over to the application")
		return nil // Written down before the first volume may be the application's.
	}
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if v.HandedOver || v.Leaving {
			continue
		}
		hand := x.handOverVolume
		if v.Moved {
			hand = x.handOverMoved
		}
		if err := hand(ctx, v); err != nil {
			return fmt.Errorf("hand over claim %s/%s: %w", v.Namespace, v.Name, err)
		}
	}
	return nil
}

func (x *run) handOverVolume(ctx context.Context, v *api.StandbyVolume) error {
	var claim corev1.PersistentVolumeClaim
	err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v)}, &claim)
	if apierrors.IsNotFound(err) {
		return x.confirmHandOver(ctx, v)
	}
	if err != nil {
		return fmt.Errorf("read standby claim: %w", err)
	}
	var standby corev1.PersistentVolume
	if err := x.Live.Get(ctx, types.NamespacedName{Name: claim.Spec.VolumeName}, &standby); err != nil {
		return fmt.Errorf("read standby volume %s: %w", claim.Spec.VolumeName, err)
	}
	if err := x.retain(ctx, &standby); err != nil {
		return err
	}
	made, err := x.ensureTargetVolume(ctx, v, &standby)
	if err != nil {
		return err
	}
	v.Volume = made.Name
	if claim.DeletionTimestamp.IsZero() {
		if err := x.Client.Delete(ctx, &claim); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete standby claim %s: %w", claim.Name, err)
		}
	}
	// A retained volume that no claim holds is only an object: its storage is
	// the new volume's now.
	if err := x.Client.Delete(ctx, &standby); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete standby volume %s: %w", standby.Name, err)
	}
	return nil
}

// retain keeps the storage when the standby's claim goes, and remembers what
// was to become of it.
func (x *run) retain(ctx context.Context, pv *corev1.PersistentVolume) error {
	if pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRetain && pv.Annotations[annotationReclaim] != "" {
		return nil
	}
	before := pv.DeepCopy()
	if pv.Annotations == nil {
		pv.Annotations = map[string]string{}
	}
	pv.Annotations[annotationReclaim] = string(pv.Spec.PersistentVolumeReclaimPolicy)
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	if err := x.Client.Patch(ctx, pv, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("retain volume %s: %w", pv.Name, err)
	}
	return nil
}

// ensureTargetVolume makes the application's PersistentVolume over the standby's
// storage. It carries the source volume's name where that is free.
func (x *run) ensureTargetVolume(ctx context.Context, v *api.StandbyVolume, standby *corev1.PersistentVolume) (*corev1.PersistentVolume, error) {
	wanted, err := x.claimOf(v)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{wanted.SourceVolume, "godwit-" + x.nameFor(v)} {
		if name == "" {
			continue
		}
		made := x.targetVolume(name, v, wanted, standby)
		err := x.Client.Create(ctx, made)
		if err == nil {
			return made, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("create volume %s: %w", name, err)
		}
		var there corev1.PersistentVolume
		if err := x.Live.Get(ctx, types.NamespacedName{Name: name}, &there); err != nil {
			return nil, fmt.Errorf("read volume %s: %w", name, err)
		}
		if there.Labels[labelOwner] == string(x.s.UID) && there.Annotations[annotationStandby] == x.s.Name && there.DeletionTimestamp.IsZero() {
			return &there, nil
		}
	}
	return nil, fmt.Errorf("%w: volumes named %s and godwit-%s exist and belong to others: delete one of them", errRefused, wanted.SourceVolume, x.nameFor(v))
}

func (x *run) targetVolume(name string, v *api.StandbyVolume, wanted api.StandbyClaim, standby *corev1.PersistentVolume) *corev1.PersistentVolume {
	mode := corev1.PersistentVolumeMode(wanted.VolumeMode)
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec:       *standby.Spec.DeepCopy(),
	}
	for k, value := range standby.Labels {
		pv.Labels[k] = value
	}
	for k, value := range standby.Annotations {
		pv.Annotations[k] = value
	}
	for k, value := range x.labels() {
		pv.Labels[k] = value
	}
	delete(pv.Annotations, "pv.kubernetes.io/bound-by-controller")
	pv.Annotations[annotationStandby], pv.Annotations[annotationMadeOf] = x.s.Name, madeOf(standby)
	pv.Annotations["godwit.io/image"] = v.Image
	pv.Spec.VolumeMode = &mode
	pv.Spec.AccessModes = accessModes(wanted.AccessModes)
	pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: into(v), Name: v.Name}
	if pv.Spec.CSI != nil && mode == corev1.PersistentVolumeFilesystem && v.Filesystem != "" {
		pv.Spec.CSI.FSType = v.Filesystem
	}
	return pv
}

// confirmHandOver looks once more at a volume whose standby claim is gone.
func (x *run) confirmHandOver(ctx context.Context, v *api.StandbyVolume) error {
	var list corev1.PersistentVolumeList
	if err := x.Live.List(ctx, &list, client.MatchingLabels{labelOwner: string(x.s.UID)}); err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	for _, pv := range list.Items {
		ref := pv.Spec.ClaimRef
		if pv.Annotations[annotationStandby] == x.s.Name && ref != nil && ref.Namespace == into(v) && ref.Name == v.Name {
			if err := x.dropMadeOf(ctx, &pv); err != nil {
				return err
			}
			v.Volume, v.HandedOver, v.Reason = pv.Name, true, ""
			return nil
		}
	}
	return fmt.Errorf("%w: its standby claim is gone and no volume was made for the application: start a new Migration", errRefused)
}

func madeOf(pv *corev1.PersistentVolume) string { return pv.Name + "/" + string(pv.UID) }

// dropMadeOf deletes the volume over whose storage another was made, where that was cut
// short: two volumes of one storage are one too many.
func (x *run) dropMadeOf(ctx context.Context, made *corev1.PersistentVolume) error {
	name, _, _ := strings.Cut(made.Annotations[annotationMadeOf], "/")
	if name == "" {
		return nil
	}
	var old corev1.PersistentVolume
	err := x.Live.Get(ctx, types.NamespacedName{Name: name}, &old)
	if apierrors.IsNotFound(err) || err == nil && madeOf(&old) != made.Annotations[annotationMadeOf] {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read volume %s: %w", name, err)
	}
	if err := x.Client.Delete(ctx, &old, client.Preconditions{UID: &old.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete volume %s, whose storage is that of volume %s: %w", name, made.Name, err)
	}
	return nil
}

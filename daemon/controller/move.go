package controller

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/remote"
	"github.com/godwit-io/godwit/daemon/workload"
)

// +kubebuilder:rbac:groups="",resources=persistentvolumes,verbs=patch
// +kubebuilder:rbac:groups=storage.k8s.io,resources=volumeattachments,verbs=list

const (
	// conditionRetained is set once the storage of every volume that is handed over
	// outlives its claim and its PersistentVolume here.
	conditionRetained = "Retained"
	// conditionUnclear is set where nobody can say whether the target has volumes that
	// were handed over: nothing is started beside it.
	conditionUnclear = "TargetUnclear"
	// annotationMoved is on a volume whose storage was handed over, and names the round;
	// annotationPolicyBefore, what became of the storage until then.
	annotationMoved        = "godwit.io/moved"
	annotationPolicyBefore = "godwit.io/reclaim-policy-before-move"
	reasonGaveUp           = "GaveUp"
	reasonInUse            = "VolumeInUse"
)

func isMoved(v api.MigrationVolumeInfo) bool { return v.Action == api.VolumeMove }

func (x *run) moves() bool { return slices.ContainsFunc(x.m.Status.Volumes, isMoved) }

// examineMove looks whether a claim's storage can be handed over.
func (x *run) examineMove(ctx context.Context, rule migrate.VolumeRule, c *claim) error {
	facts := migrate.MoveFacts{
		Answered: x.bringsClusterScoped(), Quiesces: x.observed.Quiesce,
		Activates: isTrue(x.m.Spec.Activate, false), Scheduled: x.m.Annotations[api.AnnotationScheduleName] != "",
	}
	pv, problem, err := x.volumeOf(ctx, &c.pvc)
	if err != nil {
		return err
	}
	if facts.Unreachable = problem; problem == "" {
		if _, err := remote.Of(pv.Spec); err != nil {
			facts.Unreachable = err.Error()
		}
		c.choice.Reason = "handed over without a copy: " + remote.Name(pv.Spec)
	}
	if !facts.Quiesces {
		claim := types.NamespacedName{Namespace: c.pvc.Namespace, Name: c.pvc.Name}
		if facts.User, err = x.userOfMoved(ctx, map[types.NamespacedName]string{claim: c.pvc.Spec.VolumeName}); err != nil {
			return err
		}
	}
	c.refused, c.moved, c.size = rule.MoveRefusal(facts), true, 0
	return nil
}

// volumeOf gives the volume that is bound to a claim, or says why there is none. A
// claim may name any volume: only the volume says whose it is.
func (x *run) volumeOf(ctx context.Context, pvc *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, string, error) {
	var pv corev1.PersistentVolume
	err := x.Live.Get(ctx, types.NamespacedName{Name: pvc.Spec.VolumeName}, &pv)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Sprintf("its volume %s does not exist", pvc.Spec.VolumeName), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read volume %s: %w", pvc.Spec.VolumeName, err)
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != pvc.UID || ref.Namespace != pvc.Namespace || ref.Name != pvc.Name {
		return nil, fmt.Sprintf("volume %s is not bound to this claim", pv.Name), nil
	}
	return &pv, "", nil
}

// movedVolume is the volume of a claim that this Migration hands over.
func (x *run) movedVolume(ctx context.Context, v api.MigrationVolumeInfo) (*corev1.PersistentVolume, error) {
	pvc, err := x.claimOf(ctx, v)
	if err != nil {
		return nil, err
	}
	pv, problem, err := x.volumeOf(ctx, pvc)
	if err == nil && problem != "" {
		err = final("VolumeNotMovable", "claim %s/%s: action Move: %s: start a new Migration", v.Namespace, v.PersistentVolumeClaim, problem)
	}
	return pv, err
}

// packMoved describes the storage of a claim that is handed over; nil for others.
func (x *run) packMoved(ctx context.Context, v api.MigrationVolumeInfo) ([]byte, error) {
	if !isMoved(v) {
		return nil, nil
	}
	pv, err := x.movedVolume(ctx, v)
	if err != nil {
		return nil, err
	}
	packed, err := remote.Pack(pv.Spec)
	if err != nil {
		return nil, final("VolumeNotMovable", "claim %s/%s: action Move: %w: use Copy", v.Namespace, v.PersistentVolumeClaim, err)
	}
	return packed, nil
}

// partMoved tells the claims that are handed over from the others.
func partMoved(claims []migrate.Claim) (copied, moved []migrate.Claim) {
	for _, c := range claims {
		if len(c.Moved) > 0 {
			moved = append(moved, c)
		} else {
			copied = append(copied, c)
		}
	}
	return copied, moved
}

// movedByClaim are the volumes that this Migration hands over.
func (x *run) movedByClaim() map[types.NamespacedName]string {
	volumes := map[types.NamespacedName]string{}
	for _, v := range x.m.Status.Volumes {
		if isMoved(v) {
			volumes[types.NamespacedName{Namespace: v.Namespace, Name: v.PersistentVolumeClaim}] = v.Volume
		}
	}
	return volumes
}

// userOfMoved says which pod has one of the volumes, or which node has it attached
// still: what is not flushed there would be lost on the target. It is empty for none.
func (x *run) userOfMoved(ctx context.Context, volumes map[types.NamespacedName]string) (string, error) {
	if len(volumes) == 0 {
		return "", nil
	}
	names, namespaces := map[string]bool{}, map[string]bool{}
	for claim, volume := range volumes {
		names[volume], namespaces[claim.Namespace] = true, true
	}
	for namespace := range namespaces {
		var pods corev1.PodList
		if err := x.Live.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return "", fmt.Errorf("list the pods of namespace %s: %w", namespace, err)
		}
		for i := range pods.Items {
			claim := workload.ClaimOf(&pods.Items[i], func(namespace, name string) bool {
				return volumes[types.NamespacedName{Namespace: namespace, Name: name}] != ""
			})
			if claim != "" {
				return fmt.Sprintf("pod %s/%s has claim %s", namespace, pods.Items[i].Name, claim), nil
			}
		}
	}
	var attachments storagev1.VolumeAttachmentList
	if err := x.Live.List(ctx, &attachments); err != nil {
		return "", fmt.Errorf("list volume attachments: %w", err)
	}
	for _, a := range attachments.Items {
		if volume := a.Spec.Source.PersistentVolumeName; volume != nil && names[*volume] {
			return fmt.Sprintf("volume %s is attached to node %s", *volume, a.Spec.NodeName), nil
		}
	}
	return "", nil
}

// movedFree is true once nothing here has a volume that is handed over. Where the
// Migration stopped nothing, it does not wait for others to stop.
func (x *run) movedFree(ctx context.Context) (bool, error) {
	user, err := x.userOfMoved(ctx, x.movedByClaim())
	if err != nil || user == "" {
		return err == nil, err
	}
	if !x.observed.Quiesce {
		return false, final(reasonInUse, "action Move: %s, and two clusters must not use it at once: set spec.quiesce, or stop it and start a new Migration", user)
	}
	x.waiting(reasonInUse, "waiting before volumes are handed over: "+user)
	return false, nil
}

// retainVolumes keeps the storage of the volumes that are handed over, whatever
// becomes of their claims and volumes on either side.
func (x *run) retainVolumes(ctx context.Context) error {
	if free, err := x.movedFree(ctx); err != nil || !free {
		return err
	}
	var volumes []*corev1.PersistentVolume
	known := true
	for i := range x.m.Status.Volumes {
		v := &x.m.Status.Volumes[i]
		if !isMoved(*v) {
			continue
		}
		pv, err := x.movedVolume(ctx, *v)
		if err != nil {
			return err
		}
		volumes = append(volumes, pv)
		if v.ReclaimPolicy == "" {
			v.ReclaimPolicy, known = string(policyBefore(pv)), false
		}
	}
	if !known {
		return nil // Written down before the first volume is changed.
	}
	for _, pv := range volumes {
		if err := x.retain(ctx, pv); err != nil {
			return err
		}
	}
	x.mark(conditionRetained, "Retained", fmt.Sprintf("%d volumes that are handed over outlive their claims here: their reclaim policy is Retain", len(volumes)))
	return nil
}

// policyBefore is a volume's policy before it was moved for the first time.
func policyBefore(pv *corev1.PersistentVolume) corev1.PersistentVolumeReclaimPolicy {
	if before := pv.Annotations[annotationPolicyBefore]; before != "" {
		return corev1.PersistentVolumeReclaimPolicy(before)
	}
	return pv.Spec.PersistentVolumeReclaimPolicy
}

func (x *run) retain(ctx context.Context, pv *corev1.PersistentVolume) error {
	if pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRetain && pv.Annotations[annotationMoved] == x.m.Status.Round {
		return nil
	}
	before := pv.DeepCopy()
	metav1.SetMetaDataAnnotation(&pv.ObjectMeta, annotationPolicyBefore, string(policyBefore(before)))
	metav1.SetMetaDataAnnotation(&pv.ObjectMeta, annotationMoved, x.m.Status.Round)
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	if err := x.Client.Patch(ctx, pv, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("retain volume %s: %w", pv.Name, err)
	}
	return nil
}

// policiesBack is true once no volume waits for the policy that it had.
func (x *run) policiesBack() bool {
	return !slices.ContainsFunc(x.m.Status.Volumes, func(v api.MigrationVolumeInfo) bool { return v.ReclaimPolicy != "" })
}

// givePoliciesBack gives volumes that the target has not any more the policy that
// they had. One that another Migration has moved since is that one's.
func (x *run) givePoliciesBack(ctx context.Context) error {
	for i := range x.m.Status.Volumes {
		v := &x.m.Status.Volumes[i]
		if v.ReclaimPolicy == "" {
			continue
		}
		var pv corev1.PersistentVolume
		err := x.Live.Get(ctx, types.NamespacedName{Name: v.Volume}, &pv)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read volume %s: %w", v.Volume, err)
		}
		if err == nil && pv.Annotations[annotationMoved] == x.m.Status.Round {
			before := pv.DeepCopy()
			pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimPolicy(v.ReclaimPolicy)
			delete(pv.Annotations, annotationMoved)
			delete(pv.Annotations, annotationPolicyBefore)
			if err := x.Client.Patch(ctx, &pv, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
				return fmt.Errorf("give volume %s its reclaim policy %s: %w", pv.Name, v.ReclaimPolicy, err)
			}
		}
		v.ReclaimPolicy = ""
	}
	meta.RemoveStatusCondition(&x.m.Status.Conditions, conditionRetained)
	return nil
}

// undoSource puts the source back as it was, once the target has nothing of the
// round any more.
func (x *run) undoSource(ctx context.Context) error {
	cleared := meta.FindStatusCondition(x.m.Status.Conditions, conditionCleared)
	if x.moves() && x.observed.Sealed && cleared != nil && cleared.Reason == reasonGaveUp {
		const said = "the target could not be asked whether it has the volumes that were handed over: they stay retained, and what was stopped here stays so: look there for PersistentVolumes with annotation " +
			annotationMoved + ", and start the source by hand once it has none"
		x.warn(conditionUnclear, "%s", said)
		x.mark(conditionUnclear, reasonGaveUp, said)
		return nil
	}
	if err := x.givePoliciesBack(ctx); err != nil {
		return err
	}
	if x.leavesStopped() {
		return nil
	}
	return x.restore(ctx)
}

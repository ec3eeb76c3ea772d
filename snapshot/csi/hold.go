package csi

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// HoldRequest asks for a claim that is there to be published on a node.
type HoldRequest struct {
	Owner Owner
	// Name is unique within the owner and the namespace.
	Name      string
	Namespace string
	Claim     string
	// Mode is the claim's own.
	Mode Mode
	// ReadOnly is false where the volume is going to be written.
	ReadOnly bool
}

// EnsureHold publishes the claim's volume on a node, or tells how far it is. A
// volume that is to be written is not held as long as a pod uses it.
func (s *Snapshots) EnsureHold(ctx context.Context, r HoldRequest) (Mounted, error) {
	var pvc corev1.PersistentVolumeClaim
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Claim}
	if err := s.client.Get(ctx, key, &pvc); err != nil {
		return Mounted{}, fmt.Errorf("read PersistentVolumeClaim %s: %w", key, err)
	}
	if modeOf(&pvc) != r.Mode {
		return Mounted{}, &FinalError{
			Problem: fmt.Sprintf("claim %s has volumeMode %s and not %s", key, modeOf(&pvc), r.Mode),
			Remedy:  "delete the claim, or ask for the mode that it has",
		}
	}
	if pvc.DeletionTimestamp != nil {
		return Mounted{}, fmt.Errorf("claim %s is being deleted", key)
	}
	if !r.ReadOnly {
		// Not from a cache: nobody may write a volume that a pod has just begun to use.
		users, err := usersOf(ctx, s.live, &pvc)
		if err != nil {
			return Mounted{}, err
		}
		if len(users) > 0 {
			return Mounted{Waiting: fmt.Sprintf("pod %s/%s to end, which uses claim %s", r.Namespace, users[0].Name, r.Claim)}, nil
		}
	}
	place, err := s.placeAnywhere(ctx)
	if err != nil {
		return Mounted{}, err
	}
	return s.hold(ctx, holder{
		owner: r.Owner, role: roleHold, namespace: r.Namespace, name: ownName(r.Owner, r.Namespace, r.Name),
		claim: r.Claim, mode: r.Mode, readOnly: r.ReadOnly, place: place,
	})
}

// DropHold ends a hold, and reports done when the pod is gone and the volume is
// attached nowhere, so that another node may have it.
func (s *Snapshots) DropHold(ctx context.Context, r HoldRequest) (done bool, err error) {
	var pod corev1.Pod
	key := types.NamespacedName{Namespace: r.Namespace, Name: ownName(r.Owner, r.Namespace, r.Name)}
	switch err := s.live.Get(ctx, key, &pod); {
	case err == nil && isOwned(&pod, r.Owner) && isHolder(&pod):
		return false, s.remove(ctx, &pod)
	case err != nil && !apierrors.IsNotFound(err):
		return false, fmt.Errorf("read Pod %s: %w", key, err)
	}
	var pvc corev1.PersistentVolumeClaim
	key.Name = r.Claim
	if err := s.live.Get(ctx, key, &pvc); apierrors.IsNotFound(err) {
		return true, nil
	} else if err != nil {
		return false, fmt.Errorf("read PersistentVolumeClaim %s: %w", key, err)
	}
	if pvc.Spec.VolumeName == "" {
		return true, nil
	}
	attached, err := attachments(ctx, s.live, pvc.Spec.VolumeName)
	return err == nil && len(attached) == 0, err
}

// remove deletes exactly this object, not another of its name.
func (s *Snapshots) remove(ctx context.Context, obj client.Object) error {
	if obj.GetDeletionTimestamp() != nil {
		return nil
	}
	uid := obj.GetUID()
	err := s.client.Delete(ctx, obj, client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s %s: %w", kind(obj), client.ObjectKeyFromObject(obj), err)
	}
	return nil
}

// moment is when an event last happened; the API has three places for it.
func moment(e *corev1.Event) time.Time {
	latest := e.LastTimestamp.Time
	for _, t := range []time.Time{e.EventTime.Time, e.CreationTimestamp.Time} {
		if t.After(latest) {
			latest = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(latest) {
		latest = e.Series.LastObservedTime.Time
	}
	return latest
}

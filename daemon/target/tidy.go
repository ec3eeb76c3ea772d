package target

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
)

// tidyUp drops what only the work needed. A round that was applied whole is
// ready from here on; its volumes get back the policy of their class.
func (x *run) tidyUp(ctx context.Context) error {
	done, err := x.dropTransfers(ctx)
	if err != nil || !done {
		return err
	}
	if done, err = x.dropHolds(ctx); err != nil || !done {
		return err
	}
	if x.s.Status.Phase == api.StandbyFailed {
		// What an earlier round left is gone back to when the source says so.
		if x.s.Status.Previous == "" {
			if err := x.dropClaims(ctx); err != nil {
				return err
			}
		}
		x.mark(conditionTidy, "Tidy", "nothing temporary is left")
		return nil
	}
	if !x.s.DeletionTimestamp.IsZero() && x.s.Status.Phase != api.StandbyReady {
		x.mark(conditionTidy, "Tidy", "nothing temporary is left")
		return nil
	}
	return x.reach(ctx)
}

// reach is the end of a round: what it needs no more goes, and the status says that
// the standby holds it.
func (x *run) reach(ctx context.Context) error {
	if done, err := x.snapshotRound(ctx); err != nil || !done {
		return err
	}
	if err := x.restorePolicies(ctx); err != nil {
		return err
	}
	_, err := x.dropSnapshots(ctx, x.s.Spec.Snapshots)
	if err = errors.Join(err, x.dropStrays(ctx), x.dropKept(ctx, x.roundsKept()...)); err != nil {
		return err
	}
	if x.s.Spec.Activation != nil {
		if err := x.markCopies(ctx, true); err != nil {
			return err
		}
	}
	meta.RemoveStatusCondition(&x.s.Status.Conditions, conditionSnapshotting)
	now := metav1.NewTime(x.Now())
	if x.s.Status.Reached == nil {
		x.s.Status.Reached = &now
	}
	x.s.Status.Phase, x.s.Status.Round, x.s.Status.Message = api.StandbyReady, x.s.Spec.Round, ""
	x.s.Status.Previous, x.s.Status.Claims = "", x.s.Spec.Volumes
	x.measure()
	meta.SetStatusCondition(&x.s.Status.Conditions, metav1.Condition{
		Type: api.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", Message: "holds round " + x.s.Spec.Round, ObservedGeneration: x.s.Generation,
	})
	x.mark(conditionTidy, "Tidy", "nothing temporary is left")
	return nil
}

// restorePolicies gives handed-over volumes the reclaim policy of their class,
// which they lacked while a slip could have deleted the only copy.
func (x *run) restorePolicies(ctx context.Context) error {
	volumes, err := x.madeVolumes(ctx)
	if err != nil {
		return err
	}
	for i := range volumes {
		pv := &volumes[i]
		policy := pv.Annotations[annotationReclaim]
		// The source may still want what was handed over.
		if policy == "" || pv.Annotations[annotationMoved] != "" {
			continue
		}
		before := pv.DeepCopy()
		delete(pv.Annotations, annotationReclaim)
		pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimPolicy(policy)
		if err := x.Client.Patch(ctx, pv, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("give volume %s its reclaim policy %s: %w", pv.Name, policy, err)
		}
	}
	return nil
}

func (x *run) madeVolumes(ctx context.Context) ([]corev1.PersistentVolume, error) {
	var list corev1.PersistentVolumeList
	if err := x.Live.List(ctx, &list, client.MatchingLabels{labelOwner: string(x.s.UID)}); err != nil {
		return nil, fmt.Errorf("list volumes of Standby %s: %w", x.s.Name, err)
	}
	return list.Items, nil
}

// dropClaims deletes standby claims that were not handed over, and with them
// their storage by the policy of its class.
func (x *run) dropClaims(ctx context.Context) error {
	var claims corev1.PersistentVolumeClaimList
	if err := x.Live.List(ctx, &claims, client.InNamespace(x.Namespace), client.MatchingLabels{labelOwner: string(x.s.UID)}); err != nil {
		return fmt.Errorf("list standby claims of %s: %w", x.s.Name, err)
	}
	for i := range claims.Items {
		if err := x.Client.Delete(ctx, &claims.Items[i]); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete standby claim %s: %w", claims.Items[i].Name, err)
		}
	}
	return nil
}

// takeBack undoes a round that never got ready: objects, then volumes.
func (x *run) takeBack(ctx context.Context) error {
	done, err := x.dropTransfers(ctx)
	if err != nil || !done {
		return err
	}
	if done, err = x.dropHolds(ctx); err != nil || !done {
		return err
	}
	// What a drill applied goes with its namespaces.
	if x.s.Spec.Drill == nil {
		if err := x.undoApplied(ctx); err != nil {
			return err
		}
	}
	if done, err = x.dropVolumes(ctx); err != nil || !done {
		return err
	}
	if err := x.dropClaims(ctx); err != nil {
		return err
	}
	if err := x.deleteUndo(ctx); err != nil {
		return err
	}
	x.mark(conditionTakenBack, "TakenBack", "what was made for this round is gone")
	return nil
}

func (x *run) undoApplied(ctx context.Context) error {
	undo, err := x.loadUndo(ctx)
	if err != nil {
		return err
	}
	return x.undoObjects(ctx, undo)
}

// undoObjects takes the newest write back first. The records alone say what was
// written: the pair, and with it the round, may be gone by now. What is left as
// others made it is told.
func (x *run) undoObjects(ctx context.Context, undo []workload.Applied) error {
	left, err := workload.UndoAll(ctx, x.Objects, undo, workload.UndoOptions{})
	for _, l := range left {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "LeftAsItIs", "TakeBack", "%s", l)
	}
	return err
}

// takeBackObjects undoes what a finished run applied, since its Migration said that
// it is not to outlive it. Volumes and their claims stay: they hold data.
func (x *run) takeBackObjects(ctx context.Context) error {
	undo, err := x.loadUndo(ctx)
	if err != nil {
		return err
	}
	claims := func(a workload.Applied) bool {
		return a.Action == workload.Created && a.Ref.Group == "" && a.Ref.Kind == "PersistentVolumeClaim"
	}
	if err := x.undoObjects(ctx, slices.DeleteFunc(undo, claims)); err != nil {
		return err
	}
	if err := x.deleteUndo(ctx); err != nil {
		return err
	}
	x.mark(conditionTakenBack, "TakenBack", "the objects of this round are as they were before it; claims and volumes are kept")
	return nil
}

// dropVolumes deletes the volumes that were made for the application, with
// their storage: they hold a copy of what is in the repository, and no pod ran.
func (x *run) dropVolumes(ctx context.Context) (bool, error) {
	noneMoved, err := x.dropMoved(ctx)
	if err != nil {
		return false, err
	}
	volumes, err := x.madeVolumes(ctx)
	if err != nil {
		return false, err
	}
	for i := range volumes {
		pv := &volumes[i]
		if pv.Annotations[annotationMoved] != "" || pv.Status.Phase == corev1.VolumeBound {
			continue // Its claim is being undone.
		}
		if pv.Annotations[annotationAdopted] != "" {
			if err := x.leaveAdopted(ctx, pv); err != nil {
				return false, err
			}
			continue
		}
		ours := x.s.Spec.Drill != nil || pv.Annotations[annotationReclaim] == string(corev1.PersistentVolumeReclaimDelete)
		if pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete && ours {
			before := pv.DeepCopy()
			pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
			if err := x.Client.Patch(ctx, pv, client.MergeFrom(before)); err != nil {
				return false, fmt.Errorf("give volume %s back to its class: %w", pv.Name, err)
			}
		}
		if err := x.Client.Delete(ctx, pv); client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("delete volume %s: %w", pv.Name, err)
		}
	}
	return noneMoved && len(volumes) == 0, nil
}

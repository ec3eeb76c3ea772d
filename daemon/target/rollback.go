package target

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/transfer"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// annotationFenced is on a volume that was taken from an application and kept.
const annotationFenced = "godwit.io/fenced"

// RollBack asks for a round that was handed over to be taken back, and tells how
// far that is. A wish that was refused stays so until another one comes.
func (s *session) RollBack(ctx context.Context, r migrate.RollBack) (migrate.RollBackReport, error) {
	standby, err := s.find(ctx, r.RoundRef, false)
	if err != nil {
		return migrate.RollBackReport{}, err
	}
	is := func(condition string) bool { return meta.IsStatusConditionTrue(standby.Status.Conditions, condition) }
	asked := standby.Spec.Rollback
	switch {
	case bringing(standby):
		return s.followBringing(ctx, standby, r)
	case standby.Spec.Activation != nil:
		return migrate.RollBackReport{}, activated(standby)
	case !standby.DeletionTimestamp.IsZero():
		return migrate.RollBackReport{}, fmt.Errorf("round %s of %s: %w", r.Round, r.Application, migrate.ErrUnknownRound)
	case standby.Spec.Stage:
		return migrate.RollBackReport{Refused: true, Message: "round " + r.Round + " was staged: nothing of it was handed over"}, nil
	case is(conditionRolledBack):
		return migrate.RollBackReport{Done: true, Message: standby.Status.Message}, nil
	case !reachedRound(standby):
		return migrate.RollBackReport{}, fmt.Errorf("standby %s is not at rest at round %s", standby.Name, r.Round)
	case asked != nil && (asked.Request == r.Request || is(conditionRollingBack)):
		refused := !is(conditionRollingBack) && refusedFor(standby)
		return migrate.RollBackReport{Refused: refused, Message: standby.Status.Message}, nil
	case r.BringWrites:
		return s.bring(ctx, standby, r)
	}
	before := standby.DeepCopy()
	standby.Spec.Rollback = &api.StandbyRollback{Request: r.Request, DropWrites: r.DropWrites}
	if err := s.Client.Patch(ctx, standby, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return migrate.RollBackReport{}, fmt.Errorf("ask Standby %s to take round %s back: %w", standby.Name, r.Round, err)
	}
	return migrate.RollBackReport{Message: "the target was asked"}, nil
}

// refusedFor is true where the rollback that is asked for now was refused.
func refusedFor(s *api.Standby) bool {
	c := meta.FindStatusCondition(s.Status.Conditions, conditionRefused)
	return c != nil && c.ObservedGeneration == s.Generation
}

func (x *run) observeRollback(ctx context.Context) (migrate.ObservedRollback, error) {
	asked := x.s.Spec.Rollback
	if asked == nil {
		return migrate.ObservedRollback{}, nil
	}
	o := migrate.ObservedRollback{
		Asked: true, DropWrites: asked.DropWrites, Refused: refusedFor(x.s),
		Begun: x.has(conditionRollingBack), Done: x.has(conditionRolledBack), Compared: x.s.Status.Comparing == asked.Request,
	}
	o.BringWrites, o.Brought = asked.BringWrites, x.has(conditionBrought)
	if o.Begun || o.DropWrites || o.BringWrites {
		return o, nil
	}
	var written []string
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		o.Compared = o.Compared && v.Compared
		if v.Written != "" {
			written = append(written, fmt.Sprintf("claim %s/%s: %s", into(v), v.Name, v.Written))
		}
	}
	if !o.Compared {
		return o, nil
	}
	user, err := x.userOfVolumes(ctx, func(v *api.StandbyVolume) bool { return !v.Moved })
	if user != "" {
		written = append(written, user+" and may write at any moment")
	}
	if len(written) > 0 {
		o.Written = "the target's volumes are not as they were handed over: " + strings.Join(written, "; ") +
			": stop the application there and look, or roll back with spec.bringTargetWrites (--bring-target-writes), which brings it to the source first, or with spec.dropTargetWrites (--drop-target-writes), which throws it away"
	}
	return o, err
}

// userOfVolumes names a pod that has one of the wanted volumes that were handed over;
// empty for none.
func (x *run) userOfVolumes(ctx context.Context, wanted func(*api.StandbyVolume) bool) (string, error) {
	claims := map[types.NamespacedName]bool{}
	namespaces := map[string]bool{}
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if !wanted(v) {
			continue
		}
		claims[types.NamespacedName{Namespace: into(v), Name: v.Name}] = true
		namespaces[into(v)] = true
	}
	for namespace := range namespaces {
		var pods corev1.PodList
		if err := x.Live.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return "", fmt.Errorf("list the pods of namespace %s: %w", namespace, err)
		}
		for i := range pods.Items {
			pod := &pods.Items[i]
			if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.Labels[csi.LabelRole] != "" {
				continue
			}
			for _, v := range pod.Spec.Volumes {
				if v.PersistentVolumeClaim != nil && claims[types.NamespacedName{Namespace: namespace, Name: v.PersistentVolumeClaim.ClaimName}] {
					return fmt.Sprintf("pod %s/%s has claim %s", namespace, pod.Name, v.PersistentVolumeClaim.ClaimName), nil
				}
			}
		}
	}
	return "", nil
}

// compareOwner owns what the comparison of one request needs.
func (x *run) compareOwner() csi.Owner {
	return csi.Owner{UID: types.UID(fmt.Sprintf("%s-compare-%d", x.s.UID, x.s.Status.Comparing)), Name: x.s.Name}
}

// compareVolumes compares a snapshot of each volume with the image that it held
// when it was handed over.
func (x *run) compareVolumes(ctx context.Context) error {
	s := &x.s.Status
	if s.Comparing != x.s.Spec.Rollback.Request {
		done, err := x.dropComparison(ctx)
		if err != nil || !done {
			return err
		}
		s.Comparing = x.s.Spec.Rollback.Request
		for i := range s.Volumes {
			// What was written to a volume that goes back as it is, is not lost.
			s.Volumes[i].Compared, s.Volumes[i].Written = s.Volumes[i].Moved, ""
		}
		return nil // Written down before anything is made in its name.
	}
	secret, err := x.Locator.EnsureSecret(ctx, x.peer, x.peer.BackupLocation)
	if err != nil {
		return err
	}
	s.Message = "comparing the volumes with round " + x.s.Spec.Round
	for i := range s.Volumes {
		v := &s.Volumes[i]
		if v.Compared {
			continue
		}
		if v.Written, v.Compared, err = x.compareVolume(ctx, v, secret); err != nil {
			return fmt.Errorf("compare claim %s/%s: %w", into(v), v.Name, err)
		}
	}
	return nil
}

// compareVolume says what was written to one volume, once that is known. What
// cannot be compared counts as written to.
func (x *run) compareVolume(ctx context.Context, v *api.StandbyVolume, secret string) (written string, known bool, err error) {
	var pvc corev1.PersistentVolumeClaim
	err = x.Live.Get(ctx, types.NamespacedName{Namespace: into(v), Name: v.Name}, &pvc)
	switch {
	case apierrors.IsNotFound(err):
		return "", true, nil // Who deleted the claim has had what was written.
	case err != nil:
		return "", false, fmt.Errorf("read it: %w", err)
	}
	capability, err := x.Snapshots.Capability(ctx, &pvc)
	if err != nil {
		return "", false, err
	}
	if capability.SnapshotClass == "" && v.Kind == string(snapshot.Block) {
		return "it cannot be compared, since its storage has no snapshots (" + capability.Reason + "), and may have been written", true, nil
	}
	if capability.SnapshotClass == "" {
		// Files can be read where they are: whoever has the volume meanwhile is in the way
		// of a rollback anyway.
		written, known, err = x.compareExposed(ctx, v, x.comparison(v), "", secret)
	} else {
		written, known, err = x.compareSnapshot(ctx, v, capability.SnapshotClass, secret)
	}
	if csi.IsFinal(err) || errors.Is(err, csi.ErrNoBlocks) {
		return fmt.Sprintf("it cannot be compared (%v), and may have been written", err), true, nil
	}
	return written, known, err
}

func (x *run) compareSnapshot(ctx context.Context, v *api.StandbyVolume, class, secret string) (written string, known bool, err error) {
	name := x.comparison(v)
	state, err := x.Snapshots.EnsureSnapshot(ctx, csi.SnapshotRequest{Owner: x.compareOwner(), Name: name, Namespace: into(v), Claim: v.Name, Class: class})
	if err != nil {
		return "", false, err
	}
	if !state.Ready {
		x.s.Status.Message = strings.TrimSpace(fmt.Sprintf("waiting for the snapshot of claim %s/%s %s", into(v), v.Name, state.Err))
		return "", false, nil
	}
	return x.compareExposed(ctx, v, name, name, secret)
}

// comparison names what is made to compare a volume.
func (x *run) comparison(v *api.StandbyVolume) string {
	return fmt.Sprintf("%s-c%d", x.nameFor(v), x.s.Status.Comparing)
}

// compareExposed compares a snapshot of the volume, or the volume itself without one.
func (x *run) compareExposed(ctx context.Context, v *api.StandbyVolume, name, from, secret string) (written string, known bool, err error) {
	mode := csi.Filesystem
	if v.Kind == string(snapshot.Block) {
		mode = csi.Block
	}
	mounted, err := x.Snapshots.EnsureExposure(ctx, csi.ExposureRequest{
		Owner: x.compareOwner(), Name: name, Namespace: into(v), Claim: v.Name, Mode: mode, Snapshot: from,
	})
	if err != nil {
		return "", false, err
	}
	if !mounted.Ready {
		x.s.Status.Message = fmt.Sprintf("waiting for what is on claim %s/%s to be exposed: %s", into(v), v.Name, mounted.Waiting)
		return "", false, nil
	}
	return x.followComparison(ctx, v, name, secret, mounted)
}

func (x *run) followComparison(ctx context.Context, v *api.StandbyVolume, name, secret string, mounted csi.Mounted) (written string, known bool, err error) {
	var t api.VolumeTransfer
	err = x.Client.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: name}, &t)
	switch {
	case apierrors.IsNotFound(err):
		t = *x.transferOf(v, name, secret, mounted)
		t.Spec.Direction, t.Spec.From, t.Spec.Image = api.Compare, "", v.Image
		if err := x.Client.Create(ctx, &t); err != nil && !apierrors.IsAlreadyExists(err) {
			return "", false, fmt.Errorf("create transfer %s: %w", name, err)
		}
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("read transfer %s: %w", name, err)
	}
	switch t.Status.Phase {
	case api.TransferSucceeded:
		return t.Status.Differs, true, nil
	case api.TransferFailed:
		return "it could not be compared (" + t.Status.Message + "), and may have been written", true, nil
	}
	if transfer.Outdated(&t, mounted) {
		return "", false, x.transfers().Drop(ctx, &t)
	}
	return "", false, nil
}

// dropComparison drops what the comparison needed and reports whether all is gone.
func (x *run) dropComparison(ctx context.Context) (bool, error) {
	done, err := x.dropTransfers(ctx)
	if err != nil || !done || x.s.Status.Comparing == 0 {
		return done, err
	}
	if done, err = x.Snapshots.Release(ctx, x.compareOwner()); err != nil {
		return false, fmt.Errorf("release the snapshots that the volumes were compared by: %w", err)
	}
	return done, nil
}

// refuseRollback leaves the application alone.
func (x *run) refuseRollback(why string) func(context.Context) error {
	return func(ctx context.Context) error {
		done, err := x.dropComparison(ctx)
		if err != nil || !done {
			return err
		}
		x.mark(conditionRefused, "TargetWritten", why)
		x.s.Status.Message = why
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "RollbackRefused", "RollBack", "%s", short(why))
		return nil
	}
}

// rollBackRound undoes the objects, waits until no pod has a volume, and takes the
// volumes: what was written to them goes only where that was asked for.
func (x *run) rollBackRound(ctx context.Context) error {
	done, err := x.dropComparison(ctx)
	if err != nil || !done {
		return err
	}
	if !x.has(conditionRollingBack) {
		x.mark(conditionRollingBack, "Begun", "the objects of round "+x.s.Spec.Round+" are undone, then its volumes are taken")
		return nil // Written down before anything is undone.
	}
	if err := x.fence(ctx); err != nil {
		return err
	}
	left, err := x.undoRound(ctx)
	if err != nil {
		return err
	}
	waits, err := x.stillUsed(ctx)
	if err != nil {
		return err
	}
	if waits != "" {
		x.s.Status.Message = strings.Join(append([]string{"waiting: " + waits}, left...), "; ")
		return nil
	}
	return x.takeVolumes(ctx, left)
}

// fence keeps the storage of the volumes when their claims go.
func (x *run) fence(ctx context.Context) error {
	volumes, err := x.madeVolumes(ctx)
	if err != nil {
		return err
	}
	for i := range volumes {
		keep := x.retain
		if volumes[i].Annotations[annotationMoved] != "" {
			keep = x.keepStorage
		}
		if err := keep(ctx, &volumes[i]); err != nil {
			return err
		}
	}
	return nil
}

// undoRound takes the round's objects back, and tells what it left as others made it.
func (x *run) undoRound(ctx context.Context) ([]string, error) {
	undo, err := x.loadUndo(ctx)
	if err != nil {
		return nil, err
	}
	r := x.s.Spec.Rollback
	// What was brought back is at the source as it was made here.
	errs, err := workload.UndoAll(ctx, x.Objects, undo, workload.UndoOptions{Force: r.DropWrites || r.BringWrites})
	left := make([]string, 0, len(errs))
	for _, e := range errs {
		left = append(left, e.Error())
	}
	return left, err
}

// stillUsed says what still has a volume: a source that is started again must be
// the only one.
func (x *run) stillUsed(ctx context.Context) (string, error) {
	user, err := x.userOfVolumes(ctx, func(*api.StandbyVolume) bool { return true })
	if err != nil || user != "" {
		return user, err
	}
	volumes, err := x.madeVolumes(ctx)
	if err != nil {
		return "", err
	}
	for _, pv := range volumes {
		ref := pv.Spec.ClaimRef
		if ref == nil {
			continue
		}
		err := x.Live.Get(ctx, types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}, &corev1.PersistentVolumeClaim{})
		if err == nil {
			return fmt.Sprintf("claim %s/%s is still there", ref.Namespace, ref.Name), nil
		}
		if !apierrors.IsNotFound(err) {
			return "", fmt.Errorf("read claim %s/%s: %w", ref.Namespace, ref.Name, err)
		}
	}
	return "", nil
}

// takeVolumes ends a rollback: volumes that were written to for nothing go by the
// policy of their class, others are kept where nobody can mount them.
func (x *run) takeVolumes(ctx context.Context, left []string) error {
	if gone, err := x.dropMoved(ctx); err != nil || !gone {
		return err
	}
	kept := 0
	if x.s.Spec.Rollback.DropWrites {
		if done, err := x.dropVolumes(ctx); err != nil || !done {
			return err
		}
	} else {
		var err error
		if kept, err = x.keepFenced(ctx); err != nil {
			return err
		}
	}
	if err := x.deleteUndo(ctx); err != nil {
		return err
	}
	said := "round " + x.s.Spec.Round + " is taken back"
	if x.s.Spec.Rollback.BringWrites {
		said = "what was written since is at the source, and " + said
	}
	if kept > 0 {
		said += fmt.Sprintf("; %d volumes are kept, released, with annotation %s: delete them when nobody misses what is on them", kept, annotationFenced)
	}
	for _, l := range left {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "LeftAsItIs", "RollBack", "%s", short(l))
	}
	if len(left) > 0 {
		said += fmt.Sprintf("; %d objects are left as others made them, the first: %s", len(left), left[0])
	}
	// Whoever activates it one day starts from the repository.
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		v.HandedOver, v.Image, v.From, v.Claim, v.Volume = false, "", "", "", ""
	}
	meta.RemoveStatusCondition(&x.s.Status.Conditions, conditionHandingOver)
	if err := x.endBringing(ctx); err != nil {
		return err
	}
	x.s.Status.Message = said
	x.mark(conditionRolledBack, "RolledBack", said)
	return nil
}

func (x *run) keepFenced(ctx context.Context) (int, error) {
	volumes, err := x.madeVolumes(ctx)
	if err != nil {
		return 0, err
	}
	for i := range volumes {
		pv := &volumes[i]
		if pv.Annotations[annotationFenced] != "" {
			continue
		}
		before := pv.DeepCopy()
		if pv.Annotations == nil {
			pv.Annotations = map[string]string{}
		}
		pv.Annotations[annotationFenced] = x.s.Spec.Application + "@" + x.s.Spec.Round
		if err := x.Client.Patch(ctx, pv, client.MergeFrom(before)); err != nil {
			return 0, fmt.Errorf("fence volume %s: %w", pv.Name, err)
		}
	}
	return len(volumes), nil
}

// short keeps an event that the API takes.
func short(s string) string {
	const longest = 1000
	return s[:min(len(s), longest)]
}

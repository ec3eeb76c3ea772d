package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// The steps of a volume, in order.
const (
	stepSnapshot = "Snapshot"
	stepBackup   = "Backup"
	stepStored   = "Stored"
	stepRestore  = "Restore"
	stepDone     = "Done"
)

// admit records the round and its volumes. From here on the status, not the
// cluster, says what moves.
func (x *run) admit(context.Context) error {
	s := &x.m.Status
	s.Round = x.m.CreationTimestamp.UTC().Format(roundStamp) + "-" + shortUID(x.m.UID)
	s.Application = x.application()
	s.Stage, s.Status = api.MigrationStageVolumes, api.MigrationStatusPending
	if x.m.Spec.PreExecRule != "" {
		s.Stage = api.MigrationStagePreExecRule
	}
	s.Volumes = nil
	for _, c := range x.claims {
		v := api.MigrationVolumeInfo{
			PersistentVolumeClaim: c.pvc.Name, Namespace: c.pvc.Namespace, Volume: c.pvc.Spec.VolumeName,
			Status: api.MigrationStatusPending, Step: stepSnapshot, BytesTotal: c.size,
			Method: api.TransferMethod(c.choice.Method), MethodReason: c.choice.Reason, Live: c.choice.Live,
		}
		if c.moved {
			// There is nothing to store.
			v.Action, v.Step = api.VolumeMove, stepStored
		}
		if c.choice.Live {
			v.Step = stepBackup
			x.warn("LiveCopy", "claim %s/%s: %s", v.Namespace, v.PersistentVolumeClaim, c.choice.Reason)
		}
		if c.warning != "" {
			x.warn("AccessModeNotKept", "claim %s/%s: %s", v.Namespace, v.PersistentVolumeClaim, c.warning)
		}
		s.Volumes = append(s.Volumes, v)
	}
	for _, w := range x.warnings {
		x.warn("Large", "%s", w)
	}
	for _, n := range x.observed.Namespaces {
		if !n.Exists {
			x.warn("NamespaceNotFound", "namespace %s does not exist and is left out", n.Name)
		}
	}
	x.mark(conditionAdmitted, "RoundStarted", "round "+s.Round)
	return nil
}

// targetClaims is what the target has to provide, from the claims as they are.
func (x *run) targetClaims(ctx context.Context) ([]migrate.Claim, error) {
	claims := make([]migrate.Claim, 0, len(x.m.Status.Volumes))
	for _, v := range x.m.Status.Volumes {
		pvc, err := x.claimOf(ctx, v)
		if err != nil {
			return nil, err
		}
		size := pvc.Status.Capacity[corev1.ResourceStorage]
		c := migrate.Claim{
			Namespace: v.Namespace, Name: pvc.Name, Volume: v.Volume, SizeBytes: size.Value(),
			VolumeMode: string(corev1.PersistentVolumeFilesystem),
		}
		if isBlock(*pvc) {
			c.VolumeMode = string(corev1.PersistentVolumeBlock)
		}
		for _, mode := range pvc.Spec.AccessModes {
			c.AccessModes = append(c.AccessModes, string(mode))
		}
		if pvc.Spec.StorageClassName != nil {
			c.StorageClass = *pvc.Spec.StorageClassName
		}
		if mapped, ok := x.m.Spec.StorageClassMapping[c.StorageClass]; ok {
			c.StorageClass = mapped
		}
		x.adapt(&c, pvc)
		if c.Moved, err = x.packMoved(ctx, v); err != nil {
			return nil, err
		}
		claims = append(claims, c)
	}
	return claims, nil
}

func (x *run) claimOf(ctx context.Context, v api.MigrationVolumeInfo) (*corev1.PersistentVolumeClaim, error) {
	var pvc corev1.PersistentVolumeClaim
	err := x.Client.Get(ctx, types.NamespacedName{Namespace: v.Namespace, Name: v.PersistentVolumeClaim}, &pvc)
	if apierrors.IsNotFound(err) || err == nil && pvc.Spec.VolumeName != v.Volume {
		return nil, final("ClaimGone", "claim %s/%s is not the one that this round began with: start a new Migration", v.Namespace, v.PersistentVolumeClaim)
	}
	if err != nil {
		return nil, fmt.Errorf("read claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
	}
	return &pvc, nil
}

func (x *run) owner() csi.Owner { return csi.Owner{UID: x.m.UID, Name: x.application()} }

// nameFor is the same at each call, so that nothing is made twice.
func (x *run) nameFor(namespace, name string) string {
	return "godwit-" + shortUID(x.m.UID) + "-" + digest(namespace+"/"+name)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

func shortUID(uid types.UID) string { return strings.SplitN(string(uid), "-", 2)[0] }

func (x *run) begin(ctx context.Context) error {
	claims, err := x.targetClaims(ctx)
	if err != nil {
		return err
	}
	if free, err := x.movedFree(ctx); err != nil || !free {
		return err
	}
	if err := x.proveLossZero(ctx); err != nil {
		return err
	}
	schedule, err := x.schedule(ctx)
	if err != nil {
		return err
	}
	selection, err := x.selection(ctx)
	if err != nil {
		return err
	}
	patience, _ := x.limitOf(migrate.WaitTarget, "")
	if err := x.target.Begin(ctx, migrate.Begin{
		RoundRef: x.round(), Volumes: claims,
		StartApplications: isTrue(x.m.Spec.StartApplications, false),
		IncludeResources:  isTrue(x.m.Spec.IncludeResources, true),
		Stage:             isTrue(x.m.Spec.Stage, false), Activate: isTrue(x.m.Spec.Activate, false), Verify: string(x.m.Spec.Verify),
		AwaitVouch: x.m.Spec.AdminClusterPair != "", Schedule: schedule, Patience: patience, Selection: selection,
	}); err != nil {
		return fmt.Errorf("tell the target of round %s: %w", x.m.Status.Round, err)
	}
	if err := x.vouch(ctx, claims); err != nil {
		return err
	}
	for i := range x.m.Status.Volumes {
		v := &x.m.Status.Volumes[i]
		v.Step, v.Reason = stepRestore, "Volume migration has started. Restore in progress."
		if isMoved(*v) {
			v.Reason = reasonHandedOver
		}
	}
	x.mark(conditionBegun, "TargetTold", "the target brings up round "+x.m.Status.Round)
	return nil
}

// schedule is what the target shows of the schedule that made this Migration; nil
// where none did, or where it is gone.
func (x *run) schedule(ctx context.Context) (*migrate.Schedule, error) {
	owner := metav1.GetControllerOf(x.m)
	if owner == nil || owner.Kind != "MigrationSchedule" {
		return nil, nil //nolint:nilnil // no schedule is no error
	}
	var s api.MigrationSchedule
	err := x.Client.Get(ctx, types.NamespacedName{Namespace: x.m.Namespace, Name: owner.Name}, &s)
	if err != nil || s.UID != owner.UID {
		return nil, client.IgnoreNotFound(err)
	}
	template, err := json.Marshal(s.Spec.Template.Spec)
	if err != nil {
		return nil, fmt.Errorf("encode the template of MigrationSchedule %s/%s: %w", s.Namespace, s.Name, err)
	}
	return &migrate.Schedule{Name: s.Name, Policy: s.Spec.SchedulePolicyName, AutoSuspend: s.Spec.AutoSuspend, Template: template}, nil
}

// release drops what a round needed on the source. Images and recovery points stay.
func (x *run) release(ctx context.Context) error {
	settled, ruleErr := x.endRules(ctx)
	dropped, hookErr := x.dropHooks(ctx)
	rounds, roundErr := x.dropRounds(ctx)
	done, err := x.transfers().DropAll(ctx, x.m.UID)
	if err = errors.Join(err, ruleErr, hookErr, roundErr); err != nil || !done || !settled || !dropped || !rounds {
		return err // A transfer that still runs holds its device.
	}
	if err := x.dropObjects(ctx); err != nil {
		return err
	}
	for _, v := range x.m.Status.Volumes {
		released, err := x.Snapshots.Release(ctx, x.exposureOwner(v))
		if err != nil {
			return fmt.Errorf("take down the exposure of claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
		}
		done = done && released
	}
	if !done {
		return nil
	}
	if done, err = x.settleBases(ctx); err != nil || !done {
		return err
	}
	if done, err = x.Snapshots.Release(ctx, x.owner()); err != nil {
		return fmt.Errorf("release the snapshots of %s: %w", x.application(), err)
	}
	if done {
		x.mark(conditionReleased, "Released", "no snapshot, exposure or transfer is left on the source")
	}
	return nil
}

// settleBases releases what this round's snapshots replaced where there will be another
// round, and drops all bases where the application has moved for good.
func (x *run) settleBases(ctx context.Context) (bool, error) {
	if x.observed.Ended && !x.observed.Failed && !x.keepsStandby() {
		return x.dropBook(ctx)
	}
	return x.releaseStale(ctx)
}

// forget takes back what the target has of a Migration that failed, and drops
// its record of one that was deleted. With the last Migration of an application
// goes all that was kept for another one.
func (x *run) forget(ctx context.Context) error {
	last := x.observed.Deleting && x.observed.Last
	outlives, err := x.copyOutlives(ctx)
	if err != nil {
		return err
	}
	whole, cancelled := last && !outlives, false
	if x.target != nil {
		cancelled, err = x.target.Cancel(ctx, migrate.Cancel{RoundRef: x.round(), Whole: whole, Unfinished: x.observed.Failed || !x.observed.Ended})
	}
	if errors.Is(err, migrate.ErrActivated) {
		x.wasTooLate(err)
		return nil
	}
	reason, message := "Cleared", "nothing of this round is left on the target"
	if !cancelled {
		if !x.tiredOfTarget() {
			return err
		}
		x.warn("TargetNotCleared", "the target could not be asked to clean up round %s (%v): look there for Standby objects of %s", x.m.Status.Round, err, x.application())
		reason, message = reasonGaveUp, "the target did not answer in time"
	}
	if last {
		if done, err := x.dropBook(ctx); err != nil || !done {
			return err
		}
	}
	x.mark(conditionCleared, reason, message)
	return nil
}

// copyOutlives is true where the target's copy stays although the last Migration
// of the application goes: a schedule's copy is kept for the day on which the
// source is lost, and the deletion of its namespace may be that day.
func (x *run) copyOutlives(ctx context.Context) (bool, error) {
	if x.m.Annotations[api.AnnotationScheduleName] != "" {
		return true, nil
	}
	var ns corev1.Namespace
	if err := x.Client.Get(ctx, types.NamespacedName{Name: x.m.Namespace}, &ns); err != nil {
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
	return !ns.DeletionTimestamp.IsZero(), nil
}

// tiredOfTarget is true once a target need not be waited for any longer: it had
// its time, or there is no pair by which to reach it.
func (x *run) tiredOfTarget() bool {
	if !x.observed.Pair.Found {
		return true
	}
	// A target that cannot be asked may be about to start the application: what was
	// stopped here for it stays so until it can.
	if !x.observed.Restored && x.observed.Sealed {
		return false
	}
	since := x.m.DeletionTimestamp
	if since == nil {
		since = x.m.Status.FinishTimestamp
	}
	return since != nil && x.Now().Sub(since.Time) > forgetPatience
}

// clearUp ends what a Migration that did not succeed has under way on both sides
// at once, and starts the source again when the target has nothing of it any more.
func (x *run) clearUp(ctx context.Context) error {
	var released, forgotten error
	if !x.observed.Released {
		released = x.release(ctx)
	}
	if !x.observed.Forgotten {
		forgotten = x.forget(ctx)
	}
	if x.observed.Restored || forgotten != nil || !x.observed.Forgotten && !x.has(conditionCleared) {
		return errors.Join(released, forgotten)
	}
	// Nothing that is left on the source keeps the application from its volumes.
	return errors.Join(released, x.undoSource(ctx))
}

// cancelled ends a Migration since its owner said so.
func (x *run) cancelled(reason, message string) {
	x.fail(reason, message)
	x.m.Status.Status = api.MigrationStatusCancelled
	for i := range x.m.Status.Volumes {
		if v := &x.m.Status.Volumes[i]; v.Status == api.MigrationStatusFailed {
			v.Status, v.Reason = api.MigrationStatusCancelled, message
		}
	}
}

func (x *run) fail(reason, message string) {
	now := metav1.NewTime(x.Now())
	s := &x.m.Status
	s.Stage, s.Status, s.FinishTimestamp = api.MigrationStageFinal, api.MigrationStatusFailed, &now
	for i := range s.Volumes {
		if v := &s.Volumes[i]; v.Status != api.MigrationStatusSuccessful && v.Status != api.MigrationStatusFailed {
			v.Status, v.Reason = api.MigrationStatusFailed, fmt.Sprintf("Migration %s failed for volume: %s", x.m.Name, message)
		}
	}
	x.ready(metav1.ConditionFalse, reason, message)
}

// elapsed is what stork prints for a span of time that may not have begun.
func elapsed(from metav1.Time, to *metav1.Time, now time.Time) string {
	if from.IsZero() {
		return "NA"
	}
	end := now
	if to != nil {
		end = to.Time
	}
	return end.Sub(from.Time).Round(time.Second).String()
}

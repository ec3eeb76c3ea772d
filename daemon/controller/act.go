package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	stepRestore  = "Restore"
	stepDone     = "Done"
)

// admit records the round and its volumes. From here on the status, not the
// cluster, says what moves.
func (x *run) admit(context.Context) error {
	s := &x.m.Status
	s.Round = x.m.CreationTimestamp.UTC().Format("20060102T150405Z") + "-" + shortUID(x.m.UID)
	s.Stage, s.Status = api.MigrationStageVolumes, api.MigrationStatusPending
	s.Volumes = nil
	for _, c := range x.claims {
		v := api.MigrationVolumeInfo{
			PersistentVolumeClaim: c.pvc.Name, Namespace: c.pvc.Namespace, Volume: c.pvc.Spec.VolumeName,
			Status: api.MigrationStatusPending, Step: stepSnapshot, BytesTotal: c.size,
			Method: api.TransferMethod(c.choice.Method), MethodReason: c.choice.Reason, Live: c.choice.Live,
		}
		if c.choice.Live {
			v.Step = stepBackup
			x.warn("LiveCopy", "claim %s/%s: %s", v.Namespace, v.PersistentVolumeClaim, c.choice.Reason)
		}
		s.Volumes = append(s.Volumes, v)
	}
	for _, n := range x.observed.Namespaces {
		if !n.Exists {
			x.warn("NamespaceNotFound", "namespace %s does not exist and is left out", n.Name)
		}
	}
	x.mark(conditionAdmitted, "RoundStarted", "round "+s.Round)
	return nil
}

func (x *run) askTarget(ctx context.Context) error {
	claims, err := x.targetClaims(ctx)
	if err != nil {
		return err
	}
	problems, err := x.target.Preflight(ctx, migrate.Preflight{
		Application: x.application(), Namespaces: x.m.Spec.Namespaces, Volumes: claims,
	})
	if err != nil {
		return fmt.Errorf("ask the target what would fail: %w", err)
	}
	if len(problems) > 0 {
		lines := make([]string, 0, len(problems))
		for _, p := range problems {
			lines = append(lines, p.Message)
		}
		return final(problems[0].Reason, "the target would refuse: %s", strings.Join(lines, "; "))
	}
	x.m.Status.Status = api.MigrationStatusInProgress
	x.mark(conditionChecked, "NoProblems", "the target can take the application")
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

// takeSnapshots takes all of them before any is read, so that the volumes of a
// round are as near to one moment as the storage allows.
func (x *run) takeSnapshots(ctx context.Context) error {
	ready := true
	for i := range x.m.Status.Volumes {
		v := &x.m.Status.Volumes[i]
		if v.Step != stepSnapshot {
			continue
		}
		state, err := x.snapshot(ctx, *v)
		if err != nil {
			return err
		}
		v.Status, v.Reason = api.MigrationStatusInProgress, "Waiting for the snapshot."
		if state.Err != "" {
			v.Reason = "Waiting for the snapshot: " + state.Err
			x.waiting("SnapshotNotReady", fmt.Sprintf("claim %s/%s: %s", v.Namespace, v.PersistentVolumeClaim, state.Err))
		}
		ready = ready && state.Ready
	}
	if !ready {
		return nil
	}
	for i := range x.m.Status.Volumes {
		if v := &x.m.Status.Volumes[i]; v.Step == stepSnapshot {
			v.Step, v.Reason = stepBackup, "Volume migration has started. Backup in progress."
		}
	}
	x.working("Backup", "storing the volumes' images")
	return nil
}

func (x *run) snapshot(ctx context.Context, v api.MigrationVolumeInfo) (csi.SnapshotState, error) {
	pvc, err := x.claimOf(ctx, v)
	if err != nil {
		return csi.SnapshotState{}, err
	}
	capability, err := x.Snapshots.Capability(ctx, pvc)
	if err != nil {
		return csi.SnapshotState{}, fmt.Errorf("claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
	}
	state, err := x.Snapshots.EnsureSnapshot(ctx, csi.SnapshotRequest{
		Owner: x.owner(), Name: x.nameFor(v.Namespace, v.PersistentVolumeClaim),
		Namespace: v.Namespace, Claim: v.PersistentVolumeClaim, Class: capability.SnapshotClass,
	})
	if err != nil {
		return state, fmt.Errorf("snapshot of claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
	}
	return state, nil
}

func (x *run) owner() csi.Owner { return csi.Owner{UID: x.m.UID, Name: x.application()} }

// nameFor is the same at each call, so that nothing is made twice.
func (x *run) nameFor(namespace, name string) string {
	sum := sha256.Sum256([]byte(namespace + "/" + name))
	return "godwit-" + shortUID(x.m.UID) + "-" + hex.EncodeToString(sum[:4])
}

func shortUID(uid types.UID) string { return strings.SplitN(string(uid), "-", 2)[0] }

func (x *run) begin(ctx context.Context) error {
	claims, err := x.targetClaims(ctx)
	if err != nil {
		return err
	}
	if err := x.target.Begin(ctx, migrate.Begin{
		RoundRef: x.round(), Volumes: claims,
		StartApplications: isTrue(x.m.Spec.StartApplications, false),
		IncludeResources:  isTrue(x.m.Spec.IncludeResources, true),
	}); err != nil {
		return fmt.Errorf("tell the target of round %s: %w", x.m.Status.Round, err)
	}
	for i := range x.m.Status.Volumes {
		x.m.Status.Volumes[i].Step = stepRestore
		x.m.Status.Volumes[i].Reason = "Volume migration has started. Restore in progress."
	}
	x.mark(conditionBegun, "TargetTold", "the target brings up round "+x.m.Status.Round)
	return nil
}

// release drops what a round needed on the source. Images and recovery points stay.
func (x *run) release(ctx context.Context) error {
	var transfers api.VolumeTransferList
	if err := x.Client.List(ctx, &transfers, client.InNamespace(x.Namespace),
		client.MatchingLabels{labelOwner: string(x.m.UID)}); err != nil {
		return fmt.Errorf("list transfers of %s: %w", x.application(), err)
	}
	for i := range transfers.Items {
		if err := x.Client.Delete(ctx, &transfers.Items[i]); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete transfer %s: %w", transfers.Items[i].Name, err)
		}
	}
	if len(transfers.Items) > 0 {
		return nil // A transfer that still runs holds its device.
	}
	done, err := x.Snapshots.Release(ctx, x.owner())
	if err != nil {
		return fmt.Errorf("release the snapshots of %s: %w", x.application(), err)
	}
	if done {
		x.mark(conditionReleased, "Released", "no snapshot, exposure or transfer is left on the source")
	}
	return nil
}

// forget takes back what the target has of a Migration that failed, and drops
// its record of one that was deleted.
func (x *run) forget(ctx context.Context) error {
	since := x.m.DeletionTimestamp
	if since == nil {
		since = x.m.Status.FinishTimestamp
	}
	done, err := false, error(nil)
	if x.target != nil {
		done, err = x.target.Cancel(ctx, x.round())
	}
	if done {
		x.mark(conditionCleared, "Cleared", "nothing of this round is left on the target")
		return nil
	}
	if since != nil && x.Now().Sub(since.Time) > forgetPatience {
		x.warn("TargetNotCleared", "the target could not be asked to clean up round %s (%v): look there for Standby objects of %s", x.m.Status.Round, err, x.application())
		x.mark(conditionCleared, "GaveUp", "the target did not answer in time")
		return nil
	}
	return err
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

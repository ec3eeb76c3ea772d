package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/snapshot"
)

// What users of stork look for, word for word.
const (
	reasonResource = "Resource migrated successfully"
	reasonVolume   = "Migration successful for volume"
	// reasonHandedOver is Godwit's own, for a volume that is not copied.
	reasonHandedOver = "The volume is handed over without a copy."
	eventSuccess     = "Successful"
)

func (x *run) mark(condition, reason, message string) {
	meta.SetStatusCondition(&x.m.Status.Conditions, metav1.Condition{
		Type: condition, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: x.m.Generation,
	})
}

func (x *run) ready(status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&x.m.Status.Conditions, metav1.Condition{
		Type: api.ConditionReady, Status: status, Reason: reason, Message: message, ObservedGeneration: x.m.Generation,
	})
}

// waiting says what stands in the way of a Migration that has not ended.
func (x *run) waiting(reason, message string) {
	if x.m.Status.Stage == api.MigrationStageFinal {
		return
	}
	if x.m.Status.Status == api.MigrationStatusInitial {
		x.m.Status.Status = api.MigrationStatusPending
	}
	x.ready(metav1.ConditionFalse, reason, message)
}

// working says what is under way; not once the status says how it ended.
func (x *run) working(reason, message string) {
	if x.m.Status.Stage != api.MigrationStageFinal {
		x.ready(metav1.ConditionFalse, reason, message)
	}
}

func (x *run) warn(reason, format string, args ...any) {
	x.Events.Eventf(x.m, nil, corev1.EventTypeWarning, reason, "Migrate", format, args...)
}

// showTarget carries over how far the target is.
func (x *run) showTarget(context.Context) error {
	t, s := x.observed.Target, &x.m.Status
	if t == nil {
		return nil
	}
	x.measure()
	x.followTarget(t.Retries)
	for _, tv := range t.Volumes {
		for i := range s.Volumes {
			if v := &s.Volumes[i]; v.Namespace == tv.Namespace && v.PersistentVolumeClaim == tv.Name {
				showVolume(v, tv)
			}
		}
	}
	s.Resources = s.Resources[:0]
	for _, r := range t.Resources {
		s.Resources = append(s.Resources, resourceInfo(r))
	}
	message := t.Message
	switch t.Phase {
	case migrate.TargetApplications, migrate.TargetReady:
		if s.Stage != api.MigrationStageApplications {
			now := metav1.NewTime(x.Now())
			s.Stage, s.VolumeMigrationFinishTimestamp = api.MigrationStageApplications, &now
		}
		x.markVerified()
		x.working("Applications", strings.TrimSpace("the target applies the objects "+message))
	default:
		x.working("Restore", strings.TrimSpace("the target brings the volumes forward "+message))
	}
	return nil
}

func showVolume(v *api.MigrationVolumeInfo, t migrate.TargetVolume) {
	v.BytesWritten = t.BytesWritten
	v.TargetVolume = t.Volume
	if isMoved(*v) {
		v.Reason = strings.TrimSpace(reasonHandedOver + " " + t.Reason)
		return
	}
	v.BytesTotal, v.BytesDone, v.BytesPerSecond, v.SecondsLeft = t.BytesTotal, t.BytesDone, t.BytesPerSecond, t.ETASec
	v.Reason = fmt.Sprintf("Volume migration has started. Restore in progress. BytesDone: %d BytesTotal: %d ETA: %d seconds",
		t.BytesDone, t.BytesTotal, t.ETASec)
	if t.Reason != "" {
		v.Reason += " " + t.Reason
	}
}

func resourceInfo(r migrate.TargetResource) api.MigrationResourceInfo {
	info := api.MigrationResourceInfo{
		Name: r.Name, Namespace: r.Namespace, Group: r.Group, Version: r.Version, Kind: r.Kind,
		Status: api.MigrationStatusSuccessful, Reason: reasonResource,
	}
	if info.Group == "" {
		info.Group = "core"
	}
	info.TransformedBy = r.TransformedBy
	switch {
	case r.Purged:
		info.Status, info.Reason = api.MigrationStatusPurged, r.Reason
	case !r.OK:
		info.Status, info.Reason = api.MigrationStatusFailed, "Error applying resource: "+r.Reason
	}
	return info
}

// markUploaded tells that all images are stored, and by which rungs of the
// ladder they were read: a copy never becomes a full one in silence.
func (x *run) markUploaded() {
	copied := slices.DeleteFunc(slices.Clone(x.m.Status.Volumes), isMoved)
	x.mark(conditionUploaded, "Stored", fmt.Sprintf("%d images are in the repository", len(copied)))
	status, reason, rungs := metav1.ConditionTrue, "Delta", []string{}
	for _, v := range copied {
		if v.Rung != string(snapshot.MethodDelta) && status == metav1.ConditionTrue {
			status, reason = metav1.ConditionFalse, "ReadMore"
		}
		rungs = append(rungs, fmt.Sprintf("%s/%s: %s", v.Namespace, v.PersistentVolumeClaim, v.Rung))
	}
	if len(rungs) == 0 {
		return
	}
	meta.SetStatusCondition(&x.m.Status.Conditions, metav1.Condition{
		Type: conditionIncremental, Status: status, Reason: reason, Message: strings.Join(rungs, "; "), ObservedGeneration: x.m.Generation,
	})
}

// markVerified tells how the target's volumes were checked: none is handed over
// before it was.
func (x *run) markVerified() {
	allMoved := !slices.ContainsFunc(x.m.Status.Volumes, func(v api.MigrationVolumeInfo) bool { return !isMoved(v) })
	if allMoved || x.has(conditionVerified) {
		return
	}
	mode := x.m.Spec.Verify
	if mode == "" {
		mode = api.VerifySealed
	}
	said := map[api.VerifyMode]string{
		api.VerifySealed:   "every chunk was checked against its hash as it was written",
		api.VerifyReadBack: "what was written was read again from the volumes",
		api.VerifySample:   "what was written, and a part of the rest, was read again from the volumes",
		api.VerifyFull:     "the volumes were read again from one end to the other",
	}[mode]
	x.mark(conditionVerified, string(mode), said)
}

// finish records a round that the target has reached whole. A target that was
// quicker than it was asked is shown with its objects first: who watches sees
// every stage.
func (x *run) finish(ctx context.Context) error {
	shown := x.m.Status.Stage == api.MigrationStageApplications
	if err := x.showTarget(ctx); err != nil || !shown {
		return err
	}
	now := metav1.NewTime(x.Now())
	s := &x.m.Status
	s.Stage, s.Status, s.FinishTimestamp, s.ResourceMigrationFinishTimestamp = api.MigrationStageFinal, api.MigrationStatusSuccessful, &now, &now
	for i := range s.Volumes {
		v := &s.Volumes[i]
		v.Status, v.Reason, v.Step = api.MigrationStatusSuccessful, reasonVolume, stepDone
		v.BytesDone, v.BytesPerSecond, v.SecondsLeft = v.BytesTotal, 0, 0
	}
	x.markVerified()
	failed := 0
	for _, r := range s.Resources {
		if r.Status != api.MigrationStatusSuccessful && r.Status != api.MigrationStatusPurged {
			failed++
		}
	}
	if !isTrue(x.m.Spec.Stage, false) {
		x.mark(conditionApplied, "Applied", fmt.Sprintf("%d objects, %d of which could not be applied", len(s.Resources), failed))
	}
	if late := x.hookFailedLate(); late != "" && failed == 0 {
		s.Status = api.MigrationStatusPartialSuccess
		x.mark(conditionComplete, "PartialSuccess", "the application is on the target, and a hook failed there")
		x.ready(metav1.ConditionFalse, "HookFailed", "the application is on the target, but "+late)
		return nil
	}
	if failed > 0 {
		s.Status = api.MigrationStatusPartialSuccess
		x.mark(conditionComplete, "PartialSuccess", "the round is on the target, without some of its objects")
		x.ready(metav1.ConditionFalse, "PartialSuccess", fmt.Sprintf("%d of %d objects could not be applied: see status.resources", failed, len(s.Resources)))
		return nil
	}
	if late := x.neverStarted(); late != "" {
		s.Status = api.MigrationStatusPartialSuccess
		x.mark(conditionComplete, "PartialSuccess", late)
		x.ready(metav1.ConditionFalse, "NotStarted", late)
		return nil
	}
	said := "the application is on the target"
	if isTrue(x.m.Spec.Stage, false) {
		said = "the standby holds round " + s.Round
	}
	x.mark(conditionComplete, eventSuccess, said)
	x.ready(metav1.ConditionTrue, eventSuccess, said)
	return nil
}

// summarize counts what the rest of the status says.
func (x *run) summarize() {
	s := &x.m.Status
	if !x.has(conditionAdmitted) {
		return
	}
	sum := api.MigrationSummary{TotalNumberOfVolumes: int64(len(s.Volumes)), TotalNumberOfResources: int64(len(s.Resources))}
	for _, v := range s.Volumes {
		if v.Status == api.MigrationStatusSuccessful {
			sum.NumberOfMigratedVolumes++
			sum.TotalBytesMigrated += v.BytesTotal
		}
	}
	for _, r := range s.Resources {
		if r.Status == api.MigrationStatusSuccessful {
			sum.NumberOfMigratedResources++
		}
	}
	sum.Volumes = fmt.Sprintf("%d/%d", sum.NumberOfMigratedVolumes, sum.TotalNumberOfVolumes)
	sum.Resources = fmt.Sprintf("%d/%d", sum.NumberOfMigratedResources, sum.TotalNumberOfResources)
	volumesEnd := s.VolumeMigrationFinishTimestamp
	if volumesEnd == nil {
		volumesEnd = s.FinishTimestamp
	}
	sum.ElapsedTimeForVolumeMigration = elapsed(x.m.CreationTimestamp, volumesEnd, x.Now())
	sum.ElapsedTimeForResourceMigration = "NA"
	if s.VolumeMigrationFinishTimestamp != nil {
		sum.ElapsedTimeForResourceMigration = elapsed(*s.VolumeMigrationFinishTimestamp, s.FinishTimestamp, x.Now())
	}
	s.Summary = &sum
}

// announce tells as events what the status now says for the first time.
func (x *run) announce() {
	if x.m.Status.Stage != x.before.Status.Stage && x.m.Status.Stage == api.MigrationStageFinal {
		x.announceEnd()
		return
	}
	now, before := meta.FindStatusCondition(x.m.Status.Conditions, api.ConditionReady), meta.FindStatusCondition(x.before.Status.Conditions, api.ConditionReady)
	if now != nil && (before == nil || before.Reason != now.Reason) && x.observed.Admitted == x.has(conditionAdmitted) && now.Status == metav1.ConditionFalse {
		kind := corev1.EventTypeNormal
		if isTrouble(now.Reason) {
			kind = corev1.EventTypeWarning
		}
		x.Events.Eventf(x.m, nil, kind, now.Reason, "Migrate", "%s", now.Message)
	}
}

func isTrouble(reason string) bool {
	switch reason {
	case "Backup", "Restore", "Applications", conditionPreRule, conditionPostRule, reasonHook:
		return false
	}
	return true
}

func (x *run) announceEnd() {
	s := x.m.Status
	for _, v := range s.Volumes {
		if v.Status == api.MigrationStatusSuccessful {
			related := &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: v.Namespace, Name: v.PersistentVolumeClaim}
			// An action of its own: the recorder takes events that differ only in
			// their words for one, and the claim has its own below.
			x.Events.Eventf(x.m, related, corev1.EventTypeNormal, eventSuccess, "MigrateVolume", "Volume %v migrated successfully", v.Volume)
		}
	}
	for _, r := range s.Resources {
		group := r.Group
		if group == "core" {
			group = ""
		}
		gv := r.Version
		if group != "" {
			gv = group + "/" + r.Version
		}
		kind, reason := corev1.EventTypeNormal, eventSuccess
		if r.Status != api.MigrationStatusSuccessful {
			kind, reason = corev1.EventTypeWarning, string(r.Status)
		}
		related := &corev1.ObjectReference{APIVersion: gv, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
		x.Events.Eventf(x.m, related, kind, reason, "Migrate", "%s/%s, Kind=%s %s/%s: %s", group, r.Version, r.Kind, r.Namespace, r.Name, r.Reason)
	}
	if ready := meta.FindStatusCondition(s.Conditions, api.ConditionReady); ready != nil && ready.Status == metav1.ConditionFalse {
		x.warn(ready.Reason, "%s", ready.Message)
	}
}

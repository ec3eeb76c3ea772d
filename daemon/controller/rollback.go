package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

const (
	// conditionRollingBack is set before the target is asked to take anything back,
	// and is false once that was refused.
	conditionRollingBack = "RollingBack"
	conditionRolledBack  = "RolledBack"
)

// rollbackAsked is true for a Migration that succeeded and is to be taken back. What
// was refused is asked again only when the Migration is changed.
func (x *run) rollbackAsked() bool {
	s := x.m.Status
	succeeded := s.Status == api.MigrationStatusSuccessful || s.Status == api.MigrationStatusPartialSuccess
	if s.Stage != api.MigrationStageFinal || !succeeded || x.m.Status.Plan != nil {
		return false
	}
	if x.has(conditionRollingBack) {
		return true
	}
	c := meta.FindStatusCondition(s.Conditions, conditionRollingBack)
	refused := c != nil && c.ObservedGeneration == x.m.Generation
	return isTrue(x.m.Spec.Rollback, false) && !refused && x.m.DeletionTimestamp.IsZero()
}

// rollBack has the target taken back first, and only then starts the source: the
// application must never run on both.
func (x *run) rollBack(ctx context.Context) error {
	if !x.has(conditionRollingBack) {
		if isTrue(x.m.Spec.Stage, false) {
			x.refuseRollback("StageRun", "a stage run hands nothing over, so there is nothing to take back: delete it instead")
			return nil
		}
		if why, err := x.writesOfItsOwn(ctx); err != nil || why != "" {
			if why != "" {
				x.refuseRollback("SourceWritten", why)
			}
			return err
		}
		x.mark(conditionRollingBack, "Asked", "the target is asked to take round "+x.m.Status.Round+" back")
		return nil // Written down before the target may begin.
	}
	if x.target == nil {
		return x.rollbackWaits("waiting for ClusterPair " + x.m.Spec.ClusterPair + ": " + x.observed.Pair.Message)
	}
	report, err := x.target.RollBack(ctx, migrate.RollBack{
		RoundRef: x.round(), Request: x.m.Generation,
		DropWrites: isTrue(x.m.Spec.DropTargetWrites, false), BringWrites: isTrue(x.m.Spec.BringTargetWrites, false),
	})
	switch {
	case errors.Is(err, migrate.ErrUnknownRound):
		x.refuseRollback("Final", fmt.Sprintf("the target keeps no record of round %s any more, so this Migration is final: move the application back by a Migration from there", x.m.Status.Round))
		return nil
	case errors.Is(err, migrate.ErrActivated):
		x.refuseRollback(api.ReasonApplicationActivated, err.Error()+": this Migration is final")
		return nil
	case err != nil:
		return x.rollbackWaits(err.Error())
	case report.Refused:
		x.refuseRollback("TargetWritten", report.Message)
		return nil
	case !report.Done:
		return x.rollbackWaits(report.Message)
	}
	if err := x.givePoliciesBack(ctx); err != nil {
		return x.rollbackWaits("giving volumes back their policy: " + err.Error())
	}
	if err := x.restore(ctx); err != nil {
		return x.rollbackWaits("starting the source: " + err.Error())
	}
	x.rolledBack(report.Message)
	return nil
}

// writesOfItsOwn says why what the target wrote cannot come back: the source ran since
// its snapshots, and would lose what it wrote itself. It is asked before anything comes.
func (x *run) writesOfItsOwn(ctx context.Context) (string, error) {
	if !isTrue(x.m.Spec.BringTargetWrites, false) {
		return "", nil
	}
	const lost = ", and what comes back from the target would overwrite what was written here since: roll back without bringTargetWrites, or move the application back by a Migration from there"
	if !x.has(conditionQuiesced) {
		return "the source was not stopped for this Migration" + lost, nil
	}
	user, err := x.userOfVolumes(ctx)
	if err != nil || user == "" {
		return "", err
	}
	return "the source was started again (" + user + ")" + lost, nil
}

// rollbackWaits tells what a rollback waits for. A Migration that is deleted does
// not wait for ever for a target that is gone.
func (x *run) rollbackWaits(message string) error {
	if x.observed.Deleting && !x.observed.Pair.Found {
		x.refuseRollback("GaveUp", "the pair is gone, so the target cannot be asked: "+message)
		return nil
	}
	x.mark(conditionRollingBack, "Waiting", strings.TrimSuffix("the target takes the round back: "+message, ": "))
	return nil
}

func (x *run) refuseRollback(reason, message string) {
	meta.SetStatusCondition(&x.m.Status.Conditions, metav1.Condition{
		Type: conditionRollingBack, Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: x.m.Generation,
	})
	x.warn("RollbackRefused", "%s", message[:min(len(message), longestEvent)])
}

// longestEvent is what the API takes.
const longestEvent = 1000

func (x *run) rolledBack(message string) {
	s := &x.m.Status
	s.Status = api.MigrationStatusRolledBack
	for i := range s.Volumes {
		s.Volumes[i].Status, s.Volumes[i].Reason = api.MigrationStatusRolledBack, "the target's volume was taken back"
	}
	for i := range s.Resources {
		if r := &s.Resources[i]; r.Status == api.MigrationStatusSuccessful {
			r.Status, r.Reason = api.MigrationStatusRolledBack, "what was done to it on the target was taken back"
		}
	}
	said := fmt.Sprintf("the target was taken back, and %d workloads run again on the source: %s", len(s.Quiesced), message)
	meta.RemoveStatusCondition(&s.Conditions, conditionRollingBack)
	x.mark(conditionRolledBack, "RolledBack", said)
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: conditionComplete, Status: metav1.ConditionFalse, Reason: "RolledBack", Message: said, ObservedGeneration: x.m.Generation,
	})
	x.ready(metav1.ConditionFalse, "RolledBack", said)
	x.Events.Eventf(x.m, nil, corev1.EventTypeNormal, "RolledBack", "RollBack", "%s", said[:min(len(said), longestEvent)])
}

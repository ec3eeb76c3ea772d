package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/snapshot"
)

// conditionActive remembers that the repository was asked whether this cluster
// still has the application.
const conditionActive = "Active"

const (
	// conditionElsewhere remembers that the application runs on another cluster: what
	// was stopped here for it stays so.
	conditionElsewhere = "RunsElsewhere"
	// conditionLossZero tells that nothing can have been written on the source after
	// the snapshots of a round that its target starts from.
	conditionLossZero = "LossZero"
)

// epochFresh is how long that answer is good for a round that has not begun.
const epochFresh = time.Minute

// asked is true as long as the repository's last answer is good.
func (x *run) asked() bool {
	c := meta.FindStatusCondition(x.m.Status.Conditions, conditionActive)
	return c != nil && x.Now().Sub(c.LastTransitionTime.Time) < epochFresh
}

// askEpoch asks the repository, which answers with the target out of reach too,
// whether the application was activated elsewhere.
func (x *run) askEpoch(ctx context.Context) error {
	location, err := backupLocation(x.pair)
	if err != nil {
		return err
	}
	loc, err := x.Locator.ForPeer(ctx, x.peer, location)
	if err != nil {
		return err
	}
	repository, err := x.Opener.Open(ctx, loc, false)
	if err != nil {
		return err
	}
	var e snapshot.Epoch
	if isTrue(x.m.Spec.TakeOver, false) {
		e, err = x.takeOver(ctx, repository)
	} else {
		e, err = x.ownEpoch(ctx, repository)
	}
	if err = errors.Join(err, repository.Close(ctx)); err != nil {
		return err
	}
	meta.RemoveStatusCondition(&x.m.Status.Conditions, conditionActive)
	meta.SetStatusCondition(&x.m.Status.Conditions, metav1.Condition{
		Type: conditionActive, Status: metav1.ConditionTrue, Reason: "NotSuperseded", ObservedGeneration: x.m.Generation,
		Message:            fmt.Sprintf("this cluster has the application (epoch %d)", e.Number),
		LastTransitionTime: metav1.NewTime(x.Now()),
	})
	return nil
}

// ownEpoch is the application's epoch, as long as it is this cluster's.
func (x *run) ownEpoch(ctx context.Context, repository snapshot.Epochs) (snapshot.Epoch, error) {
	key, err := x.peer.EpochPublicKey()
	if err != nil {
		return snapshot.Epoch{}, err
	}
	e, err := snapshot.EpochOf(ctx, repository, x.application(), key)
	if err == nil && e.Bars(x.ClusterID) {
		err = final(api.ReasonSuperseded,
			"%s was activated on cluster %s at %s (epoch %d), and this cluster's copy is superseded: fail back from there, or take it over here with spec.takeOver",
			e.App, e.Cluster, e.At.UTC().Format(time.RFC3339), e.Number)
	}
	return e, err
}

// takeOver raises the epoch for this cluster, whoever has the application.
func (x *run) takeOver(ctx context.Context, repository snapshot.Epochs) (snapshot.Epoch, error) {
	if x.m.Annotations[api.AnnotationScheduleName] != "" {
		return snapshot.Epoch{}, final("TakeOverRefused", "spec.takeOver is for one Migration: a schedule with it would take over again and again: remove it from the template")
	}
	public, err := x.peer.EpochPublicKey()
	if err != nil {
		return snapshot.Epoch{}, err
	}
	now, err := snapshot.EpochOf(ctx, repository, x.application(), public)
	if err != nil || !now.Bars(x.ClusterID) {
		return now, err
	}
	key, err := x.peer.EpochKey()
	if err != nil {
		return snapshot.Epoch{}, err
	}
	e, err := snapshot.Raise(ctx, repository, snapshot.RaiseRequest{App: x.application(), Cluster: x.ClusterID, From: now.Cluster, Key: key, Now: x.Now})
	if err != nil {
		return e, fmt.Errorf("take over from cluster %s: %w", now.Cluster, err)
	}
	x.warn("TakenOver", "%s is this cluster's again (epoch %d): what was written on cluster %s since is given up", x.application(), e.Number, now.Cluster)
	return e, nil
}

// elsewhere remembers that the application runs on another cluster.
func (x *run) elsewhere(why error) {
	x.mark(conditionElsewhere, "Activated", why.Error())
	if len(x.m.Status.Quiesced) > 0 {
		x.warn("StaysStopped", "the application runs on another cluster, so what was stopped here is not started again: %v", why)
	}
}

// wasTooLate ends a Migration that was to be taken back when its target had the
// application already: it did what it was for.
func (x *run) wasTooLate(why error) {
	now := metav1.NewTime(x.Now())
	s := &x.m.Status
	s.Stage, s.Status = api.MigrationStageFinal, api.MigrationStatusSuccessful
	if s.FinishTimestamp == nil {
		s.FinishTimestamp = &now
	}
	for i := range s.Volumes {
		s.Volumes[i].Status, s.Volumes[i].Reason = api.MigrationStatusSuccessful, reasonVolume
	}
	x.elsewhere(why)
	x.mark(conditionCleared, "TooLate", "the application is the target's")
	x.ready(metav1.ConditionTrue, eventSuccess, "it was too late to take it back: the application is on the target")
}

// proveLossZero sees that the source did not run between the snapshots and this
// moment: none of what was stopped runs, and no pod has a volume that moves.
func (x *run) proveLossZero(ctx context.Context) error {
	if !x.observed.Quiesce {
		return nil
	}
	user, err := x.userOfVolumes(ctx)
	if err != nil {
		return err
	}
	running, err := workload.Running(ctx, x.Objects, workload.Selection{
		Namespaces: x.namespaces(), Selectors: x.m.Spec.Selectors, ExcludeSelectors: x.m.Spec.ExcludeSelectors,
	})
	if err != nil {
		return fmt.Errorf("look whether what was stopped still is: %w", err)
	}
	for _, w := range running {
		for _, q := range x.m.Status.Quiesced {
			if stopped(q).Ref == w.Ref {
				user = fmt.Sprintf("%s was started again", w.Ref)
			}
		}
	}
	if user != "" {
		return final("SourceRan", "the source ran after its snapshots were taken, so the target would lack what it wrote: %s: find out who starts it, and try again", user)
	}
	x.mark(conditionLossZero, "SourceStopped", fmt.Sprintf(
		"no pod had any of %d volumes from %s, before their snapshots, until the target was told; the target reads back what it writes", len(x.m.Status.Volumes), x.stoppedAt()))
	return nil
}

func (x *run) stoppedAt() string {
	c := meta.FindStatusCondition(x.m.Status.Conditions, conditionQuiesced)
	if c == nil {
		return "the start"
	}
	return c.LastTransitionTime.UTC().Format(time.RFC3339)
}

// isElsewhere is true for what a round is refused with since another cluster has the
// application.
func isElsewhere(err error) bool {
	var f *finalError
	return errors.Is(err, migrate.ErrActivated) || errors.As(err, &f) && f.reason == api.ReasonSuperseded
}

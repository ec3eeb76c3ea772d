package target

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// Begin writes the Standby, or turns the one that is at rest to the next round. A
// round that the Standby reached already stays as it is.
func (s *session) Begin(ctx context.Context, b migrate.Begin) error {
	if err := s.admit(b.Application, b.Namespaces, b.Volumes); err != nil {
		return err
	}
	if err := s.admitMoved(b); err != nil {
		return err
	}
	if err := s.startedHere(ctx, b.Application); err != nil {
		return err
	}
	if err := s.keepCopy(ctx, b); err != nil {
		return err
	}
	spec, err := s.specOf(b)
	if err != nil {
		return err
	}
	standby := &api.Standby{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: standbyName(s.peer.PairID, b.Application),
			Labels: map[string]string{labelManaged: managedBy, labelPair: s.peer.PairID},
		},
		Spec: spec,
	}
	err = s.Client.Create(ctx, standby)
	if err == nil {
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Standby %s: %w", standby.Name, err)
	}
	var there api.Standby
	if err := s.Live.Get(ctx, client.ObjectKeyFromObject(standby), &there); err != nil {
		return fmt.Errorf("read Standby %s: %w", standby.Name, err)
	}
	if asksFor(&there, b.Round) {
		return nil
	}
	if err := s.mayTurn(ctx, &there); err != nil {
		return err
	}
	before := there.DeepCopy()
	standby.Spec.Snapshots = there.Spec.Snapshots
	there.Spec = standby.Spec
	if err := s.Client.Patch(ctx, &there, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("turn Standby %s to round %s: %w", there.Name, b.Round, err)
	}
	return nil
}

// asksFor is true for a standby that was told of the round, and is still to bring it.
func asksFor(there *api.Standby, round string) bool {
	planned := there.Spec.Activation == nil || there.Spec.Activation.Planned
	return there.Spec.Round == round && !there.Spec.Cancel && there.DeletionTimestamp.IsZero() && planned
}

// mayTurn says why a standby cannot be turned to another round.
func (s *session) mayTurn(ctx context.Context, there *api.Standby) error {
	follows, err := s.mayFollow(ctx, there)
	if err != nil {
		return err
	}
	if !follows {
		return activated(there)
	}
	if abandoned, err := s.abandoned(ctx, there); err != nil || abandoned {
		return err
	}
	if busy := busyWith(there); busy != "" && (!isActive(there) || !reachedRound(there)) {
		return fmt.Errorf("standby %s of %s %s", there.Name, there.Spec.Application, busy)
	}
	return nil
}

func (s *session) specOf(b migrate.Begin) (api.StandbySpec, error) {
	spec := api.StandbySpec{
		PairID: s.peer.PairID, Application: b.Application, Round: b.Round, Namespaces: b.Namespaces,
		StartApplications: b.StartApplications, IncludeResources: b.IncludeResources,
		Stage: b.Stage, Verify: api.VerifyMode(b.Verify), AwaitVouch: b.AwaitVouch,
	}
	if b.Patience > 0 {
		spec.Patience = &metav1.Duration{Duration: b.Patience}
	}
	if b.Activate {
		spec.Activation = &api.StandbyActivation{Round: b.Round, Planned: true}
	}
	for _, c := range b.Volumes {
		spec.Volumes = append(spec.Volumes, api.StandbyClaim{
			Namespace: c.Namespace, Name: c.Name, StorageClass: c.StorageClass, VolumeMode: c.VolumeMode,
			AccessModes: c.AccessModes, SizeBytes: c.SizeBytes, SourceVolume: c.Volume,
			Moved: rawOf(c.Moved),
		})
	}
	if len(b.Selection) == 0 {
		return spec, nil
	}
	spec.Selection = &api.StandbySelection{}
	if err := json.Unmarshal(b.Selection, spec.Selection); err != nil {
		return spec, fmt.Errorf("the selection of round %s of %s: %w: %w", b.Round, b.Application, pairing.ErrRequest, err)
	}
	return spec, nil
}

// abandoned deletes the record of a standby that was handed over and of which the
// application's claims are all gone: there is nothing left that it speaks of.
func (s *session) abandoned(ctx context.Context, there *api.Standby) (bool, error) {
	if !reachedRound(there) || keepsNothingBack(there) || !there.DeletionTimestamp.IsZero() {
		return false, nil
	}
	for _, c := range there.Spec.Volumes {
		var pvc corev1.PersistentVolumeClaim
		err := s.Live.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: c.Name}, &pvc)
		if err == nil {
			return false, nil
		}
		if !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("read claim %s/%s: %w", c.Namespace, c.Name, err)
		}
	}
	if err := s.Client.Delete(ctx, there); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("delete Standby %s, whose volumes are gone: %w", there.Name, err)
	}
	return true, fmt.Errorf("standby %s of round %s is being removed, since the volumes that it brought are gone", there.Name, there.Spec.Round)
}

// keepsNothingBack is true for a standby whose next round takes nothing from the
// application: it has its volumes still, or brought none.
func keepsNothingBack(s *api.Standby) bool {
	return s.Spec.Stage || len(s.Spec.Volumes) == 0
}

// busyWith says why a standby cannot turn to another round now.
func busyWith(s *api.Standby) string {
	switch reached := reachedRound(s); {
	case !s.DeletionTimestamp.IsZero():
		return "is being removed: wait until it is gone"
	case s.Spec.Cancel:
		return "goes back to the round before " + s.Spec.Round + ": wait until it is there"
	case reached && keepsNothingBack(s), failedRound(s):
		return ""
	case reached:
		return "was handed over to the application in round " + s.Spec.Round + ": delete the Migration that did it, and what runs there, before another"
	}
	return "is still at work on round " + s.Spec.Round + ": wait until it is there, or cancel the Migration that asked for it"
}

// reachedRound is true once the standby is at rest at the round that is asked for.
func reachedRound(s *api.Standby) bool {
	return meta.IsStatusConditionTrue(s.Status.Conditions, conditionTidy) && s.Status.Phase == api.StandbyReady && s.Status.Bringing == s.Spec.Round && s.Status.Round == s.Spec.Round
}

// failedRound is true for a standby that gave up a round before anything of it was
// handed over: the next one may do better.
func failedRound(s *api.Standby) bool {
	is := func(condition string) bool { return meta.IsStatusConditionTrue(s.Status.Conditions, condition) }
	return s.Status.Phase == api.StandbyFailed && s.Status.Bringing == s.Spec.Round && is(conditionTidy) && !is(conditionHandingOver)
}

// standbyName is readable, and unique per pair and application.
func standbyName(pairID, application string) string {
	sum := sha256.Sum256([]byte(pairID + "/" + application))
	name := strings.ReplaceAll(application, "/", "-")
	if len(name) > 40 {
		name = name[:40]
	}
	return strings.Trim(name, "-.") + "-" + hex.EncodeToString(sum[:4])
}

// find gives the Standby of an application; of that round, where one is named.
func (s *session) find(ctx context.Context, r migrate.RoundRef, anyRound bool) (*api.Standby, error) {
	if err := s.admit(r.Application, r.Namespaces, nil); err != nil {
		return nil, err
	}
	var standby api.Standby
	err := s.Live.Get(ctx, types.NamespacedName{Namespace: s.Namespace, Name: standbyName(s.peer.PairID, r.Application)}, &standby)
	other := standby.Spec.PairID != s.peer.PairID || standby.Spec.Round != r.Round && !anyRound
	if apierrors.IsNotFound(err) || err == nil && other {
		return nil, fmt.Errorf("round %s of %s: %w", r.Round, r.Application, migrate.ErrUnknownRound)
	}
	if err != nil {
		return nil, fmt.Errorf("read the Standby of %s: %w", r.Application, err)
	}
	return &standby, nil
}

// Status tells how far the Standby is. What it still says of an earlier round is
// not told as if it were of this one.
func (s *session) Status(ctx context.Context, r migrate.RoundRef) (migrate.TargetStatus, error) {
	standby, err := s.find(ctx, r, false)
	if err != nil {
		return migrate.TargetStatus{}, err
	}
	if standby.Status.Bringing != standby.Spec.Round || standby.Spec.Cancel {
		return migrate.TargetStatus{Phase: migrate.TargetPending}, nil
	}
	status := migrate.TargetStatus{Phase: migrate.TargetPhase(standby.Status.Phase), Message: standby.Status.Message}
	if status.Phase == "" {
		status.Phase = migrate.TargetPending
	}
	for _, v := range standby.Status.Volumes {
		status.Volumes = append(status.Volumes, migrate.TargetVolume{
			Namespace: v.Namespace, Name: v.Name, Volume: v.Volume, Reason: v.Reason,
			BytesTotal: v.BytesTotal, BytesDone: v.BytesDone, BytesPerSecond: v.BytesPerSecond, ETASec: v.SecondsLeft,
			BytesWritten: v.BytesWritten,
		})
	}
	if status.Phase == migrate.TargetReady && standby.Spec.StartApplications {
		if status.FirstReady, err = s.firstReady(ctx, standby); err != nil {
			return migrate.TargetStatus{}, err
		}
	}
	for _, r := range standby.Status.Retries {
		status.Retries = append(status.Retries, migrate.TargetRetry{
			Stage: r.Stage, Volume: r.Volume, Count: r.Count, Reason: r.Reason, First: r.First.Time, Last: r.Last.Time,
		})
	}
	for _, i := range standby.Status.Resources {
		status.Resources = append(status.Resources, migrate.TargetResource{
			Group: i.Group, Version: i.Version, Kind: i.Kind, Namespace: i.Namespace, Name: i.Name,
			OK: i.Status != api.MigrationStatusFailed, Purged: i.Status == api.MigrationStatusPurged,
			Reason: i.Reason, TransformedBy: i.TransformedBy,
		})
	}
	return status, nil
}

// firstReady is when the first pod of the application was ready; zero for not yet.
func (s *session) firstReady(ctx context.Context, standby *api.Standby) (time.Time, error) {
	var first time.Time
	namespaces := map[string]bool{}
	for _, namespace := range standby.Spec.Namespaces {
		namespaces[namespace] = true
	}
	for i := range standby.Status.Volumes {
		namespaces[into(&standby.Status.Volumes[i])] = true
	}
	for namespace := range namespaces {
		var pods corev1.PodList
		if err := s.Live.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return first, fmt.Errorf("list the pods of namespace %s: %w", namespace, err)
		}
		for _, pod := range pods.Items {
			for _, c := range pod.Status.Conditions {
				at := c.LastTransitionTime.Time
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pod.Labels[csi.LabelRole] == "" && (first.IsZero() || at.Before(first)) {
					first = at
				}
			}
		}
	}
	return first, nil
}

// Cancel takes the Standby back to the round before, or deletes it where there
// was none; its finalizer takes back what was not handed over.
func (s *session) Cancel(ctx context.Context, c migrate.Cancel) (bool, error) {
	standby, err := s.find(ctx, c.RoundRef, c.Whole)
	if err != nil {
		if isUnknown(err) {
			return true, nil
		}
		return false, err
	}
	reached := reachedRound(standby)
	switch {
	case isActive(standby) && standby.Spec.Activation.Planned && standby.Spec.Round == c.Round:
		return false, tooLate(standby)
	case isActive(standby):
		return true, nil // It is not the source's to take back any more.
	case !standby.DeletionTimestamp.IsZero() || standby.Spec.Cancel && !c.Whole:
		return false, nil
	case reached && standby.Spec.Stage && !c.Whole:
		return true, nil // A standby that holds a round whole does nobody harm.
	case !c.Whole && keepsAdopted(standby):
		return s.holdAdopted(ctx, standby)
	}
	return false, s.turnBack(ctx, standby, c, reached)
}

// unfinishedRequest is the rollback of a round whose source never saw it reached: no
// Migration asks by that number.
const unfinishedRequest = -1

// turnBack takes a standby to the round before, or deletes it where there was none. What
// a round handed over that its source never saw reached is taken first.
func (s *session) turnBack(ctx context.Context, standby *api.Standby, c migrate.Cancel, reached bool) error {
	if reached && c.Unfinished && !meta.IsStatusConditionTrue(standby.Status.Conditions, conditionRolledBack) {
		_, err := s.RollBack(ctx, migrate.RollBack{RoundRef: c.RoundRef, DropWrites: true, Request: unfinishedRequest})
		return err
	}
	if c.Whole || reached || roundBefore(standby) == "" {
		if err := s.Client.Delete(ctx, standby); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete Standby %s: %w", standby.Name, err)
		}
		return nil
	}
	was := standby.DeepCopy()
	standby.Spec.Cancel = true
	if err := s.Client.Patch(ctx, standby, client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("turn Standby %s back from round %s: %w", standby.Name, c.Round, err)
	}
	return nil
}

package target

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// The conditions that remember how far a Standby came.
const (
	conditionRead      = "RoundRead"
	conditionApplied   = "Applied"
	conditionTidy      = "Tidy"
	conditionTakenBack = "TakenBack"
	// conditionActivating is set once the round to activate is chosen.
	conditionActivating = "Activating"
	// conditionHandingOver is set before the first volume is handed over.
	conditionHandingOver = "HandingOver"
	// conditionRefused is set where a rollback is refused, conditionRollingBack before
	// anything is undone, conditionRolledBack once all is.
	conditionRefused     = "RollbackRefused"
	conditionRollingBack = "RollingBack"
	conditionRolledBack  = "RolledBack"
)

func isUnknown(err error) bool { return errors.Is(err, migrate.ErrUnknownRound) }

// SetupWithManager registers the Standby reconciler.
func (a *Agent) SetupWithManager(mgr ctrl.Manager) error {
	return errors.Join(a.setUpPoints(mgr), a.setUpDrills(mgr), ctrl.NewControllerManagedBy(mgr).
		For(&api.Standby{}).
		Watches(&api.VolumeTransfer{}, handler.EnqueueRequestsFromMapFunc(a.standbyOf)).
		WithOptions(controller.Options{MaxConcurrentReconciles: a.Concurrent}).
		Complete(a))
}

func (a *Agent) standbyOf(_ context.Context, o client.Object) []reconcile.Request {
	name := o.GetAnnotations()[annotationStandby]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: a.Namespace, Name: name}}}
}

// run is one reconciliation of one Standby.
type run struct {
	*Agent
	s      *api.Standby
	before *api.Standby
	peer   pairing.Peer
	// voucher is the admin pair that answers for the round's objects without a
	// namespace; nil for none.
	voucher *pairing.Peer
	// again, where set, is when to look again.
	again time.Duration
	// beat is when a node last said that it works on one of the transfers.
	beat int64
}

// Reconcile takes one Standby one action further.
func (a *Agent) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var s api.Standby
	if err := a.Client.Get(ctx, req.NamespacedName, &s); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	x := &run{Agent: a, s: &s, before: s.DeepCopy()}
	observed, err := x.observe(ctx)
	if err != nil {
		return x.stumble(ctx, observed, migrate.StandbyAction{Kind: "Observe"}, err)
	}
	if x.awaitsVouch() {
		x.s.Status.Message = "waits until an admin pair of the source vouches for round " + x.s.Spec.Round
		return ctrl.Result{}, x.save(ctx)
	}
	action := migrate.NextStandby(observed)
	requeue, err := x.act(ctx, action)
	if err != nil {
		return x.stumble(ctx, observed, action, err)
	}
	x.stand(observed, action)
	switch action.Kind {
	case migrate.LetGoStandby, migrate.RestStandby, migrate.HoldStandby, migrate.GoBack, migrate.Dismiss, migrate.RefuseActivation:
		return ctrl.Result{RequeueAfter: requeue}, nil
	}
	return ctrl.Result{RequeueAfter: requeue}, x.save(ctx)
}

func (x *run) has(condition string) bool {
	return meta.IsStatusConditionTrue(x.s.Status.Conditions, condition)
}

func (x *run) mark(condition, reason, message string) {
	meta.SetStatusCondition(&x.s.Status.Conditions, metav1.Condition{
		Type: condition, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: x.s.Generation,
	})
}

func (x *run) observe(ctx context.Context) (migrate.ObservedStandby, error) {
	o := migrate.ObservedStandby{
		Deleting: !x.s.DeletionTimestamp.IsZero(), HasFinalizer: controllerutil.ContainsFinalizer(x.s, api.Finalizer),
		RoundRead: x.has(conditionRead), Applied: x.has(conditionApplied),
		Ready: x.s.Status.Phase == api.StandbyReady, Failed: x.s.Status.Phase == api.StandbyFailed,
		Tidy: x.has(conditionTidy), TakenBack: x.has(conditionTakenBack),
		TakesBack: x.s.Status.TakesBack,
		Stage:     x.stages(), Cancel: x.s.Spec.Cancel,
		Drill:       x.s.Spec.Drill != nil,
		RoundChosen: x.has(conditionActivating), Raised: x.raised(),
		Begun:       x.s.Status.Bringing == x.s.Spec.Round && (x.s.Status.Activating == (x.s.Spec.Activation != nil) || bringing(x.s)),
		HandingOver: x.has(conditionHandingOver), Here: x.s.Here(), Superseded: x.superseded(),
	}
	if a := x.s.Spec.Activation; a != nil {
		o.Activate, o.Planned = !a.Planned, a.Planned
	}
	var err error
	x.peer, err = x.Peers.Get(ctx, pairing.Incoming, x.s.Spec.PairID)
	if err != nil && !errors.Is(err, pairing.ErrNotFound) {
		return o, fmt.Errorf("read pair %s: %w", x.s.Spec.PairID, err)
	}
	o.PairFound = err == nil
	for _, v := range x.s.Status.Volumes {
		if v.Leaving {
			continue
		}
		volume := migrate.StandbyVolume{Name: v.Namespace + "/" + v.Name, Holds: v.Moved || v.Wants != "" && v.Image == v.Wants, HandedOver: v.HandedOver, Adopting: v.Adopting}
		if v.Failed {
			volume.Failed = v.Reason
		}
		o.Volumes = append(o.Volumes, volume)
	}
	o.Rollback, err = x.observeRollback(ctx)
	return o, err
}

func (x *run) act(ctx context.Context, a migrate.StandbyAction) (time.Duration, error) {
	const soon = time.Millisecond
	type step struct {
		do    func(context.Context) error
		again time.Duration
	}
	taken, known := map[migrate.StandbyActionKind]step{
		migrate.HoldStandby:      {x.keep, soon},
		migrate.LetGoStandby:     {x.letGo, 0},
		migrate.WaitForPair:      {x.told(a.Message), standbyWait},
		migrate.FailStandby:      {x.failed(a.Message), soon},
		migrate.StartRound:       {x.startRound, soon},
		migrate.ChooseRound:      {x.chooseRound, soon},
		migrate.RefuseActivation: {x.refuseActivation, 0},
		migrate.RaiseEpoch:       {x.raiseEpoch, soon},
		migrate.Adopt:            {x.adopt, standbyPoll / 4},
		migrate.GoBack:           {x.goBack, standbyPoll / 4},
		migrate.Dismiss:          {x.dismiss(a.Message), soon},
		migrate.ReadRound:        {x.readRound, soon},
		migrate.BringForward:     {x.bringForward, standbyPoll},
		migrate.HandOver:         {x.handOver, standbyPoll / 4},
		migrate.ApplyObjects:     {x.applyObjects, soon},
		migrate.TidyUp:           {x.tidyUp, standbyPoll},
		migrate.TakeBack:         {x.takeBack, standbyPoll},
		migrate.TakeBackObjects:  {x.takeBackObjects, soon},
		migrate.CompareVolumes:   {x.compareVolumes, standbyPoll},
		migrate.RefuseRollback:   {x.refuseRollback(a.Message), standbyPoll},
		migrate.BringWrites:      {x.bringWrites, standbyPoll},
		migrate.RollBackRound:    {x.rollBackRound, standbyPoll},
		migrate.RestStandby:      {func(context.Context) error { return nil }, 0},
	}[a.Kind]
	if !known {
		return 0, fmt.Errorf("standby %s: action %q is unknown", x.s.Name, a.Kind)
	}
	if err := taken.do(ctx); err != nil || x.again == 0 {
		return taken.again, err
	}
	return x.again, nil
}

func (x *run) keep(ctx context.Context) error {
	controllerutil.AddFinalizer(x.s, api.Finalizer)
	return x.Client.Patch(ctx, x.s, client.MergeFrom(x.before))
}

func (x *run) letGo(ctx context.Context) error {
	if done, err := x.dropComparison(ctx); err != nil || !done {
		x.again = standbyPoll
		return err
	}
	if err := errors.Join(x.deleteUndo(ctx), x.dropKept(ctx, "")); err != nil {
		return err
	}
	if done, err := x.dropSnapshots(ctx, 0); err != nil || !done {
		x.again = standbyPoll
		return err
	}
	controllerutil.RemoveFinalizer(x.s, api.Finalizer)
	return client.IgnoreNotFound(x.Client.Patch(ctx, x.s, client.MergeFrom(x.before)))
}

func (x *run) told(message string) func(context.Context) error {
	return func(context.Context) error {
		x.s.Status.Message = message
		return nil
	}
}

func (x *run) failed(message string) func(context.Context) error {
	return func(context.Context) error {
		x.fail(message)
		return nil
	}
}

func (x *run) fail(message string) {
	x.s.Status.Phase, x.s.Status.Message = api.StandbyFailed, message
	meta.SetStatusCondition(&x.s.Status.Conditions, metav1.Condition{
		Type: api.ConditionReady, Status: metav1.ConditionFalse, Reason: "Failed", Message: message, ObservedGeneration: x.s.Generation,
	})
	x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "Failed", "BringUp", "%s", message)
}

// stumble decides, in this one place, whether an error ends the work or is
// tried again. A round that is not what the source sealed is never tried again.
func (x *run) stumble(ctx context.Context, o migrate.ObservedStandby, a migrate.StandbyAction, err error) (ctrl.Result, error) {
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	refused := errors.Is(err, snapshot.ErrSignature) || errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, errRefused) || csi.IsFinal(err)
	if refused && x.s.DeletionTimestamp.IsZero() {
		x.fail(err.Error())
		return ctrl.Result{RequeueAfter: time.Millisecond}, x.save(ctx)
	}
	x.s.Status.Message = err.Error()
	if !apierrors.IsConflict(err) { // The API server orders writes by them.
		x.retried(api.Retry{Stage: string(a.Kind), Reason: err.Error(), Last: metav1.NewTime(x.Now())})
	}
	if x.stand(o, a); x.s.Status.Phase == api.StandbyFailed && x.before.Status.Phase != api.StandbyFailed {
		return ctrl.Result{RequeueAfter: time.Millisecond}, x.save(ctx)
	}
	return ctrl.Result{}, errors.Join(err, x.save(ctx))
}

// retried notes what is tried again, and tells when that begins.
func (x *run) retried(r api.Retry) {
	r.Cluster = api.HookTarget
	if x.s.Status.Retried(r) {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "Retrying", "Retry", "%s", short(strings.TrimSpace(r.Stage+" "+r.Volume)+" is tried again: "+r.Reason))
	}
}

// followAttempts notes what a node tried again.
func (x *run) followAttempts(v *api.StandbyVolume, t *api.VolumeTransfer) {
	if s := t.Status; s.LastFailed != nil && s.Attempts > 1 {
		x.retried(api.Retry{
			Stage: string(t.Spec.Direction), Volume: v.Namespace + "/" + v.Name, Count: s.Attempts - 1, Reason: s.LastFailure, Last: *s.LastFailed,
		})
	}
}

var errRefused = errors.New("refused")

func (x *run) save(ctx context.Context) error {
	x.s.Status.ObservedGeneration = x.s.Generation
	if equality.Semantic.DeepEqual(x.before.Status, x.s.Status) {
		return nil
	}
	base := x.before.DeepCopy()
	base.ResourceVersion = x.s.ResourceVersion
	return client.IgnoreNotFound(x.Client.Status().Patch(ctx, x.s, client.MergeFrom(base)))
}

// readRound records the images of the sealed round, once its seal is checked.
func (x *run) readRound(ctx context.Context) error {
	if x.fromSnapshots() {
		// The volumes get other names: what holds them by those of before is found now.
		if done, err := x.dropHolds(ctx); err != nil || !done {
			x.again = standbyPoll
			return err
		}
	}
	point, data, err := x.sealedRound(ctx)
	if err != nil {
		return err
	}
	instructions, _, err := workload.Unpack(data)
	if err != nil {
		return fmt.Errorf("%w: objects of round %s: %w", errRefused, point.Round, err)
	}
	x.instructDrill(&instructions)
	volumes, err := x.nextVolumes(ctx, point, instructions)
	if err != nil {
		return err
	}
	x.s.Status.Volumes, x.s.Status.Phase, x.s.Status.Message = volumes, api.StandbyVolumes, ""
	x.mark(conditionRead, "SealChecked", "round "+point.Round+" was sealed by cluster "+point.Cluster)
	return nil
}

// sealedRound reads the round and checks that the paired cluster sealed it for
// this very application.
func (x *run) sealedRound(ctx context.Context) (snapshot.RecoveryPoint, []byte, error) {
	var point snapshot.RecoveryPoint
	sealed, err := x.readSealed(ctx, x.s.Spec.Round)
	if err != nil {
		return point, nil, err
	}
	point, err = sealed.Read(x.peer)
	if err != nil {
		return point, nil, err
	}
	if point.App != x.s.Spec.Application || point.Round != x.s.Spec.Round || point.Cluster != x.peer.ClusterID {
		return point, nil, fmt.Errorf("%w: the recovery point is of round %s of %s in cluster %s, not of what was asked for", errRefused, point.Round, point.App, point.Cluster)
	}
	if sealed.Objects == nil {
		return point, nil, fmt.Errorf("%w: round %s has no objects", errRefused, point.Round)
	}
	if x.s.Spec.Drill == nil && !x.has(conditionRead) {
		err = x.keepRound(ctx, point.Round, sealed)
	}
	return point, sealed.Objects, err
}

func imageOf(point snapshot.RecoveryPoint, c api.StandbyClaim) (snapshot.Image, error) {
	for _, image := range point.Images {
		if image.Volume.Namespace == c.Namespace && image.Volume.Name == c.Name {
			return image, nil
		}
	}
	return snapshot.Image{}, fmt.Errorf("%w: round %s has no image of claim %s/%s", errRefused, point.Round, c.Namespace, c.Name)
}

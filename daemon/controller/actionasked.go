package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// +kubebuilder:rbac:groups=godwit.io,resources=standbies,verbs=get;list;watch;patch

const (
	// sourcePatience is how long a source may be silent before its application is
	// brought up without it, and askLimit how long one question may take.
	sourcePatience = 10 * time.Second
	askLimit       = 5 * time.Second
)

// asked is one look at a failover that was asked for here, on the target.
type asked struct {
	*switchover
	standby  *api.Standby
	observed migrate.ObservedAsked
}

// reconcileAsked takes a failover one step further of which the schedule is the copy
// of a schedule of the source.
func (r *Actions) reconcileAsked(ctx context.Context, x *switchover) error {
	k := &asked{switchover: x}
	if err := k.observe(ctx); err != nil {
		return errors.Join(err, x.save(ctx))
	}
	kind, why := migrate.NextAsked(k.observed)
	if err := k.act(ctx, kind, why); err != nil {
		return err
	}
	return x.save(ctx)
}

func (k *asked) observe(ctx context.Context) error {
	p, s := k.a.Spec.ActionParameter.FailoverParameter, &k.a.Status
	k.observed = migrate.ObservedAsked{Skip: isTrue(p.SkipSourceOperations, false), Started: s.Started, Activating: s.Activating}
	var standby api.Standby
	err := k.Live.Get(ctx, types.NamespacedName{Namespace: k.Namespace, Name: k.schedule.Annotations[api.AnnotationCopyStandby]}, &standby)
	switch {
	case apierrors.IsNotFound(err):
		k.observed.Refused = fmt.Sprintf("this cluster keeps no standby of MigrationSchedule %s", k.schedule.Name)
		return nil
	case err != nil:
		return fmt.Errorf("read Standby %s: %w", k.schedule.Annotations[api.AnnotationCopyStandby], err)
	}
	k.standby = &standby
	if k.observed.Refused = wholeOnly(p.FailoverNamespaces, k.template.Namespaces); k.observed.Refused != "" {
		return nil
	}
	switch a := standby.Spec.Activation; {
	case s.Activating:
		k.observeStandby()
		return nil
	case a != nil && !s.Started && (!a.Planned || standby.Status.Epoch > 0) && standby.Status.Phase != api.StandbyFailed:
		k.observed.Refused = fmt.Sprintf("%s is active on this cluster already, or is being activated: see get standby %s", standby.Spec.Application, standby.Name)
		return nil
	}
	if k.observed.Skip {
		return nil
	}
	return k.askSource(ctx)
}

// observeStandby tells how an activation without the source fares.
func (k *asked) observeStandby() {
	s := k.standby
	switch {
	case meta.IsStatusConditionFalse(s.Status.Conditions, "EpochRaised"), s.Status.Activating && s.Status.Phase == api.StandbyFailed:
		k.observed.Failed = s.Status.Message
	case s.Status.Activating && s.Status.Phase == api.StandbyReady:
		k.observed.Up = true
	}
}

// askSource has the source move the application, or tell how that fares.
func (k *asked) askSource(ctx context.Context) error {
	s := &k.a.Status
	where := fmt.Sprintf("run it on the source (perform failover -m %s -n %s), or ask anew with skipSourceOperations for the newest round that was sealed", k.schedule.Name, k.schedule.Namespace)
	in, err := k.Peers.Get(ctx, pairing.Incoming, k.standby.Spec.PairID)
	if err == nil {
		in, err = pairing.TwinOf(ctx, k.Peers, in)
	}
	if errors.Is(err, pairing.ErrNotFound) || err == nil && !in.Joined() {
		k.observed.OneWay = "the pair leads from the source to this cluster only, so the source cannot be asked: " + where
		return nil
	}
	if err != nil {
		return err
	}
	if s.AskedSince == nil {
		now := metav1.NewTime(k.Now())
		s.AskedSince = &now
	}
	k.observed.PatienceOver = k.Now().Sub(s.AskedSince.Time) >= sourcePatience
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	source, err := k.Remote.Target(ctx, in)
	if err == nil {
		k.observed.Source, err = source.FailOver(ctx, migrate.FailOver{
			Schedule: k.schedule.Namespace + "/" + k.schedule.Name, Namespaces: k.template.Namespaces, Request: string(k.a.UID), Started: s.Started,
		})
	}
	switch {
	case errors.Is(err, pairing.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		k.observed.Silence = oneLine(err)
	case err != nil:
		s.Status, s.Reason = api.ActionStatusInProgress, oneLine(err)
		return err
	default:
		s.Started, k.observed.Started = true, true
	}
	return nil
}

func (k *asked) act(ctx context.Context, kind migrate.SwitchKind, why string) error {
	s := &k.a.Status
	s.Status, s.Reason = api.ActionStatusInProgress, why
	switch kind {
	case migrate.FailSwitch:
		k.end(api.ActionStatusFailed, why)
	case migrate.EndSwitch:
		k.end(api.ActionStatusSuccessful, "")
	case migrate.AwaitSource:
	case migrate.ActivateStandby:
		return k.activate(ctx, why)
	case migrate.FollowRound:
		k.follow()
	case migrate.RestSwitch:
	default:
		return fmt.Errorf("action %s/%s: step %q is unknown", k.a.Namespace, k.a.Name, kind)
	}
	return nil
}

// follow shows how far it is, in the words of the source or of the standby.
func (k *asked) follow() {
	s := &k.a.Status
	if s.Activating {
		s.Stage, s.Reason = api.ActionStageScaleUpDestination, k.standby.Status.Message
		return
	}
	switch stage := api.ActionStage(k.observed.Source.Stage); stage {
	case api.ActionStageScaleDownSource, api.ActionStageLastMileMigration, api.ActionStageScaleUpDestination:
		s.Stage = stage
	}
}

// activate writes down first that it goes on without the source.
func (k *asked) activate(ctx context.Context, why string) error {
	k.a.Status.Activating, k.a.Status.Stage = true, api.ActionStageScaleUpDestination
	k.a.Status.Reason = why + ": the newest round that it sealed is activated, and what was written there since is not in it"
	if err := k.save(ctx); err != nil {
		return err
	}
	k.before = k.a.DeepCopy()
	before := k.standby.DeepCopy()
	k.standby.Spec.Activation = &api.StandbyActivation{}
	if err := k.Client.Patch(ctx, k.standby, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("activate Standby %s: %w", k.standby.Name, err)
	}
	return nil
}

// wholeOnly refuses to move a part of an application: its namespaces have one round,
// and one epoch.
func wholeOnly(chosen, all []string) string {
	if len(chosen) == 0 {
		return ""
	}
	have, want := map[string]bool{}, map[string]bool{}
	for _, n := range all {
		have[n] = true
	}
	for _, n := range chosen {
		if want[n] = true; !have[n] {
			return fmt.Sprintf("namespace %s is not one that the schedule moves (it moves: %v)", n, all)
		}
	}
	for _, n := range all {
		if !want[n] {
			return fmt.Sprintf("namespace %s is left out, and an application moves as a whole, since its namespaces share their rounds: name all of %v, or none; a schedule for each namespace lets each move by itself", n, all)
		}
	}
	return ""
}

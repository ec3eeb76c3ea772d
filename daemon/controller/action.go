package controller

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
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// +kubebuilder:rbac:groups=godwit.io,resources=actions,verbs=get;list;watch
// +kubebuilder:rbac:groups=godwit.io,resources=actions/status,verbs=patch
// +kubebuilder:rbac:groups=godwit.io,resources=actions/finalizers,verbs=update

// Actions moves applications to the other side of their pair, by Migrations.
type Actions struct {
	Client client.Client
	// Live reads past the cache, so that no Migration is made twice.
	Live   client.Reader
	Peers  pairing.PeerStore
	Remote Remote
	Events Events
	// Namespace is Godwit's own.
	Namespace string
	Now       func() time.Time
}

// SetupWithManager registers the reconciler.
func (r *Actions) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).For(&api.Action{}).Owns(&api.Migration{}).Complete(r)
}

// switchover is one look at an Action.
type switchover struct {
	*Actions
	a, before *api.Action
	schedule  *api.MigrationSchedule
	// template is what its Migrations are made from.
	template api.MigrationSpec
	// standby is the one whose application comes back; empty for a failover.
	standby     string
	round, last *api.Migration
	observed    migrate.ObservedSwitch
}

// Reconcile takes one Action one step further.
func (r *Actions) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var a api.Action
	if err := r.Live.Get(ctx, req.NamespacedName, &a); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !a.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // Its Migrations go with it, and are taken back as Migrations are.
	}
	x := &switchover{Actions: r, a: &a, before: a.DeepCopy()}
	if err := x.observe(ctx); err != nil {
		return ctrl.Result{}, err
	}
	if x.schedule != nil && x.schedule.IsCopy() {
		return ctrl.Result{RequeueAfter: migrationPoll}, r.reconcileAsked(ctx, x)
	}
	kind, why := migrate.NextSwitch(x.observed)
	if kind == migrate.RestSwitch {
		return ctrl.Result{}, nil
	}
	if err := x.act(ctx, kind, why); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: migrationPoll}, x.save(ctx)
}

func (x *switchover) failback() bool { return x.a.Spec.ActionType == api.ActionFailback }

func (x *switchover) observe(ctx context.Context) error {
	x.observed.Ended = x.a.Status.Stage == api.ActionStageFinal
	if x.observed.Ended {
		return nil
	}
	find := x.observeSchedule
	if x.failback() {
		find = x.observeStandby
	}
	if err := find(ctx); err != nil || x.schedule != nil && x.schedule.IsCopy() {
		return err
	}
	var err error
	if x.round, x.observed.Round, err = x.find(ctx, "stage"); err != nil {
		return err
	}
	if x.last, x.observed.Last, err = x.find(ctx, "lastmile"); err != nil {
		return err
	}
	return x.observeBusy(ctx)
}

// observeSchedule finds the schedule whose application moves away.
func (x *switchover) observeSchedule(ctx context.Context) error {
	name := x.a.Spec.ActionParameter.FailoverParameter.MigrationScheduleReference
	var s api.MigrationSchedule
	err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.a.Namespace, Name: name}, &s)
	if apierrors.IsNotFound(err) {
		x.observed.Refused = fmt.Sprintf("MigrationSchedule %s is not in namespace %s: make the Action where the application runs", name, x.a.Namespace)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read MigrationSchedule %s/%s: %w", x.a.Namespace, name, err)
	}
	x.schedule, x.template = &s, *s.Spec.Template.Spec.DeepCopy()
	if s.IsCopy() {
		return nil
	}
	p := x.a.Spec.ActionParameter.FailoverParameter
	x.observed.Refused = wholeOnly(p.FailoverNamespaces, x.template.Namespaces)
	if isTrue(p.SkipSourceOperations, false) {
		x.observed.Refused = "skipSourceOperations leaves the source alone, and this cluster is the source: make the Action on the target"
	}
	x.observed.Schedule, x.observed.Suspended = true, isTrue(s.Spec.Suspend, false)
	return nil
}

// observeStandby finds the activated standby whose application comes back, and the
// pair that leads there.
func (x *switchover) observeStandby(ctx context.Context) error {
	application := x.a.Namespace + "/" + x.a.Spec.ActionParameter.FailbackParameter.MigrationScheduleReference
	var list api.StandbyList
	if err := x.Live.List(ctx, &list, client.InNamespace(x.Namespace)); err != nil {
		return fmt.Errorf("list Standbys: %w", err)
	}
	x.observed.Refused = fmt.Sprintf("%s is not active on this cluster by a failover: make the Action where it was activated", application)
	for i := range list.Items {
		s := &list.Items[i]
		if s.Spec.Application != application || s.Spec.Activation == nil || s.Status.Phase != api.StandbyReady {
			continue
		}
		back, err := pairing.TwinOf(ctx, x.Peers, pairing.Peer{PairID: s.Spec.PairID, Direction: pairing.Incoming, Twin: x.twinOf(ctx, s.Spec.PairID)})
		if err != nil && !errors.Is(err, pairing.ErrNotFound) {
			return err
		}
		if err != nil || back.Namespace != x.a.Namespace {
			x.observed.Refused = fmt.Sprintf("no pair of namespace %s leads back to where %s came from: pair with mode %s, or the other way as well", x.a.Namespace, application, api.ModeDisasterRecovery)
			return nil //nolint:nilerr // it is told
		}
		x.observed.Refused, x.observed.RoundFirst, x.standby = "", true, s.Name
		_, name, _ := strings.Cut(application, "/")
		x.template = comingBack(s, name, back.Name)
		x.observed.Refused = wholeOnly(x.a.Spec.ActionParameter.FailbackParameter.FailbackNamespaces, s.Spec.Namespaces)
		return nil
	}
	return nil
}

func (x *switchover) twinOf(ctx context.Context, pairID string) string {
	p, err := x.Peers.Get(ctx, pairing.Incoming, pairID)
	if err != nil {
		return ""
	}
	return p.Twin
}

func (x *switchover) nameOf(what string) string {
	reference := ""
	if x.failback() {
		reference = x.a.Spec.ActionParameter.FailbackParameter.MigrationScheduleReference
	} else {
		reference = x.a.Spec.ActionParameter.FailoverParameter.MigrationScheduleReference
	}
	return fmt.Sprintf("%s-%s-%s-%s", reference, what, x.a.Spec.ActionType, shortUID(x.a.UID))
}

// find gives one of the Action's Migrations, and how it fares.
func (x *switchover) find(ctx context.Context, what string) (*api.Migration, migrate.SwitchRound, error) {
	var m api.Migration
	err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.a.Namespace, Name: x.nameOf(what)}, &m)
	if apierrors.IsNotFound(err) {
		return nil, migrate.SwitchRound{}, nil
	}
	if err != nil {
		return nil, migrate.SwitchRound{}, fmt.Errorf("read Migration %s/%s: %w", x.a.Namespace, x.nameOf(what), err)
	}
	is := func(condition string) bool { return meta.IsStatusConditionTrue(m.Status.Conditions, condition) }
	state := migrate.SwitchRound{Made: true, Good: good(m.Status.Status)}
	// One that failed has ended once its source runs again.
	state.Ended = ended(m) && is(conditionReleased) && (state.Good || !is(conditionSealed) || is(conditionCleared))
	if ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady); ready != nil {
		state.Message = "Migration " + m.Name + ": " + ready.Message
	}
	return &m, state, nil
}

// observeBusy finds rounds of the same application that have not ended.
func (x *switchover) observeBusy(ctx context.Context) error {
	var list api.MigrationList
	if err := x.Live.List(ctx, &list, client.InNamespace(x.a.Namespace)); err != nil {
		return fmt.Errorf("list the Migrations of namespace %s: %w", x.a.Namespace, err)
	}
	mine := applicationOf(&api.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: x.a.Namespace}, Spec: x.template})
	for i := range list.Items {
		m := &list.Items[i]
		if !ended(*m) && !metav1.IsControlledBy(m, x.a) && len(x.template.Namespaces) > 0 && applicationOf(m) == mine {
			x.observed.Busy = m.Name
		}
	}
	return nil
}

func (x *switchover) act(ctx context.Context, kind migrate.SwitchKind, why string) error {
	s := &x.a.Status
	s.Status, s.Reason = api.ActionStatusInProgress, why
	switch kind {
	case migrate.SuspendSchedule:
		return x.suspend(ctx)
	case migrate.AwaitRounds:
		return nil
	case migrate.MakeRound:
		return x.make(ctx, "stage")
	case migrate.MakeLastRound:
		return x.make(ctx, "lastmile")
	case migrate.FollowRound:
		x.show()
		return nil
	case migrate.FailSwitch:
		return x.failed(ctx, why)
	case migrate.EndSwitch:
		if err := x.gaveBack(ctx); err != nil {
			return err
		}
		x.end(api.ActionStatusSuccessful, "")
		return nil
	case migrate.RestSwitch:
	}
	return fmt.Errorf("action %s/%s: step %q is unknown", x.a.Namespace, x.a.Name, kind)
}

// suspend writes down first that it was this Action that suspended the schedule.
func (x *switchover) suspend(ctx context.Context) error {
	if !x.a.Status.Suspended {
		x.a.Status.Suspended = true
		return nil
	}
	return x.setSuspend(ctx, true)
}

func (x *switchover) setSuspend(ctx context.Context, suspend bool) error {
	before := x.schedule.DeepCopy()
	x.schedule.Spec.Suspend = &suspend
	if err := x.Client.Patch(ctx, x.schedule, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("set spec.suspend of MigrationSchedule %s/%s to %t: %w", x.schedule.Namespace, x.schedule.Name, suspend, err)
	}
	return nil
}

// make makes one of the Action's Migrations.
func (x *switchover) make(ctx context.Context, what string) error {
	yes, no := true, false
	m := &api.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: x.a.Namespace, Name: x.nameOf(what)}, Spec: x.template}
	if what == "stage" {
		m.Spec.Stage = &yes
	} else {
		m.Spec.Stage, m.Spec.Quiesce, m.Spec.StartApplications, m.Spec.Activate = &no, &yes, &yes, &yes
	}
	if err := controllerutil.SetControllerReference(x.a, m, x.Client.Scheme()); err != nil {
		return fmt.Errorf("make Migration %s: %w", m.Name, err)
	}
	err := x.Client.Create(ctx, m)
	switch {
	case apierrors.IsInvalid(err):
		return x.failed(ctx, err.Error())
	case client.IgnoreAlreadyExists(err) != nil:
		return fmt.Errorf("create Migration %s/%s: %w", m.Namespace, m.Name, err)
	}
	return nil
}

// gaveBack says in the copies of schedules on this cluster that the application does
// not run here any more.
func (x *switchover) gaveBack(ctx context.Context) error {
	if x.standby == "" {
		return nil
	}
	var list api.MigrationScheduleList
	if err := x.Live.List(ctx, &list, client.InNamespace(x.a.Namespace)); err != nil {
		return fmt.Errorf("list the MigrationSchedules of namespace %s: %w", x.a.Namespace, err)
	}
	for i := range list.Items {
		c := &list.Items[i]
		if !c.IsCopy() || !c.Status.ApplicationActivated || c.Annotations[api.AnnotationCopyStandby] != x.standby {
			continue
		}
		before := c.DeepCopy()
		c.Status.ApplicationActivated = false
		if err := x.Client.Status().Patch(ctx, c, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("set applicationActivated of MigrationSchedule %s/%s to false: %w", c.Namespace, c.Name, err)
		}
	}
	return nil
}

// show tells in stork's words how far the last round is.
func (x *switchover) show() {
	down, up := api.ActionStageScaleDownSource, api.ActionStageScaleUpDestination
	if x.failback() {
		down, up = api.ActionStageScaleDownDestination, api.ActionStageScaleUpSource
	}
	if x.last == nil {
		return
	}
	is := func(condition string) bool { return meta.IsStatusConditionTrue(x.last.Status.Conditions, condition) }
	switch {
	case x.last.Status.Stage == api.MigrationStageApplications:
		x.a.Status.Stage = up
	case is(conditionQuiesced):
		x.a.Status.Stage = api.ActionStageLastMileMigration
	default:
		x.a.Status.Stage = down
	}
}

// failed ends it with the schedule as it was: the source runs on.
func (x *switchover) failed(ctx context.Context, why string) error {
	elsewhere := x.last != nil && meta.IsStatusConditionTrue(x.last.Status.Conditions, conditionElsewhere)
	if x.a.Status.Suspended && x.schedule != nil && !elsewhere {
		if err := x.setSuspend(ctx, false); err != nil {
			return err
		}
	}
	x.end(api.ActionStatusFailed, why)
	return nil
}

func (x *switchover) end(status api.ActionStatusType, why string) {
	now := metav1.NewTime(x.Now())
	x.a.Status.Stage, x.a.Status.Status, x.a.Status.Reason, x.a.Status.FinishTimestamp = api.ActionStageFinal, status, why, &now
	var each []api.NamespaceSummary
	for _, namespace := range x.template.Namespaces {
		told := why
		if status == api.ActionStatusSuccessful {
			told = "scaling up apps in namespace " + namespace + " successful"
		}
		each = append(each, api.NamespaceSummary{Namespace: namespace, Status: status, Reason: told})
	}
	if len(each) == 0 {
		return
	}
	x.a.Status.Summary = &api.ActionSummary{FailoverSummary: each}
	if x.failback() {
		x.a.Status.Summary = &api.ActionSummary{FailbackSummary: each}
	}
}

func (x *switchover) save(ctx context.Context) error {
	if equality.Semantic.DeepEqual(x.before.Status, x.a.Status) {
		return nil
	}
	if err := x.Client.Status().Patch(ctx, x.a, client.MergeFrom(x.before)); err != nil {
		return client.IgnoreNotFound(err)
	}
	if s := x.a.Status; s.Stage == api.ActionStageFinal {
		kind, note := corev1.EventTypeNormal, fmt.Sprintf("%s completed", x.a.Spec.ActionType)
		if s.Status == api.ActionStatusFailed {
			kind, note = corev1.EventTypeWarning, s.Reason
		}
		x.Events.Eventf(x.a, nil, kind, string(s.Status), string(x.a.Spec.ActionType), "%s", note)
	}
	return nil
}

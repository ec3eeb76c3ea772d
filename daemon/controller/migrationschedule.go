package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/schedule"
	"github.com/godwit-io/godwit/daemon/workload"
)

// +kubebuilder:rbac:groups=godwit.io,resources=migrationschedules,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=godwit.io,resources=migrationschedules/status,verbs=patch
// +kubebuilder:rbac:groups=godwit.io,resources=migrationschedules/finalizers,verbs=update
// +kubebuilder:rbac:groups=godwit.io,resources=migrations,verbs=get;list;watch;create;delete

// MigrationSchedules makes Migrations when they are due, one at a time, and
// deletes those that retention does not keep.
type MigrationSchedules struct {
	Client client.Client
	// Live reads past the cache, so that a run is never made twice.
	Live client.Reader
	// Objects is this cluster, for schedules that stop a superseded application.
	Objects workload.Cluster
	Events  Events
	Now     func() time.Time
}

// triggerContinuous stands for a policy's section in schedules that follow none.
const triggerContinuous schedule.Trigger = "Continuous"

// continuousPatience is the longest time between continuous runs that keep
// failing.
const continuousPatience = 10 * time.Minute

// SetupWithManager registers the reconciler.
func (r *MigrationSchedules) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&api.MigrationSchedule{}).
		Owns(&api.Migration{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: runTurned})).
		Watches(&api.SchedulePolicy{}, handler.EnqueueRequestsFromMapFunc(r.usersOf)).
		Watches(&api.NamespacedSchedulePolicy{}, handler.EnqueueRequestsFromMapFunc(r.usersOf)).
		WithOptions(controller.Options{MaxConcurrentReconciles: schedulesAtOnce}).
		Complete(r)
}

// schedulesAtOnce is how many schedules are looked at side by side.
const schedulesAtOnce = 4

// runTurned leaves out the many writes of a run's progress: each look at a schedule
// lists its namespace, and with many schedules those would keep runs waiting.
func runTurned(e event.UpdateEvent) bool {
	before, is := e.ObjectOld.(*api.Migration)
	after, too := e.ObjectNew.(*api.Migration)
	return !is || !too || before.Status.Status != after.Status.Status || ended(*before) != ended(*after) || sealed(*before) != sealed(*after) ||
		cleared(*before) != cleared(*after) || before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero()
}

// usersOf are the schedules that go by a policy.
func (r *MigrationSchedules) usersOf(ctx context.Context, policy client.Object) []reconcile.Request {
	var list api.MigrationScheduleList
	if err := r.Client.List(ctx, &list, client.InNamespace(policy.GetNamespace())); err != nil {
		// The schedules look again by themselves at their next run.
		return nil
	}
	var requests []reconcile.Request
	for _, s := range list.Items {
		if s.Spec.SchedulePolicyName == policy.GetName() {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&s)})
		}
	}
	return requests
}

// occasion is one look at a schedule.
type occasion struct {
	*MigrationSchedules
	s, before *api.MigrationSchedule
	now       time.Time
	policy    schedule.Policy
	item      api.SchedulePolicyItem
	// runs are the schedule's Migrations, oldest first.
	runs []api.Migration
}

// Reconcile makes the run that is due, if there is one.
func (r *MigrationSchedules) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var s api.MigrationSchedule
	if err := r.Live.Get(ctx, req.NamespacedName, &s); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !s.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // Its Migrations go with it, by their owner reference.
	}
	x := &occasion{MigrationSchedules: r, s: &s, before: s.DeepCopy(), now: r.Now()}
	if s.IsCopy() {
		x.s.Status.NextRun = nil
		x.ready(metav1.ConditionFalse, "Copy", "it is the copy of a schedule of another cluster, which runs there: annotation "+api.AnnotationStaticCopy)
		return ctrl.Result{}, x.save(ctx)
	}
	err := x.look(ctx)
	var f *finalError
	if errors.As(err, &f) {
		x.ready(metav1.ConditionFalse, f.reason, f.Error())
		err = nil
	}
	if err := errors.Join(err, x.save(ctx)); err != nil {
		return ctrl.Result{}, err
	}
	if x.s.Status.NextRun == nil {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(x.s.Status.NextRun.Sub(x.now), time.Millisecond)}, nil
}

// look brings the status up to date and takes what actions are due.
func (x *occasion) look(ctx context.Context) error {
	if err := x.findRuns(ctx); err != nil {
		return err
	}
	x.remember()
	x.s.Status.NextRun = nil
	if x.s.Status.CountingSince == nil && !x.suspended() {
		since := metav1.NewTime(x.now)
		x.s.Status.CountingSince = &since
	}
	if err := x.suspendIfActivated(ctx); err != nil {
		return err
	}
	if x.suspended() {
		x.s.Status.CountingSince = nil
		x.ready(metav1.ConditionFalse, "Suspended", "the schedule is suspended: resume it to go on")
		return nil
	}
	if err := x.findPolicy(ctx); err != nil {
		return err
	}
	if err := x.prune(ctx); err != nil {
		return err
	}
	if run := x.inTheWay(); run != "" {
		x.ready(metav1.ConditionTrue, "Running", "Migration "+run+" runs")
		return nil
	}
	due, next := x.due()
	if due == nil {
		at := metav1.NewTime(next)
		x.s.Status.NextRun = &at
		x.ready(metav1.ConditionTrue, "Scheduled", "the next run is due at "+next.UTC().Format(time.RFC3339))
		return nil
	}
	return x.start(ctx, *due)
}

// inTheWay names the run that has to get further before there is another one. A
// continuous schedule takes the next round while the target still brings the last one
// forward, and has never more than these two under way.
func (x *occasion) inTheWay() string {
	var under []api.Migration
	for _, m := range x.runs {
		if !ended(m) {
			under = append(under, m)
		}
	}
	if len(under) == 0 || x.s.Spec.Continuous && len(under) == 1 && sealed(under[0]) {
		return ""
	}
	return under[0].Name
}

func (x *occasion) suspended() bool { return isTrue(x.s.Spec.Suspend, false) }

func (x *occasion) findRuns(ctx context.Context) error {
	var list api.MigrationList
	if err := x.Live.List(ctx, &list, client.InNamespace(x.s.Namespace)); err != nil {
		return fmt.Errorf("list the Migrations of MigrationSchedule %s/%s: %w", x.s.Namespace, x.s.Name, err)
	}
	for _, m := range list.Items {
		if metav1.IsControlledBy(&m, x.s) {
			x.runs = append(x.runs, m)
		}
	}
	slices.SortStableFunc(x.runs, func(a, b api.Migration) int {
		return cmp.Or(dueAt(a).Compare(dueAt(b)), strings.Compare(a.Name, b.Name))
	})
	return nil
}

func (x *occasion) findPolicy(ctx context.Context) error {
	if x.s.Spec.Continuous {
		return nil
	}
	var err error
	if x.item, err = policyFor(ctx, x.Client, x.s.Namespace, x.s.Spec.SchedulePolicyName); err != nil {
		return err
	}
	if x.policy, err = parsePolicy(x.item); err != nil {
		return final("PolicyInvalid", "policy %s: %w", x.s.Spec.SchedulePolicyName, err)
	}
	return nil
}

// due says which run's time has come.
func (x *occasion) due() (due *schedule.Due, next time.Time) {
	past := schedule.Past{Since: x.s.Status.CountingSince.Time, Last: map[schedule.Trigger]time.Time{}}
	for trigger, at := range x.s.Status.LastDue {
		past.Last[schedule.Trigger(trigger)] = at.Time
	}
	if !x.s.Spec.Continuous {
		return schedule.Look(x.policy, past, x.now)
	}
	floor := time.Duration(max(x.s.Spec.MinIntervalSeconds, 1)) * time.Second
	if n := min(x.s.Status.FailuresInARow, 10); n > 0 {
		// What keeps failing is tried less and less often.
		floor = max(floor, min(floor<<n, continuousPatience))
	}
	last, ran := past.Last[triggerContinuous]
	if next = last.Add(floor); ran && next.After(x.now) {
		return nil, next
	}
	return &schedule.Due{Trigger: triggerContinuous, At: x.now}, x.now
}

// start makes the Migration of a run that is due. Its name tells the run, so
// that the same run is never made twice.
func (x *occasion) start(ctx context.Context, due schedule.Due) error {
	at := due.At.UTC()
	m := &api.Migration{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   x.s.Namespace,
			Name:        fmt.Sprintf("%s-%s-%s", x.s.Name, strings.ToLower(string(due.Trigger)), at.Format("2006-01-02-150405")),
			Annotations: map[string]string{},
		},
		Spec: *x.s.Spec.Template.Spec.DeepCopy(),
	}
	for k, v := range x.s.Annotations {
		if k != corev1.LastAppliedConfigAnnotation {
			m.Annotations[k] = v
		}
	}
	if m.Spec.Stage == nil && !isTrue(m.Spec.StartApplications, false) {
		// The copy waits, brought forward by each run, until somebody activates it.
		stage := true
		m.Spec.Stage = &stage
	}
	m.Annotations[api.AnnotationScheduleName] = x.s.Name
	m.Annotations[api.AnnotationPolicyType] = string(due.Trigger)
	m.Annotations[api.AnnotationDue] = at.Format(time.RFC3339)
	if err := controllerutil.SetControllerReference(x.s, m, x.Client.Scheme()); err != nil {
		return fmt.Errorf("make Migration %s of MigrationSchedule %s/%s: %w", m.Name, x.s.Namespace, x.s.Name, err)
	}
	err := x.Client.Create(ctx, m)
	switch {
	case apierrors.IsInvalid(err):
		return final("TemplateInvalid", "create Migration %s: %w", m.Name, err)
	case err != nil && !apierrors.IsAlreadyExists(err):
		return fmt.Errorf("create Migration %s/%s: %w", m.Namespace, m.Name, err)
	}
	x.runs = append(x.runs, *m)
	x.s.Status.MissedRuns += int64(due.Missed)
	x.remember()
	x.ready(metav1.ConditionTrue, "Running", "Migration "+m.Name+" runs")
	if err == nil {
		x.Events.Eventf(x.s, m, corev1.EventTypeNormal, "Started", "Schedule", "Migration %s created (%s)", m.Name, due.Trigger)
	}
	if due.Missed > 0 {
		x.Events.Eventf(x.s, m, corev1.EventTypeWarning, "Missed", "Schedule",
			"%d %s runs were due before this one and were left out: runs take longer than the time between them, or nobody looked", due.Missed, due.Trigger)
	}
	return nil
}

// suspendIfActivated stops a schedule that would overwrite an application that
// runs on the target.
func (x *occasion) suspendIfActivated(ctx context.Context) error {
	if x.suspended() || len(x.runs) == 0 {
		return nil
	}
	last := x.runs[len(x.runs)-1]
	c := meta.FindStatusCondition(last.Status.Conditions, api.ConditionReady)
	// A run from before the schedule was resumed says nothing of now. Times in
	// objects have whole seconds.
	since := x.s.Status.CountingSince.Add(-time.Second)
	if c == nil || c.Reason != api.ReasonApplicationActivated && c.Reason != api.ReasonSuperseded || !dueAt(last).After(since) {
		return nil
	}
	if err := x.scaleDown(ctx); err != nil {
		return err
	}
	// The patch brings the object back as it is stored, with the status of old.
	status := x.s.Status.DeepCopy()
	base := x.s.DeepCopy()
	suspend := true
	x.s.Spec.Suspend = &suspend
	if err := x.Client.Patch(ctx, x.s, client.MergeFrom(base)); err != nil {
		return fmt.Errorf("suspend MigrationSchedule %s/%s: %w", x.s.Namespace, x.s.Name, err)
	}
	x.s.Status = *status
	x.Events.Eventf(x.s, &last, corev1.EventTypeWarning, "Suspended", "Schedule",
		"Suspending migration schedule since migrated apps on remote cluster are active")
	return nil
}

// scaleDown stops what was superseded, where the schedule says so.
func (x *occasion) scaleDown(ctx context.Context) error {
	if x.s.Spec.OnSuperseded != api.SupersededScaleDown {
		return nil
	}
	last := x.runs[len(x.runs)-1]
	namespaces := last.Status.Namespaces
	if len(namespaces) == 0 {
		namespaces = last.Spec.Namespaces
	}
	running, err := workload.Running(ctx, x.Objects, workload.Selection{
		Namespaces: namespaces, Selectors: last.Spec.Selectors, ExcludeSelectors: last.Spec.ExcludeSelectors,
	})
	if err != nil {
		return fmt.Errorf("find what MigrationSchedule %s/%s has to stop: %w", x.s.Namespace, x.s.Name, err)
	}
	for _, w := range running {
		if err := workload.Stop(ctx, x.Objects, w); err != nil {
			return err
		}
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "ScaledDown", "Schedule", "%s is stopped, since its application was activated on another cluster", w.Ref)
	}
	return nil
}

func (x *occasion) ready(status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&x.s.Status.Conditions, metav1.Condition{
		Type: api.ConditionReady, Status: status, Reason: reason, Message: message, ObservedGeneration: x.s.Generation,
	})
}

// save writes the status where it changed, and tells what went wrong once.
func (x *occasion) save(ctx context.Context) error {
	x.s.Status.ObservedGeneration = x.s.Generation
	if equality.Semantic.DeepEqual(x.before.Status, x.s.Status) {
		return nil
	}
	base := x.s.DeepCopy()
	base.Status = x.before.Status
	if err := x.Client.Status().Patch(ctx, x.s, client.MergeFrom(base)); err != nil {
		return client.IgnoreNotFound(err)
	}
	now, before := meta.FindStatusCondition(x.s.Status.Conditions, api.ConditionReady), meta.FindStatusCondition(x.before.Status.Conditions, api.ConditionReady)
	if now != nil && now.Status == metav1.ConditionFalse && now.Reason != "Suspended" && now.Reason != "Copy" && (before == nil || before.Message != now.Message) {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, now.Reason, "Schedule", "%s", now.Message)
	}
	return nil
}

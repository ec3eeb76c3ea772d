package target

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// defaultDeadline is for drills that say none.
const defaultDeadline = time.Hour

// drills opens recovery points to try them. The copy is a Standby of its own, which
// reads the round from the repository: the standby that is tried is not touched.
type drills struct{ *Agent }

func (a *Agent) setUpDrills(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&api.Drill{}).
		Watches(&api.Standby{}, handler.EnqueueRequestsFromMapFunc(a.drillOf)).
		Complete(reconcile.Func(drills{a}.Reconcile))
}

func (a *Agent) drillOf(_ context.Context, o client.Object) []reconcile.Request {
	s, is := o.(*api.Standby)
	if !is || s.Spec.Drill == nil {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: s.Namespace, Name: s.Spec.Drill.Name}}}
}

// drill is one look at one Drill.
type drill struct {
	*Agent
	d, before *api.Drill
	// standby is the one that is tried, and copied the copy; nil where there is none.
	standby, copied *api.Standby
	// round is what would be opened, with its claims.
	round    string
	observed migrate.ObservedDrill
}

// Reconcile takes one Drill one action further.
func (r drills) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var d api.Drill
	if err := r.Live.Get(ctx, req.NamespacedName, &d); err != nil || d.Namespace != r.Namespace {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	x := &drill{Agent: r.Agent, d: &d, before: d.DeepCopy()}
	if err := x.observe(ctx); err != nil {
		return ctrl.Result{}, err
	}
	action := migrate.NextDrill(x.observed, x.Now())
	again, err := x.act(ctx, action)
	if err != nil {
		x.d.Status.Message = err.Error()
		return ctrl.Result{RequeueAfter: standbyWait}, x.save(ctx)
	}
	if action.Kind == migrate.LetGoDrill || action.Kind == migrate.HoldDrill {
		return ctrl.Result{RequeueAfter: again}, nil
	}
	return ctrl.Result{RequeueAfter: again}, x.save(ctx)
}

func (x *drill) save(ctx context.Context) error {
	x.d.Status.ObservedGeneration = x.d.Generation
	if equality.Semantic.DeepEqual(x.before.Status, x.d.Status) {
		return nil
	}
	return client.IgnoreNotFound(x.Client.Status().Patch(ctx, x.d, client.MergeFrom(x.before)))
}

func (x *drill) act(ctx context.Context, a migrate.DrillAction) (time.Duration, error) {
	const soon = time.Millisecond
	switch a.Kind {
	case migrate.HoldDrill:
		controllerutil.AddFinalizer(x.d, api.Finalizer)
		return soon, x.Client.Patch(ctx, x.d, client.MergeFrom(x.before))
	case migrate.LetGoDrill:
		controllerutil.RemoveFinalizer(x.d, api.Finalizer)
		return 0, client.IgnoreNotFound(x.Client.Patch(ctx, x.d, client.MergeFrom(x.before)))
	case migrate.BeginDrill:
		x.begin()
		return soon, nil
	case migrate.CloseNamespaces:
		return soon, x.closeNamespaces(ctx)
	case migrate.OpenCopy:
		return standbyPoll, x.open(ctx)
	case migrate.WatchDrill:
		x.show()
		return standbyPoll, nil
	case migrate.PassDrill, migrate.FailDrill:
		x.end(a.Kind == migrate.PassDrill, a.Message)
		return soon, nil
	case migrate.ClearDrill:
		return standbyPoll, x.clear(ctx)
	case migrate.RestDrill:
		return x.rest(a.Message), nil
	}
	return 0, fmt.Errorf("drill %s: action %q is unknown", x.d.Name, a.Kind)
}

func (x *drill) begin() {
	now := metav1.NewTime(x.Now())
	s := &x.d.Status
	s.Phase, s.Round, s.Ready, s.Seconds, s.Message = api.DrillOpening, x.round, "", 0, ""
	s.Started, s.Ended, s.NextRun = &now, nil, nil
	if x.d.Spec.IntervalHours > 0 {
		next := metav1.NewTime(now.Add(time.Duration(x.d.Spec.IntervalHours) * time.Hour))
		s.NextRun = &next
	}
	x.Events.Eventf(x.d, nil, corev1.EventTypeNormal, "Started", "Drill", "round %s of %s is opened in %s", x.round, x.standby.Spec.Application, x.where())
}

func (x *drill) where() string {
	return strings.Join(x.namespaces(), ", ")
}

// open asks for the copy. It carries no name of a volume of the source: the standby
// that is tried may want it one day.
func (x *drill) open(ctx context.Context) error {
	if x.standby == nil {
		return fmt.Errorf("standby %s, which is to be tried, is gone", x.d.Spec.Standby)
	}
	spec := api.StandbySpec{
		PairID: x.standby.Spec.PairID, Application: x.standby.Spec.Application, Round: x.d.Status.Round,
		Namespaces: x.standby.Spec.Namespaces, StartApplications: true, IncludeResources: true,
		Drill: &api.StandbyDrill{Name: x.d.Name, UID: x.d.UID, Namespaces: x.d.Spec.Namespaces, Standby: x.standby.Name},
	}
	for _, e := range x.standby.Status.Snapshots {
		if e.Round == spec.Round && e.Ready {
			spec.Drill.Snapshots = e.Volumes
		}
	}
	for _, c := range claimsHeld(x.standby) {
		c.SourceVolume = ""
		spec.Volumes = append(spec.Volumes, c)
	}
	made := &api.Standby{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: x.Namespace, Name: x.copyName(),
			Labels: map[string]string{labelManaged: managedBy, labelPair: spec.PairID, api.LabelDrill: string(x.d.UID)},
		},
		Spec: spec,
	}
	if err := x.Client.Create(ctx, made); err != nil {
		return fmt.Errorf("open round %s: %w", spec.Round, err)
	}
	return nil
}

// claimsHeld are the claims of the round that a standby holds.
func claimsHeld(s *api.Standby) []api.StandbyClaim {
	if len(s.Status.Claims) > 0 {
		return s.Status.Claims
	}
	return s.Spec.Volumes
}

func (x *drill) copyName() string { return "drill-" + x.d.Name }

func (x *drill) show() {
	s := &x.d.Status
	s.Ready, s.Message = x.observed.Ready, ""
	if x.observed.CopyReady {
		s.Phase = api.DrillStarting
		return
	}
	s.Phase = api.DrillOpening
	if x.copied != nil {
		s.Message = x.copied.Status.Message
	}
}

func (x *drill) end(success bool, message string) {
	now := metav1.NewTime(x.Now())
	s := &x.d.Status
	s.Phase, s.Ended, s.Ready, s.Message = api.DrillFailed, &now, x.observed.Ready, message
	s.Seconds = int64(now.Sub(s.Started.Time).Seconds())
	if success {
		s.Phase, s.LastSuccess, s.Message = api.DrillSucceeded, &now, x.leftOut()
	}
	result := api.DrillResult{Started: *s.Started, Round: s.Round, Success: success, Seconds: s.Seconds, Ready: s.Ready, Message: shorten(s.Message)}
	s.Results = append([]api.DrillResult{result}, s.Results...)
	s.Results = s.Results[:min(len(s.Results), api.MostDrillResults)]
	if success {
		x.Events.Eventf(x.d, nil, corev1.EventTypeNormal, "Succeeded", "Drill", "round %s came up in %d s: %s ready", s.Round, s.Seconds, s.Ready)
		return
	}
	x.Events.Eventf(x.d, nil, corev1.EventTypeWarning, "Failed", "Drill", "round %s did not come up: %s", s.Round, message)
}

// leftOut says how many objects could not be part of the drill.
func (x *drill) leftOut() string {
	n := 0
	for _, r := range x.copied.Status.Resources {
		if r.Status == api.MigrationStatusFailed {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d objects are not part of it: see status.resources of Standby %s", n, x.copied.Name)
}

// rest says what it waits for.
func (x *drill) rest(message string) time.Duration {
	s := &x.d.Status
	if s.Started == nil || message != "" {
		s.Phase, s.Message = api.DrillWaiting, message
		return standbyWait
	}
	if s.NextRun == nil {
		return 0
	}
	if !x.observed.Left {
		s.Phase = api.DrillWaiting
	}
	return max(s.NextRun.Sub(x.Now()), time.Second)
}

// clear removes the namespaces with all that runs in them, and then the copy with
// its volumes.
func (x *drill) clear(ctx context.Context) error {
	if x.d.Status.Phase != api.DrillFailed && x.d.Status.Phase != api.DrillSucceeded {
		x.d.Status.Phase = api.DrillClearing
	}
	left, err := x.ownNamespaces(ctx)
	if err != nil {
		return err
	}
	for _, ns := range left {
		if !ns.DeletionTimestamp.IsZero() {
			continue
		}
		uid := ns.UID
		if err := x.Client.Delete(ctx, ns, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("remove namespace %s of the drill: %w", ns.Name, err)
		}
	}
	if len(left) > 0 || x.copied == nil || !x.copied.DeletionTimestamp.IsZero() {
		return nil
	}
	if err := x.Client.Delete(ctx, x.copied); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("remove Standby %s of the drill: %w", x.copied.Name, err)
	}
	return nil
}

// observe looks at everything that a decision may rest on.
func (x *drill) observe(ctx context.Context) error {
	o, s := &x.observed, x.d.Status
	o.Deleting, o.HasFinalizer = !x.d.DeletionTimestamp.IsZero(), controllerutil.ContainsFinalizer(x.d, api.Finalizer)
	o.Begun, o.Ended, o.Repeats = s.Started != nil, s.Ended != nil, x.d.Spec.IntervalHours > 0
	o.Due = !o.Begun || o.Ended && s.NextRun != nil && !x.Now().Before(s.NextRun.Time)
	if o.Begun {
		deadline := time.Duration(x.d.Spec.DeadlineSeconds) * time.Second
		if deadline == 0 {
			deadline = defaultDeadline
		}
		o.Deadline = s.Started.Add(deadline)
	}
	if err := x.findStandbies(ctx); err != nil {
		return err
	}
	if err := x.observeNamespaces(ctx); err != nil {
		return err
	}
	o.Left = o.Left || x.copied != nil
	if c := x.copied; c != nil {
		o.CopyThere, o.CopyReady = true, reachedRound(c)
		switch {
		case !c.DeletionTimestamp.IsZero():
			o.CopyFailed = "Standby " + c.Name + ", the copy, was deleted"
		case c.Status.Phase == api.StandbyFailed:
			o.CopyFailed = c.Status.Message
		}
	}
	if !o.CopyReady {
		return nil
	}
	var err error
	o.Ready, o.Up, err = x.workloadsUp(ctx, x.namespaces())
	return err
}

func (x *drill) findStandbies(ctx context.Context) error {
	var err error
	if x.standby, err = x.find(ctx, x.d.Spec.Standby); err != nil {
		return err
	}
	if x.copied, err = x.find(ctx, x.copyName()); err != nil {
		return err
	}
	if c := x.copied; c != nil && (c.Spec.Drill == nil || c.Spec.Drill.UID != x.d.UID) {
		x.copied, x.observed.Taken = nil, "Standby "+c.Name+" is not this drill's: give the drill another name"
	}
	switch s := x.standby; {
	case s == nil:
		x.observed.NoRound = "there is no Standby " + x.d.Spec.Standby + " in this namespace: see get standby"
	case s.Spec.Drill != nil:
		x.observed.NoRound = "Standby " + s.Name + " is itself the copy of a drill"
	case x.d.Spec.Round != "":
		x.round = x.d.Spec.Round
	case s.Status.Round != "":
		x.round = s.Status.Round
	case s.Status.Previous != "":
		x.round = s.Status.Previous
	default:
		x.observed.NoRound = "standby " + s.Name + " holds no round yet"
	}
	return nil
}

// find gives a Standby of Godwit's namespace; nil where there is none.
func (x *drill) find(ctx context.Context, name string) (*api.Standby, error) {
	var s api.Standby
	err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: name}, &s)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("read Standby %s: %w", name, err)
	}
	return &s, nil
}

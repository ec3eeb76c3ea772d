package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
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
)

// +kubebuilder:rbac:groups=godwit.io,resources=migrations,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=godwit.io,resources=migrations/status,verbs=patch
// +kubebuilder:rbac:groups=godwit.io,resources=volumetransfers,verbs=list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=namespaces;persistentvolumeclaims;persistentvolumes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",namespace=godwit-system,resources=secrets,verbs=create;update;delete

// Migrations carries out Migrations on the source.
type Migrations struct {
	Client client.Client
	// Live reads past the cache, where what was made a moment ago counts.
	Live      client.Reader
	Peers     pairing.PeerStore
	Remote    Remote
	Locator   Locator
	Opener    snapshot.Opener
	Snapshots Snapshots
	// Objects is this cluster as objects are collected from it.
	Objects workload.Cluster
	Events  Events
	// Commands runs rules in pods; nil where this installation may not.
	Commands Commands
	// Hooks runs hooks on this cluster; nil where this installation may not.
	Hooks Hooks
	// CommandLimit is how long one command of a rule may take, and hold.
	CommandLimit time.Duration
	// ClusterID is this cluster's.
	ClusterID string
	// Namespace is Godwit's own; AdminNamespace may migrate any other.
	Namespace, AdminNamespace string
	// Concurrent bounds how many Migrations advance at once.
	Concurrent int
	// Exposures bounds how many volumes of one Migration are exposed at once;
	// zero means DefaultExposures.
	Exposures int
	Now       func() time.Time
}

// SetupWithManager registers the reconciler.
func (r *Migrations) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&api.Migration{}).
		Watches(&api.VolumeTransfer{}, handler.EnqueueRequestsFromMapFunc(ownerOf)).
		WithOptions(controller.Options{MaxConcurrentReconciles: r.Concurrent}).
		Complete(r)
}

func ownerOf(_ context.Context, o client.Object) []reconcile.Request {
	a := o.GetAnnotations()
	if a[annotationOwnerName] == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: a[annotationOwnerNS], Name: a[annotationOwnerName]}}}
}

// run is one reconciliation: what was loaded and found on the way.
type run struct {
	*Migrations
	m      *api.Migration
	before *api.Migration
	pair   *api.ClusterPair
	peer   pairing.Peer
	// sharers are the other ClusterPairs that use the same repository, by name, and
	// sharesBases is true where one of them has Migrations of the application.
	sharers     map[string]api.ClusterPair
	sharesBases bool
	target      migrate.Target
	// admin is the target as the admin pair reaches it; nil for none.
	admin  migrate.Target
	claims []claim
	// warnings are told when the Migration is admitted.
	warnings []string
	observed migrate.Observed
	// users is how many pods keep the source from being still; beat, when a node last
	// said that it works on one of the transfers.
	users, beat int64
}

// Reconcile takes one Migration one action further.
func (r *Migrations) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var m api.Migration
	if err := r.Client.Get(ctx, req.NamespacedName, &m); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	x := &run{Migrations: r, m: &m, before: m.DeepCopy()}
	if err := x.observe(ctx); err != nil {
		return x.stumble(ctx, migrate.Action{Kind: migrate.Wait, Reason: stageObserve}, err)
	}
	action := migrate.Next(x.observed)
	requeue, err := x.act(ctx, action)
	if err != nil {
		return x.stumble(ctx, action, err)
	}
	if action.Kind == migrate.LetGo || action.Kind == migrate.Nothing {
		return ctrl.Result{}, nil
	}
	x.stand(action)
	return ctrl.Result{RequeueAfter: requeue}, x.save(ctx)
}

// act takes the one action and says when to look again.
func (x *run) act(ctx context.Context, a migrate.Action) (time.Duration, error) {
	const soon = time.Millisecond
	type step struct {
		do    func(context.Context) error
		again time.Duration
	}
	taken, known := map[migrate.ActionKind]step{
		migrate.Hold:              {x.hold, soon},
		migrate.LetGo:             {x.letGo, 0},
		migrate.Wait:              {x.told(x.wait, a), migrationWait},
		migrate.Fail:              {x.told(x.fail, a), soon},
		migrate.AskEpoch:          {x.askEpoch, soon},
		migrate.Admit:             {x.admit, soon},
		migrate.AskTarget:         {x.askTarget, soon},
		migrate.StopSource:        {x.stopSource, migrationPoll / 4},
		migrate.TakeSnapshots:     {x.takeSnapshots, migrationPoll},
		migrate.RunPreRule:        {x.preRule, migrationPoll / 4},
		migrate.RunHook:           {func(ctx context.Context) error { return x.runHook(ctx, a.Hook) }, migrationPoll},
		migrate.ReleaseHold:       {x.releaseHold, migrationPoll / 4},
		migrate.RunPostRule:       {x.postRule, migrationPoll / 4},
		migrate.CollectObjects:    {x.collectObjects, soon},
		migrate.Upload:            {x.upload, migrationPoll},
		migrate.RetainVolumes:     {x.retainVolumes, migrationPoll / 4},
		migrate.SealRound:         {x.seal, soon},
		migrate.BeginTarget:       {x.begin, migrationPoll},
		migrate.PollTarget:        {x.showTarget, migrationPoll},
		migrate.EndPlan:           {x.endPlan, soon},
		migrate.Finish:            {x.finish, soon},
		migrate.Release:           {x.release, migrationPoll},
		migrate.Forget:            {x.forget, migrationPoll},
		migrate.EndCancelled:      {x.told(x.cancelled, a), soon},
		migrate.ClearUp:           {x.clearUp, migrationPoll / 4},
		migrate.Nothing:           {func(context.Context) error { return nil }, 0},
		migrate.Precopy:           {x.precopy, migrationPoll},
		migrate.RollBackMigration: {x.rollBack, migrationPoll},
	}[a.Kind]
	if !known {
		return 0, fmt.Errorf("migration %s/%s: action %q is unknown", x.m.Namespace, x.m.Name, a.Kind)
	}
	return x.lookAgain(a, taken.again), taken.do(ctx)
}

// lookAgain is sooner than usual where a wait has just begun, and most likely ends at
// once: a round in which nothing changed is through in less than one poll.
func (x *run) lookAgain(a migrate.Action, usual time.Duration) time.Duration {
	if a.Kind == migrate.Wait && a.Reason == migrate.ReasonTurn {
		return migrationPoll
	}
	began, waits := map[migrate.ActionKind]string{
		migrate.TakeSnapshots: conditionAdmitted, migrate.Upload: conditionSnapshotted,
		migrate.BeginTarget: conditionSealed, migrate.PollTarget: conditionBegun, migrate.Release: conditionComplete,
	}[a.Kind]
	c := meta.FindStatusCondition(x.m.Status.Conditions, began)
	if !waits || c == nil || x.Now().Sub(c.LastTransitionTime.Time) > promptly {
		return usual
	}
	return migrationPoll / 4
}

func (x *run) told(tell func(reason, message string), a migrate.Action) func(context.Context) error {
	return func(context.Context) error {
		tell(a.Reason, a.Message)
		return nil
	}
}

func (x *run) hold(ctx context.Context) error {
	controllerutil.AddFinalizer(x.m, api.Finalizer)
	return x.Client.Patch(ctx, x.m, client.MergeFrom(x.before))
}

func (x *run) letGo(ctx context.Context) error {
	controllerutil.RemoveFinalizer(x.m, api.Finalizer)
	return client.IgnoreNotFound(x.Client.Patch(ctx, x.m, client.MergeFrom(x.before)))
}

// stumble decides, in this one place, whether an error ends a Migration or is
// tried again: only what its owner has to change ends it.
func (x *run) stumble(ctx context.Context, a migrate.Action, err error) (ctrl.Result, error) {
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	if isElsewhere(err) {
		x.elsewhere(err)
	}
	if errors.Is(err, migrate.ErrActivated) {
		err = &finalError{reason: api.ReasonApplicationActivated, err: err}
	}
	var f *finalError
	if errors.As(err, &f) && x.m.DeletionTimestamp.IsZero() && x.m.Status.Stage != api.MigrationStageFinal {
		x.fail(f.reason, f.Error())
		return ctrl.Result{RequeueAfter: time.Millisecond}, x.save(ctx)
	}
	reason := "Retrying"
	if errors.Is(err, pairing.ErrUnreachable) {
		reason = "TargetUnreachable"
	}
	x.waiting(reason, err.Error())
	x.failed(a, err)
	if a.Kind != migrate.BeginTarget || !unanswered(err) {
		x.stand(a)
	}
	if saveErr := x.save(ctx); saveErr != nil {
		return ctrl.Result{}, errors.Join(err, saveErr)
	}
	if reason == "TargetUnreachable" || x.m.Status.Stage == api.MigrationStageFinal && x.before.Status.Stage != api.MigrationStageFinal {
		return ctrl.Result{RequeueAfter: migrationWait}, nil
	}
	return ctrl.Result{}, err
}

// unanswered is true for a call that the target may have taken although it failed here.
func unanswered(err error) bool {
	return errors.Is(err, pairing.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// save writes the status where it changed.
func (x *run) save(ctx context.Context) error {
	x.m.Status.ObservedGeneration = x.m.Generation
	x.summarize()
	if equality.Semantic.DeepEqual(x.before.Status, x.m.Status) {
		return nil
	}
	base := x.before.DeepCopy()
	base.ResourceVersion = x.m.ResourceVersion
	base.Finalizers = x.m.Finalizers
	if err := x.Client.Status().Patch(ctx, x.m, client.MergeFrom(base)); err != nil {
		return client.IgnoreNotFound(err)
	}
	x.announce()
	return nil
}

// finalError is one that trying again does not mend.
type finalError struct {
	reason string
	err    error
}

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

func final(reason, format string, args ...any) error {
	return &finalError{reason: reason, err: fmt.Errorf(format, args...)}
}

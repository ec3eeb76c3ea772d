package target

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

const (
	// pointsListed is how often a repository is read again without a cause.
	pointsListed = 2 * time.Minute
	// pointsAtOnce bounds how many repositories are read at a time.
	pointsAtOnce = 2
)

// listPoints keeps the lists of recovery points: beside the work on rounds, so
// that a store which hangs holds up no failover.
type listPoints struct{ *Agent }

// setUpPoints registers the lister. A round that was reached is listed at once.
func (a *Agent) setUpPoints(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("recoverypoints").
		For(&api.Standby{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			before, is := e.ObjectOld.(*api.Standby)
			after, too := e.ObjectNew.(*api.Standby)
			return is && too && (before.Status.Round != after.Status.Round || before.Spec.Round != after.Spec.Round)
		}})).
		WithOptions(controller.Options{MaxConcurrentReconciles: pointsAtOnce}).
		Complete(reconcile.Func(listPoints{a}.Reconcile))
}

// Reconcile reads from the repository which recovery points there are.
func (l listPoints) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var s api.Standby
	if err := l.Client.Get(ctx, req.NamespacedName, &s); err != nil || !s.DeletionTimestamp.IsZero() || s.Spec.Drill != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	x := &run{Agent: l.Agent, s: &s, before: s.DeepCopy()}
	points, err := x.readPoints(ctx)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	if err != nil {
		// The list of before is still the best that is known, with its time.
		points = s.Status.Points.DeepCopy()
		if points == nil {
			points = &api.RecoveryPoints{}
		}
		points.Message = err.Error()
	}
	before := x.before.Status.Points
	s.Status.Points = points
	if s.Status.Activatable, err = x.foreseeActivation(ctx); err != nil {
		return ctrl.Result{}, err
	}
	if equality.Semantic.DeepEqual(x.before.Status, s.Status) {
		return ctrl.Result{RequeueAfter: pointsListed}, nil
	}
	// Both fields are this reconciler's alone: what the other one writes meanwhile stays.
	if err := l.Client.Status().Patch(ctx, &s, client.MergeFrom(x.before)); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(fmt.Errorf("list the recovery points of Standby %s: %w", s.Name, err))
	}
	x.tellRefused(before)
	if a, was := s.Status.Activatable, x.before.Status.Activatable; a != nil && !a.Ready && (was == nil || was.Message != a.Message) {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "NotActivatable", "Foresee", "it could not be activated now: %s", a.Message)
	}
	return ctrl.Result{RequeueAfter: pointsListed}, nil
}

func (x *run) readPoints(ctx context.Context) (*api.RecoveryPoints, error) {
	var err error
	if x.peer, err = x.Peers.Get(ctx, pairing.Incoming, x.s.Spec.PairID); err != nil {
		return nil, fmt.Errorf("read pair %s: %w", x.s.Spec.PairID, err)
	}
	sealed, err := x.repositoryRounds(ctx)
	if err != nil {
		return nil, err
	}
	points := &api.RecoveryPoints{Listed: moment(x.Now()), Total: int32(min(len(sealed), 1<<30))}
	for _, s := range sealed[:min(len(sealed), api.MostRecoveryPoints)] {
		points.Items = append(points.Items, x.describe(s))
	}
	return points, nil
}

// repositoryRounds are all rounds of the application in the repository, newest
// first, without what this cluster sealed itself.
func (x *run) repositoryRounds(ctx context.Context) ([]snapshot.SealedRound, error) {
	var sealed []snapshot.SealedRound
	err := x.inRepository(ctx, x.peer, func(r snapshot.Repository) (err error) {
		sealed, err = x.roundsIn(ctx, r)
		return err
	})
	return sealed, err
}

// roundsIn are those of the pair: the repository may serve both directions, and several
// targets.
func (x *run) roundsIn(ctx context.Context, r snapshot.Rounds) ([]snapshot.SealedRound, error) {
	sealed, err := r.Recoverable(ctx, x.s.Spec.Application)
	if err != nil {
		return nil, fmt.Errorf("list the rounds of %s: %w", x.s.Spec.Application, err)
	}
	return slices.DeleteFunc(sealed, func(s snapshot.SealedRound) bool {
		cluster, pair := s.Says()
		return cluster == x.ClusterID || pair != "" && pair != x.s.Spec.PairID
	}), nil
}

// trusted reads a round that the pair's source sealed for this application.
func (x *run) trusted(s snapshot.SealedRound) (snapshot.RecoveryPoint, error) {
	point, err := s.Read(x.peer)
	if err == nil && (point.App != x.s.Spec.Application || point.Cluster != x.peer.ClusterID) {
		err = fmt.Errorf("it is of %s in cluster %s", point.App, point.Cluster)
	}
	return point, err
}

// describe tells of one round. Of one that is not to be trusted only its name is
// told, where it is one.
func (x *run) describe(s snapshot.SealedRound) api.RecoveryPoint {
	point, err := x.trusted(s)
	if err != nil {
		var claimed struct {
			Round string `json:"round"`
		}
		if json.Unmarshal(s.Statement, &claimed) != nil || !plainName().MatchString(claimed.Round) {
			claimed.Round = "?"
		}
		return api.RecoveryPoint{Round: claimed.Round, Seal: api.SealRefused, Reason: shorten(err.Error())}
	}
	told := api.RecoveryPoint{
		Round: point.Round, Sealed: moment(point.Sealed), Seal: api.SealValid, Volumes: int32(min(len(point.Images), 1<<30)),
	}
	for _, image := range point.Images {
		told.SizeBytes += image.Size
		told.Taken = earlier(told.Taken, moment(image.Taken))
	}
	return told
}

func plainName() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`) }

func shorten(text string) string {
	const most = 256
	if len(text) <= most {
		return text
	}
	return text[:most]
}

// tellRefused makes an event of each point that is seen to be refused for the
// first time.
func (x *run) tellRefused(before *api.RecoveryPoints) {
	known := map[string]bool{}
	if before != nil {
		for _, p := range before.Items {
			known[p.Round] = p.Seal == api.SealRefused
		}
	}
	for _, p := range x.s.Status.Points.Items {
		if p.Seal == api.SealRefused && !known[p.Round] {
			x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "RoundRefused", "List", "round %s in the repository is not to be used: %s", p.Round, p.Reason)
		}
	}
}

// measure says of which moment the standby is, and how large.
func (x *run) measure() {
	s := &x.s.Status
	s.Taken, s.SizeBytes = nil, 0
	for _, v := range s.Volumes {
		s.Taken = earlier(s.Taken, v.Taken)
		s.SizeBytes += v.ImageBytes
	}
}

func moment(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	at := metav1.NewTime(t)
	return &at
}

// earlier gives the earlier of two moments that may not be known.
func earlier(a, b *metav1.Time) *metav1.Time {
	if a == nil || b != nil && b.Before(a) {
		return b
	}
	return a
}

package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

const (
	upkeepEvery = 10 * time.Minute
	// upkeepWait is for a pair that does not stand yet.
	upkeepWait = time.Minute
	// mostNamed is how many rounds an event names.
	mostNamed = 5
)

// Upkeep keeps the repositories of this cluster's pairs: it removes the recovery
// points that no schedule keeps, with their images, and has the repository
// maintained. One repository is looked at at a time, so that memory is bounded by
// the largest, and only by the replica that leads.
//
// It removes nothing that it does not know to be superfluous: not while the target
// cannot be asked, since it may be failing over; not of an application that was
// activated there.
type Upkeep struct {
	Client client.Client
	// Live reads past the cache: what was made a moment ago may need an image.
	Live      client.Reader
	Peers     pairing.PeerStore
	Remote    Remote
	Locator   Locator
	Opener    snapshot.Opener
	Events    Events
	ClusterID string
	// Namespace is Godwit's own.
	Namespace string
	Now       func() time.Time
}

// SetupWithManager registers the reconciler.
func (r *Upkeep) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("upkeep").
		For(&api.ClusterPair{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		Complete(r)
}

// upkeep is one look at one repository.
type upkeep struct {
	*Upkeep
	pair   *api.ClusterPair
	status *api.RepositoryUpkeep
	peer   pairing.Peer
	// peers are those of all ClusterPairs of the namespace that use the repository, by
	// the ClusterPair's name.
	peers      map[string]pairing.Peer
	repository snapshot.Repository
	view       upkeepView
	// inRounds are the images of all rounds, whoever sealed them.
	inRounds map[snapshot.ImageID]bool
}

// Reconcile goes through one pair's repository.
func (r *Upkeep) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p api.ClusterPair
	if err := r.Client.Get(ctx, req.NamespacedName, &p); err != nil || !p.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if isIncoming(&p, r.Namespace) {
		return ctrl.Result{}, nil // Its source keeps it.
	}
	if p.Status.PairID == "" || p.Status.StorageStatus != api.ClusterPairStatusReady {
		return ctrl.Result{RequeueAfter: upkeepWait}, nil
	}
	x := &upkeep{Upkeep: r, pair: &p, status: p.Status.Upkeep.DeepCopy(), inRounds: map[snapshot.ImageID]bool{}}
	if x.status == nil {
		x.status = &api.RepositoryUpkeep{}
	}
	err := x.turn(ctx)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	return ctrl.Result{RequeueAfter: upkeepEvery}, x.report(ctx, err)
}

func (x *upkeep) turn(ctx context.Context) error {
	x.status.Message = ""
	keeper, err := x.findPeers(ctx)
	if err != nil {
		return err
	}
	if keeper != x.pair.Name {
		x.note("the repository is that of ClusterPair " + keeper + ", which keeps it")
		return nil
	}
	location, err := backupLocation(x.pair)
	if err != nil {
		return err
	}
	x.peer = x.peers[x.pair.Name]
	x.view.pair = x.peer.PairID
	loc, err := x.Locator.ForPeer(ctx, x.peer, location)
	if err != nil {
		return err
	}
	if x.repository, err = x.Opener.Open(ctx, loc, false); err != nil {
		return err
	}
	err = errors.Join(x.prune(ctx), x.maintain(ctx))
	return errors.Join(err, x.repository.Close(ctx))
}

// findPeers reads the pairs that use the repository, and names the one that keeps it:
// that which it was made for, or else the first.
func (x *upkeep) findPeers(ctx context.Context) (string, error) {
	var list api.ClusterPairList
	if err := x.Client.List(ctx, &list, client.InNamespace(x.pair.Namespace)); err != nil {
		return "", fmt.Errorf("list the ClusterPairs of namespace %s: %w", x.pair.Namespace, err)
	}
	x.peers = map[string]pairing.Peer{}
	keeper := x.pair.Name
	for _, p := range list.Items {
		shares := p.Status.Repository != "" && p.Status.Repository == x.pair.Status.Repository
		if p.Name != x.pair.Name && !shares {
			continue
		}
		peer, err := x.Peers.Get(ctx, pairing.Outgoing, p.Status.PairID)
		if err != nil {
			return "", fmt.Errorf("read pair %s: %w", p.Status.PairID, err)
		}
		x.peers[p.Name] = peer
		if owner := x.peers[keeper]; peer.MakesRepository() || !owner.MakesRepository() && p.Name < keeper {
			keeper = p.Name
		}
	}
	return keeper, nil
}

// prune removes what retention does not keep. Rounds go before their images: a
// round that is listed is whole.
func (x *upkeep) prune(ctx context.Context) error {
	if err := x.look(ctx); err != nil {
		return err
	}
	gone := map[line][]snapshot.RecoveryPoint{}
	for _, p := range x.view.superfluous() {
		gone[x.view.lineOf(p)] = append(gone[x.view.lineOf(p)], p)
	}
	for of, points := range gone {
		safe, err := x.targetAtRest(ctx, of)
		if err != nil {
			return err
		}
		if !safe {
			continue
		}
		if err := x.remove(ctx, of.app, points); err != nil {
			return err
		}
	}
	return nil
}

// look reads the rounds, and who needs which images.
func (x *upkeep) look(ctx context.Context) error {
	x.view.now = x.Now()
	if err := x.lookAtUses(ctx); err != nil {
		return err
	}
	sealed, err := x.repository.Recoverable(ctx, "")
	if err != nil {
		return fmt.Errorf("list the recovery points: %w", err)
	}
	x.status.Points = int64(len(sealed))
	for _, s := range sealed {
		var claimed snapshot.RecoveryPoint
		if err := json.Unmarshal(s.Statement, &claimed); err != nil {
			return fmt.Errorf("a recovery point cannot be read, so that nobody knows what it needs: %w", err)
		}
		for _, i := range claimed.Images {
			x.inRounds[i.ID] = true
		}
		if point, err := s.Read(x.peer); err == nil && point.Cluster == x.ClusterID {
			x.view.points = append(x.view.points, point)
		}
	}
	return nil
}

// targetAtRest asks the target whether the application was activated there. One
// that cannot be asked may be failing over to any of the rounds just now.
func (x *upkeep) targetAtRest(ctx context.Context, of line) (bool, error) {
	peer, app := x.peer, of.app
	for _, p := range x.peers {
		if p.PairID == of.pair {
			peer = p
		}
	}
	target, err := x.Remote.Target(ctx, peer)
	if err == nil {
		_, err = target.Preflight(ctx, migrate.Preflight{Application: app, Namespaces: peer.Scope.Namespaces})
	}
	switch {
	case errors.Is(err, migrate.ErrActivated):
		x.note(app + " runs on the target: all of its recovery points stay")
		return false, nil
	case errors.Is(err, pairing.ErrUnreachable):
		x.note("the target cannot be asked, and may be failing over: all recovery points stay until it answers")
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask the target whether recovery points of %s may go: %w", app, err)
	}
	return true, nil
}

func (x *upkeep) note(text string) {
	if !strings.Contains(x.status.Message, text) {
		x.status.Message = strings.TrimPrefix(x.status.Message+"; "+text, "; ")
	}
}

func (x *upkeep) remove(ctx context.Context, app string, points []snapshot.RecoveryPoint) error {
	var names []string
	for _, p := range points {
		if err := x.repository.ForgetRound(ctx, p); err != nil {
			return err
		}
		names = append(names, p.Round)
		x.status.Points--
		x.status.RemovedPoints++
	}
	stays := x.imagesThatStay(points)
	for _, p := range points {
		for _, i := range p.Images {
			if stays[i.ID] {
				continue
			}
			if err := x.repository.Forget(ctx, i.ID); err != nil {
				return err
			}
			delete(x.inRounds, i.ID)
			x.status.RemovedImages++
		}
	}
	more := ""
	if n := len(names) - mostNamed; n > 0 {
		names, more = names[:mostNamed], fmt.Sprintf(" and %d more", n)
	}
	x.Events.Eventf(x.pair, nil, corev1.EventTypeNormal, "RecoveryPointsRemoved", "Prune",
		"%d recovery points of %s, which its schedules do not keep, were removed: %s%s", len(points), app, strings.Join(names, ", "), more)
	return nil
}

// imagesThatStay are those that other rounds have too.
func (x *upkeep) imagesThatStay(gone []snapshot.RecoveryPoint) map[snapshot.ImageID]bool {
	going := map[string]bool{}
	for _, p := range gone {
		going[p.App+"@"+p.Round] = true
	}
	stays := map[snapshot.ImageID]bool{}
	for id := range x.view.inUse {
		stays[id] = true
	}
	for _, p := range x.view.points {
		if going[p.App+"@"+p.Round] {
			continue
		}
		for _, i := range p.Images {
			stays[i.ID] = true
		}
	}
	return stays
}

// maintain frees space, where this cluster is the one that does so.
func (x *upkeep) maintain(ctx context.Context) error {
	m, can := x.repository.(snapshot.Maintenance)
	if !can {
		return fmt.Errorf("the repository of pair %s cannot be maintained", x.peer.PairID)
	}
	done, err := m.Maintain(ctx, snapshot.MaintainRequest{})
	if errors.Is(err, snapshot.ErrNotOwner) {
		x.note(err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	if done.Mode != snapshot.MaintenanceFull {
		return nil
	}
	now := metav1.NewTime(x.Now())
	x.status.Collected = &now
	return x.sweepImages(ctx)
}

// sweepImages removes, once for each collection, what rounds that failed or were
// cancelled left, and what a crash kept from going with its round.
func (x *upkeep) sweepImages(ctx context.Context) error {
	if x.view.inUse == nil {
		return nil // Nobody knows what is used: see the error of before.
	}
	images, err := x.repository.Images(ctx, snapshot.Volume{})
	if err != nil {
		return err
	}
	for _, i := range x.view.orphans(images, x.ClusterID, x.inRounds) {
		if err := x.repository.Forget(ctx, i.ID); err != nil {
			return err
		}
		x.status.RemovedImages++
	}
	return nil
}

func (x *upkeep) report(ctx context.Context, problem error) error {
	now := metav1.NewTime(x.Now())
	x.status.Failing = problem != nil
	if problem != nil {
		x.status.Message = problem.Error()
	} else {
		x.status.Done = &now
	}
	before := x.pair.DeepCopy()
	x.pair.Status.Upkeep = x.status
	was := before.Status.Upkeep
	if equality.Semantic.DeepEqual(was, x.status) {
		return nil
	}
	if err := x.Client.Status().Patch(ctx, x.pair, client.MergeFrom(before)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("write how the repository of ClusterPair %s/%s is kept: %w", before.Namespace, before.Name, err))
	}
	if problem != nil && (was == nil || was.Message != x.status.Message) {
		x.Events.Eventf(x.pair, nil, corev1.EventTypeWarning, "UpkeepFailed", "Prune", "%s", problem)
	}
	return nil
}

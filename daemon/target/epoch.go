package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

const (
	// conditionRaising is set before the epoch is raised: from then on the source
	// cannot take a planned activation back.
	conditionRaising = "Raising"
	// conditionRaised is true once this cluster has the application, and false once
	// another has it.
	conditionRaised = "EpochRaised"
	// reasonSuperseded is its reason where another activation was first.
	reasonSuperseded = "Superseded"
	// contendedWait is how long to leave another cluster alone that is at it.
	contendedWait  = 5 * time.Second
	supersededWait = time.Minute
)

// inRepository does something in the pair's repository.
func (a *Agent) inRepository(ctx context.Context, p pairing.Peer, do func(snapshot.Repository) error) error {
	location, err := a.Locator.ForPeer(ctx, p, p.BackupLocation)
	if err != nil {
		return err
	}
	repository, err := a.Opener.Open(ctx, location, false)
	if err != nil {
		return err
	}
	err = do(repository)
	return errors.Join(err, repository.Close(ctx))
}

// epochIn reads from a repository which cluster has the application.
func epochIn(ctx context.Context, r snapshot.Epochs, p pairing.Peer, application string) (snapshot.Epoch, error) {
	key, err := p.EpochPublicKey()
	if err != nil {
		return snapshot.Epoch{}, err
	}
	return snapshot.EpochOf(ctx, r, application, key)
}

// raiseEpoch makes this cluster the one that has the application.
func (x *run) raiseEpoch(ctx context.Context) error {
	if !x.has(conditionRaising) {
		x.mark(conditionRaising, "Begun", "the epoch is raised: the source cannot take the activation back any more")
		return nil // Written down before it is raised.
	}
	key, err := x.peer.EpochKey()
	if err != nil {
		return err
	}
	var e snapshot.Epoch
	err = x.inRepository(ctx, x.peer, func(r snapshot.Repository) (err error) {
		from := x.peer.ClusterID
		if a := x.s.Spec.Activation; a != nil && a.TakeOver {
			if e, err = epochIn(ctx, r, x.peer, x.s.Spec.Application); err != nil {
				return err
			}
			from = cmp.Or(e.Cluster, from)
		}
		e, err = snapshot.Raise(ctx, r, snapshot.RaiseRequest{
			App: x.s.Spec.Application, Cluster: x.ClusterID, From: from, Key: key, Now: x.Now,
		})
		return err
	})
	switch {
	case errors.Is(err, snapshot.ErrContended):
		x.s.Status.Message, x.again = err.Error(), contendedWait
		return nil
	case errors.Is(err, snapshot.ErrSuperseded) && bringing(x.s):
		x.refuseBringing(err.Error())
		return nil
	case errors.Is(err, snapshot.ErrSuperseded):
		return x.lost(err)
	case err != nil:
		return x.raiseLater(ctx, err)
	}
	x.s.Status.Epoch, x.s.Status.Message = e.Number, ""
	message := fmt.Sprintf("this cluster has the application (epoch %d): what its source seals from now on is not taken", e.Number)
	x.mark(conditionRaised, "Raised", message)
	x.Events.Eventf(x.s, nil, corev1.EventTypeNormal, "EpochRaised", "Activate", "%s", message)
	return nil
}

// reasonLater is the reason of conditionRaised as long as the store is out of reach.
const reasonLater = "StoreOutOfReach"

// raised is true once the epoch is raised. Where the store is out of reach and all of
// the round is here, that is done when the store is back: at rest.
func (x *run) raised() bool {
	c := meta.FindStatusCondition(x.s.Status.Conditions, conditionRaised)
	atRest := x.s.Status.Phase == api.StandbyReady && x.has(conditionTidy) && x.s.Status.Activating
	return c != nil && (c.Status == metav1.ConditionTrue || c.Reason == reasonLater && !atRest)
}

// raiseLater lets an activation go on without the store, where it needs nothing of it.
func (x *run) raiseLater(ctx context.Context, why error) error {
	_, source, _, err := x.roundHere(ctx)
	if err != nil || source == migrate.FromStore || x.s.Spec.Activation.Planned {
		return errors.Join(why, err)
	}
	if meta.SetStatusCondition(&x.s.Status.Conditions, metav1.Condition{
		Type: conditionRaised, Status: metav1.ConditionUnknown, Reason: reasonLater, Message: why.Error(), ObservedGeneration: x.s.Generation,
	}) {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "EpochNotRaised", "Activate",
			"the application is activated without the store: a source that reaches the store is told nothing until this cluster does too: %v", why)
	}
	if x.s.Status.Phase == api.StandbyReady {
		x.again = contendedWait
	}
	return nil
}

// lost tells that another activation was first. Nothing was handed over, unless the
// source stopped for it.
func (x *run) lost(why error) error {
	told := meta.FindStatusCondition(x.s.Status.Conditions, conditionRaised)
	if again := told != nil && told.ObservedGeneration != x.s.Generation; meta.SetStatusCondition(&x.s.Status.Conditions, metav1.Condition{
		Type: conditionRaised, Status: metav1.ConditionFalse, Reason: reasonSuperseded, Message: why.Error(), ObservedGeneration: x.s.Generation,
	}) || again {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, reasonSuperseded, "Activate", "it is not activated here: %v", why)
	}
	x.s.Status.Message, x.again = why.Error(), supersededWait
	// What runs here by an activation without the store is not undone by itself.
	if a := x.s.Spec.Activation; a != nil && !a.Planned && !x.has(conditionHandingOver) {
		for _, condition := range []string{conditionActivating, conditionRaising} {
			meta.RemoveStatusCondition(&x.s.Status.Conditions, condition)
		}
		x.again = time.Millisecond
	}
	return nil
}

// superseded is true where the present wish to activate came too late.
func (x *run) superseded() bool {
	c := meta.FindStatusCondition(x.s.Status.Conditions, conditionRaised)
	return c != nil && c.Reason == reasonSuperseded && c.ObservedGeneration == x.s.Generation
}

// isActive is true for a standby whose application is this cluster's, or may be at
// any moment.
func isActive(s *api.Standby) bool {
	is := func(condition string) bool { return meta.IsStatusConditionTrue(s.Status.Conditions, condition) }
	return s.Spec.Activation != nil && (!s.Spec.Activation.Planned || is(conditionRaising))
}

// mayFollow is true for a standby whose application is the source's: it always was,
// or the source was activated after this cluster.
func (s *session) mayFollow(ctx context.Context, standby *api.Standby) (bool, error) {
	if !isActive(standby) {
		return true, nil
	}
	var e snapshot.Epoch
	err := s.inRepository(ctx, s.peer, func(r snapshot.Repository) (err error) {
		e, err = epochIn(ctx, r, s.peer, standby.Spec.Application)
		return err
	})
	if err != nil {
		return false, err
	}
	return e.Cluster == s.peer.ClusterID && e.Number > standby.Status.Epoch && standby.Status.Epoch > 0, nil
}

// checkEpoch refuses a round of a source that did not have the application any more
// when it sealed it.
func (x *run) checkEpoch(ctx context.Context, r snapshot.Epochs, p snapshot.RecoveryPoint) error {
	e, err := epochIn(ctx, r, x.peer, p.App)
	if err != nil || e.Number == p.Epoch || e.Cluster == x.ClusterID {
		return err
	}
	return fmt.Errorf("%w: round %s of %s was sealed in epoch %d, and cluster %s has the application since (epoch %d)",
		errRefused, p.Round, p.App, p.Epoch, e.Cluster, e.Number)
}

// tooLate is what a source is told that takes back what runs here.
func tooLate(s *api.Standby) error {
	return fmt.Errorf("%w: standby %s has the application, or is just taking it: it is too late to take it back", migrate.ErrActivated, s.Name)
}

package target

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// conditionBrought is true once what the application wrote here is at its source.
const conditionBrought = "WritesBrought"

// bringing is true for a standby whose application this cluster has only in order to
// give it back to its source, with what was written here.
func bringing(s *api.Standby) bool {
	r, a := s.Spec.Rollback, s.Spec.Activation
	return r != nil && r.BringWrites && a != nil && a.Planned
}

// bring asks for the application to be failed back, and the round to be taken back then.
// That it is this cluster's from now on is written in one with the wish.
func (s *session) bring(ctx context.Context, standby *api.Standby, r migrate.RollBack) (migrate.RollBackReport, error) {
	why, err := s.mayBring(ctx, standby)
	if err != nil || why != "" {
		return migrate.RollBackReport{Refused: why != "", Message: why}, err
	}
	before := standby.DeepCopy()
	asked := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	// Tried first: definitions of an older version would take the one without the other.
	for _, dryRun := range [][]string{{metav1.DryRunAll}, nil} {
		standby = before.DeepCopy()
		standby.Spec.Rollback = &api.StandbyRollback{Request: r.Request, BringWrites: true}
		standby.Spec.Activation = &api.StandbyActivation{Round: standby.Spec.Round, Planned: true}
		if err := s.Client.Patch(ctx, standby, asked, &client.PatchOptions{DryRun: dryRun}); err != nil {
			return migrate.RollBackReport{}, fmt.Errorf("ask Standby %s to bring back what was written since round %s: %w", standby.Name, r.Round, err)
		}
		if !bringing(standby) {
			return migrate.RollBackReport{Refused: true, Message: "the definition of Standby on cluster " + s.ClusterID +
				" is of an older version, which knows nothing of bringWrites: apply the chart's crds folder there, and ask again"}, nil
		}
	}
	return migrate.RollBackReport{Message: "the target was asked to bring back what was written there"}, nil
}

// mayBring says why nothing can be brought back from here.
func (s *session) mayBring(ctx context.Context, standby *api.Standby) (string, error) {
	for i := range standby.Status.Volumes {
		switch v := &standby.Status.Volumes[i]; {
		case v.Moved:
			return fmt.Sprintf("claim %s/%s was moved and not copied, and a failback only copies: roll back without bringTargetWrites, which gives it back as it is", v.Namespace, v.Name), nil
		case into(v) != v.Namespace:
			return fmt.Sprintf("claim %s/%s was brought into namespace %s, and what has another namespace is not failed back: move it by a Migration from here", v.Namespace, v.Name, into(v)), nil
		}
	}
	owner, _, _ := strings.Cut(standby.Spec.Application, "/")
	back, err := pairing.TwinOf(ctx, s.Peers, s.peer)
	switch {
	case errors.Is(err, pairing.ErrNotFound), err == nil && (!back.Joined() || back.Namespace != owner || back.RepositoryPrefix != s.peer.RepositoryPrefix):
		return fmt.Sprintf("no pair of namespace %s leads from cluster %s back to cluster %s: pair with mode %s, or move it by a Migration from here", owner, s.ClusterID, s.peer.ClusterName, api.ModeDisasterRecovery), nil
	case err != nil:
		return "", err
	}
	return "", nil
}

// followBringing tells how it fares. A wish that was refused may come again.
func (s *session) followBringing(ctx context.Context, standby *api.Standby, r migrate.RollBack) (migrate.RollBackReport, error) {
	refused := refusedFor(standby)
	switch again := standby.Spec.Rollback.Request != r.Request; {
	case refused && again && r.BringWrites:
		return s.bring(ctx, standby, r)
	case refused && again:
		return migrate.RollBackReport{Refused: true, Message: "cluster " + s.ClusterID +
			" has the application since what was written there was to be brought back: ask for bringTargetWrites again, or take it over with a Migration that has spec.takeOver"}, nil
	}
	return migrate.RollBackReport{Refused: refused, Message: standby.Status.Message}, nil
}

// bringWrites has the application failed back by an Action, as a user would.
func (x *run) bringWrites(ctx context.Context) error {
	owner, name, _ := strings.Cut(x.s.Spec.Application, "/")
	key := types.NamespacedName{Namespace: owner, Name: requestName(api.ActionFailback, name, strconv.FormatInt(x.s.Spec.Rollback.Request, 10)+"/"+x.s.Spec.Round)}
	var a api.Action
	err := x.Live.Get(ctx, key, &a)
	switch {
	case apierrors.IsNotFound(err):
		return x.failBack(ctx, key, name)
	case err != nil:
		return fmt.Errorf("read Action %s: %w", key, err)
	}
	switch how := reportOf(&a); {
	case how.Ended && how.Good:
		x.mark(conditionBrought, "FailedBack", "what was written here is on cluster "+x.peer.ClusterName+" (Action "+key.String()+")")
		x.s.Status.Message = ""
	case how.Ended:
		x.refuseBringing(how.Message)
	default:
		x.s.Status.Message = strings.TrimSuffix("Action "+key.String()+" fails the application back: "+how.Message, ": ")
	}
	return nil
}

func (x *run) failBack(ctx context.Context, key types.NamespacedName, application string) error {
	if err := x.makeAction(ctx, key, x.peer, api.ActionSpec{
		ActionType:      api.ActionFailback,
		ActionParameter: api.ActionParameter{FailbackParameter: &api.FailbackParameter{MigrationScheduleReference: application}},
	}); err != nil {
		return err
	}
	x.s.Status.Message = "Action " + key.String() + " fails the application back"
	x.Events.Eventf(x.s, nil, corev1.EventTypeNormal, "BringingWrites", "RollBack", "%s", x.s.Status.Message)
	return nil
}

// refuseBringing leaves the application where it runs: here.
func (x *run) refuseBringing(why string) {
	why = "what was written on the target is not at the source, and the application runs on the target: " + why
	x.mark(conditionRefused, "NotBrought", why)
	x.s.Status.Message = why
	x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "RollbackRefused", "RollBack", "%s", short(why))
}

// endBringing lets the standby be one that nobody activated, for its application is the
// source's again.
func (x *run) endBringing(ctx context.Context) error {
	if !x.s.Spec.Rollback.BringWrites {
		return nil
	}
	if bringing(x.s) {
		before, status := x.s.DeepCopy(), x.s.Status
		x.s.Spec.Activation = nil
		if err := x.Client.Patch(ctx, x.s, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("let Standby %s be inactive: %w", x.s.Name, err)
		}
		x.s.Status = status
	}
	x.s.Status.Epoch = 0
	for _, condition := range []string{conditionRaising, conditionRaised} {
		meta.RemoveStatusCondition(&x.s.Status.Conditions, condition)
	}
	return nil
}

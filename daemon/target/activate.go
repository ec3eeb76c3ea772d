package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/snapshot"
)

// stages is true for a standby that keeps its volumes to itself.
func (x *run) stages() bool { return x.s.Spec.Stage && x.s.Spec.Activation == nil }

// starts is true for a standby whose application is to run.
func (x *run) starts() bool { return x.s.Spec.StartApplications || x.s.Spec.Activation != nil }

// activated is what a source is told that comes with another round.
func activated(s *api.Standby) error {
	return fmt.Errorf("%w: standby %s was activated as of round %s; the source's copy is superseded", migrate.ErrActivated, s.Name, s.Spec.Round)
}

// fenced refuses what a source asks for an application that was activated here.
func (s *session) fenced(ctx context.Context, application string) error {
	if err := s.startedHere(ctx, application); err != nil {
		return err
	}
	var standby api.Standby
	err := s.Live.Get(ctx, types.NamespacedName{Namespace: s.Namespace, Name: standbyName(s.peer.PairID, application)}, &standby)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("read the Standby of %s: %w", application, err)
	}
	follows, err := s.mayFollow(ctx, &standby)
	if err == nil && !follows {
		err = activated(&standby)
	}
	return err
}

// refuseActivation takes back the wish to activate an application that a Migration has
// brought here for good, whose volumes would be brought up a second time beside those
// that it uses, or one that another cluster has.
func (x *run) refuseActivation(ctx context.Context) error {
	before := x.s.DeepCopy()
	x.s.Spec.Activation = nil
	if err := x.Client.Patch(ctx, x.s, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("take back the activation of Standby %s: %w", x.s.Name, err)
	}
	if !before.Here() {
		return nil // The event Superseded told of it.
	}
	x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "ActivationRefused", "Activate",
		"%s is on this cluster already, as of round %s: there is nothing to activate", x.s.Spec.Application, x.s.Status.Round)
	return nil
}

// chooseRound turns a standby that is activated to the newest round that was
// sealed for its volumes, or to the one that is named. A round that the standby
// gave up once is left out.
func (x *run) chooseRound(ctx context.Context) error {
	point, source, why, err := x.roundHere(ctx)
	if err != nil {
		return err
	}
	if why != "" {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "NotFromSnapshots", "Activate",
			"round %s is brought from the store, by difference, and not from what this cluster keeps of it: %s", x.s.Spec.Activation.Round, why)
	}
	if source == migrate.FromStore {
		rounds, err := x.sealedRounds(ctx)
		if errors.Is(err, snapshot.ErrSuperseded) {
			return x.lost(err)
		}
		if err != nil {
			return err
		}
		if point, err = x.pick(rounds); err != nil {
			return err
		}
	}
	if point.Round != x.s.Spec.Round {
		before := x.s.DeepCopy()
		x.s.Spec.Round = point.Round
		if err := x.Client.Patch(ctx, x.s, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("turn Standby %s to round %s: %w", x.s.Name, point.Round, err)
		}
		x.before = x.s.DeepCopy()
	}
	message := fmt.Sprintf("round %s, sealed at %s, is activated: what was written on the source since its snapshots is not in it",
		point.Round, point.Sealed.UTC().Format(time.RFC3339))
	reason := "RoundChosen"
	if source == migrate.FromSnapshots {
		reason = reasonFromSnapshots
		message += "; its volumes are made of the snapshots that this cluster keeps of it"
	}
	given, err := x.givenUp(ctx, point)
	if err != nil {
		return err
	}
	message += given
	x.mark(conditionActivating, reason, message)
	x.Events.Eventf(x.s, nil, corev1.EventTypeNormal, "Activating", "Activate", "%s", message)
	return nil
}

// sealedRounds are the rounds in the repository that this pair's source sealed for
// the application, newest first. What is not its is told, and left out.
func (x *run) sealedRounds(ctx context.Context) ([]snapshot.RecoveryPoint, error) {
	var epoch snapshot.Epoch
	var sealed []snapshot.SealedRound
	err := x.inRepository(ctx, x.peer, func(r snapshot.Repository) (err error) {
		if epoch, err = epochIn(ctx, r, x.peer, x.s.Spec.Application); err == nil {
			sealed, err = x.roundsIn(ctx, r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	took := x.s.Spec.Activation.TakeOver
	if !took && epoch.Number > 0 && epoch.Cluster != x.ClusterID && epoch.Cluster != x.peer.ClusterID {
		return nil, fmt.Errorf("%w: %s has been on cluster %s since %s (epoch %d)",
			snapshot.ErrSuperseded, epoch.App, epoch.Cluster, epoch.At.UTC().Format(time.RFC3339), epoch.Number)
	}
	var points []snapshot.RecoveryPoint
	for _, s := range sealed {
		point, err := x.trusted(s)
		older := !took && epoch.Cluster != x.ClusterID && point.Epoch < epoch.Number && point.Round != x.s.Spec.Activation.Round
		if err == nil && older {
			err = fmt.Errorf("round %s was sealed in epoch %d, and cluster %s has the application since (epoch %d): name it with --to if it is wanted", point.Round, point.Epoch, epoch.Cluster, epoch.Number)
		}
		if err != nil {
			x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "RoundRefused", "Activate", "a round in the repository is left out: %v", err)
			continue
		}
		points = append(points, point)
	}
	return points, nil
}

func (x *run) pick(points []snapshot.RecoveryPoint) (snapshot.RecoveryPoint, error) {
	wanted := x.s.Spec.Activation.Round
	for _, p := range points {
		switch odd := x.oddVolumes(p); {
		case wanted != "" && p.Round != wanted:
		case odd != "" && wanted == p.Round:
			return p, fmt.Errorf("round %s of %s cannot be activated: %s", p.Round, p.App, odd)
		case odd != "":
			x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "RoundLeftOut", "Activate", "round %s is newer, and is left out: %s", p.Round, odd)
		case wanted == "" && p.Round == x.s.Spec.Round && failedRound(x.s):
			x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "RoundLeftOut", "Activate", "round %s is left out, since the standby could not hold it: %s", p.Round, x.s.Status.Message)
		default:
			return p, nil
		}
	}
	if wanted != "" {
		return snapshot.RecoveryPoint{}, fmt.Errorf("round %s of %s is not in the repository: name one that is, or none for the newest", wanted, x.s.Spec.Application)
	}
	return snapshot.RecoveryPoint{}, fmt.Errorf("no round of %s in the repository can be activated: see the events of this Standby", x.s.Spec.Application)
}

// oddVolumes says what a round has other than the volumes that this standby was
// told of: their classes and sizes are not known here.
func (x *run) oddVolumes(p snapshot.RecoveryPoint) string {
	for _, image := range p.Images {
		if !slices.ContainsFunc(x.s.Spec.Volumes, func(c api.StandbyClaim) bool {
			return c.Namespace == image.Volume.Namespace && c.Name == image.Volume.Name
		}) {
			return fmt.Sprintf("its claim %s/%s was never announced here", image.Volume.Namespace, image.Volume.Name)
		}
	}
	for _, c := range x.s.Spec.Volumes {
		if _, err := imageOf(p, c); err != nil {
			return fmt.Sprintf("it has no image of claim %s/%s", c.Namespace, c.Name)
		}
	}
	return ""
}

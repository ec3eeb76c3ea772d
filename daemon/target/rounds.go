package target

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/snapshot"
)

// startRound turns the status to the round that is asked for. What the volumes
// hold stays remembered.
func (x *run) startRound(ctx context.Context) error {
	done, err := x.dropTransfers(ctx)
	if err != nil || !done {
		return err
	}
	if err := x.forgetActivation(ctx); err != nil {
		return err
	}
	s := &x.s.Status
	if s.Activating && x.s.Spec.Activation == nil {
		if err := x.markCopies(ctx, false); err != nil {
			return err
		}
	}
	if s.Round != "" {
		s.Previous, s.Round = s.Round, ""
	}
	s.Activating = x.s.Spec.Activation != nil
	s.Bringing, s.Phase, s.Message, s.Resources, s.Reached = x.s.Spec.Round, api.StandbyPending, "", nil, nil
	s.Comparing, s.Retries = 0, nil
	for _, condition := range []string{
		conditionRead, conditionApplied, conditionTidy, conditionTakenBack, conditionSnapshotting, api.ConditionReady,
		conditionRefused, conditionBrought, conditionRollingBack, conditionRolledBack,
	} {
		meta.RemoveStatusCondition(&s.Conditions, condition)
	}
	for i := range s.Volumes {
		v := &s.Volumes[i]
		v.Failed, v.Reason, v.BytesDone, v.BytesWritten = false, "", 0, 0
	}
	return nil
}

// nextVolumes are those of the round, with what is known of those that the
// standby has already, and after them those that it has beside: as long as the
// round is not reached, the one before may be gone back to.
func (x *run) nextVolumes(ctx context.Context, point snapshot.RecoveryPoint, instructions workload.Instructions) ([]api.StandbyVolume, error) {
	var volumes []api.StandbyVolume
	there := slices.Clone(x.s.Status.Volumes)
	for _, c := range x.s.Spec.Volumes {
		var was *api.StandbyVolume
		if i := slices.IndexFunc(there, func(v api.StandbyVolume) bool { return v.Namespace == c.Namespace && v.Name == c.Name }); i >= 0 {
			found := there[i]
			was, there = &found, slices.Delete(there, i, i+1)
		}
		v, err := x.nextVolume(ctx, point, instructions, c, was)
		if err != nil {
			return nil, err
		}
		volumes = append(volumes, v)
	}
	if err := x.takeSame(ctx, volumes); err != nil {
		return nil, err
	}
	for _, v := range there {
		v.Leaving = true
		volumes = append(volumes, v)
	}
	return volumes, nil
}

// takeSame leaves volumes alone that hold what the round wants already, under the name
// of another image: nothing is to be published to a node where nothing is to be
// written, or to be read again.
func (x *run) takeSame(ctx context.Context, volumes []api.StandbyVolume) error {
	if x.s.Spec.Verify == api.VerifyFull || x.s.Spec.Verify == api.VerifySample {
		return nil
	}
	held := func(v api.StandbyVolume) bool {
		return v.Kind == string(snapshot.Block) && v.Image != "" && v.Image != v.Wants
	}
	if !slices.ContainsFunc(volumes, held) {
		return nil
	}
	return x.inRepository(ctx, x.peer, func(r snapshot.Repository) error {
		for i := range volumes {
			v := &volumes[i]
			if !held(*v) {
				continue
			}
			same, err := snapshot.Same(ctx, r, snapshot.ImageID(v.Image), snapshot.ImageID(v.Wants))
			if err != nil {
				return fmt.Errorf("claim %s/%s: %w", v.Namespace, v.Name, err)
			}
			if same {
				v.Image, v.From, v.BytesDone = v.Wants, "", v.BytesTotal
			}
		}
		return nil
	})
}

// nextVolume is one of them, and was is what is known of it already; nil for nothing.
func (x *run) nextVolume(ctx context.Context, point snapshot.RecoveryPoint, instructions workload.Instructions, c api.StandbyClaim, was *api.StandbyVolume) (api.StandbyVolume, error) {
	if c.Moved != nil {
		v, err := x.nextMoved(c, was)
		if err == nil {
			err = x.placeVolume(&v, instructions)
		}
		return v, err
	}
	v := api.StandbyVolume{Namespace: c.Namespace, Name: c.Name}
	if was != nil && !was.Moved {
		v = *was
	}
	image, err := imageOf(point, c)
	if err != nil {
		return v, err
	}
	if v.Kind != "" && v.Kind != string(image.Kind) {
		return v, fmt.Errorf("%w: claim %s/%s came as %s and comes as %s now: delete Standby %s, so that its volume is made anew, or move it by the method that it came by",
			errRefused, c.Namespace, c.Name, v.Kind, image.Kind, x.s.Name)
	}
	if err := x.lookAtClaim(ctx, &v); err != nil {
		return v, err
	}
	if err := x.placeVolume(&v, instructions); err != nil {
		return v, err
	}
	if err := x.lookForOwn(ctx, &v); err != nil {
		return v, err
	}
	turn(&v, string(image.ID))
	x.remake(&v)
	v.Kind, v.Filesystem, v.ImageBytes, v.BytesTotal, v.Leaving = string(image.Kind), image.Filesystem, image.Size, image.Size, false
	v.Taken = moment(image.Taken)
	return v, nil
}

// placeVolume says into which namespace of this cluster a claim goes.
func (x *run) placeVolume(v *api.StandbyVolume, instructions workload.Instructions) error {
	if v.Into = instructions.Namespaces[v.Namespace]; v.Into == "" {
		return nil
	}
	if err := x.policy().CoverNamespace(v.Into); err != nil {
		return fmt.Errorf("%w: claim %s/%s: %w", errRefused, v.Namespace, v.Name, err)
	}
	return nil
}

// turn gives a volume the image that it shall hold. One that is halfway between
// two images goes on, or goes back by the way that it came; to a third image there
// is no difference known, and all is written.
func turn(v *api.StandbyVolume, wants string) {
	if v.Image == "" && v.From != "" && wants != v.Wants {
		if wants == v.From {
			v.From = v.Wants
		} else {
			v.From = ""
		}
	}
	v.Wants = wants
}

// lookAtClaim forgets what a volume holds whose claim is not there any more.
func (x *run) lookAtClaim(ctx context.Context, v *api.StandbyVolume) error {
	var claim corev1.PersistentVolumeClaim
	err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v)}, &claim)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the standby volume of claim %s/%s: %w", v.Namespace, v.Name, err)
	}
	if apierrors.IsNotFound(err) || claim.UID != v.Claim || !claim.DeletionTimestamp.IsZero() {
		v.Claim, v.Image, v.From = "", "", ""
	}
	return nil
}

// goBack asks for the round that the standby held before, as a stage: it is
// reached as any other round is.
func (x *run) goBack(ctx context.Context) error {
	done, err := x.dropTransfers(ctx)
	if err != nil || !done {
		return err
	}
	before, s := x.s.DeepCopy(), x.s.Status
	spec := &x.s.Spec
	spec.Round, spec.Cancel, spec.Stage, spec.Volumes, spec.Activation = roundBefore(x.s), false, true, s.Claims, nil
	if err := x.Client.Patch(ctx, x.s, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("turn Standby %s back to round %s: %w", x.s.Name, spec.Round, err)
	}
	return nil
}

// roundBefore is the round that a standby held before the one that is asked for;
// empty where there was none.
func roundBefore(s *api.Standby) string {
	if s.Status.Round != "" && s.Status.Round != s.Spec.Round {
		return s.Status.Round
	}
	return s.Status.Previous
}

// dismiss deletes a standby that cannot go back, with what it holds.
func (x *run) dismiss(why string) func(context.Context) error {
	return func(ctx context.Context) error {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "Dismissed", "Cancel", "the standby is removed, and the next round is a full copy: %s", why)
		if err := x.Client.Delete(ctx, x.s); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete Standby %s: %w", x.s.Name, err)
		}
		return nil
	}
}

// dropStrays takes away standby volumes that the round does not have.
func (x *run) dropStrays(ctx context.Context) error {
	var claims corev1.PersistentVolumeClaimList
	if err := x.Live.List(ctx, &claims, client.InNamespace(x.Namespace), client.MatchingLabels{labelOwner: string(x.s.UID)}); err != nil {
		return fmt.Errorf("list standby claims of %s: %w", x.s.Name, err)
	}
	x.s.Status.Volumes = slices.DeleteFunc(x.s.Status.Volumes, func(v api.StandbyVolume) bool { return v.Leaving })
	kept := map[string]bool{}
	for i := range x.s.Status.Volumes {
		kept[x.nameFor(&x.s.Status.Volumes[i])] = true
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		if kept[claim.Name] {
			continue
		}
		if x.onlyCopy(claim.Name) {
			if err := x.leaveDisplaced(ctx, claim); err != nil {
				return err
			}
			continue
		}
		if err := x.Client.Delete(ctx, claim); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete standby claim %s: %w", claim.Name, err)
		}
	}
	x.settleDisplaced()
	return nil
}

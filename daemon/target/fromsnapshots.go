package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// reasonFromSnapshots is the reason of conditionActivating for a round whose volumes
// are made of snapshots of the standby.
const reasonFromSnapshots = "FromSnapshots"

// roundHere gives the round that is to be activated where all of it is on this
// cluster, so that nothing of the object store is needed, and says from what its
// volumes come; and, where something of it is here that cannot be used, why.
//
// That it is what the source sealed is known from the sealed record, which is kept
// beside the volumes: its signature is checked again here. It names the image of each
// volume. A snapshot counts if the agent took it of a volume that held that image,
// whole, and if it is still the one that was taken.
func (x *run) roundHere(ctx context.Context) (snapshot.RecoveryPoint, migrate.RoundSource, string, error) {
	wanted, entry := x.s.Spec.Activation.Round, x.snapshotsKept(x.s.Spec.Activation.Round)
	o := migrate.ObservedRoundHere{Named: wanted != "", Held: x.s.Status.Round == wanted, Snapshots: entry != nil}
	var point snapshot.RecoveryPoint
	if o.Named && (o.Held || o.Snapshots) {
		var err error
		if point, o.Record, err = x.recordHere(ctx, wanted); err != nil {
			return point, migrate.FromStore, "", err
		}
	}
	if o.Snapshots && !o.Held && o.Record == "" {
		var err error
		if o.Missing, err = x.missingSnapshots(ctx, entry, point); err != nil {
			return point, migrate.FromStore, "", err
		}
	}
	source, why := migrate.SourceOf(o)
	return point, source, why, nil
}

// snapshotsKept are those of one round; nil for none.
func (x *run) snapshotsKept(round string) *api.StandbySnapshot {
	i := slices.IndexFunc(x.s.Status.Snapshots, func(e api.StandbySnapshot) bool { return e.Ready && e.Round == round })
	if i < 0 {
		return nil
	}
	return &x.s.Status.Snapshots[i]
}

// recordHere gives a round by its sealed record as it is kept here, or says why that
// cannot be used: the repository is asked instead.
func (x *run) recordHere(ctx context.Context, round string) (point snapshot.RecoveryPoint, why string, err error) {
	sealed, err := x.kept(ctx, round)
	if errors.Is(err, snapshot.ErrNotFound) {
		return point, err.Error(), nil
	}
	if err != nil {
		return point, "", err
	}
	point, err = x.trusted(sealed)
	if err == nil && point.Round != round {
		err = fmt.Errorf("it is of round %s", point.Round)
	}
	if err != nil {
		return point, "its sealed record is not to be used: " + err.Error(), nil
	}
	return point, x.oddVolumes(point), nil
}

// missingSnapshots says of each volume of the round that cannot be made of a snapshot
// why not.
func (x *run) missingSnapshots(ctx context.Context, entry *api.StandbySnapshot, point snapshot.RecoveryPoint) ([]string, error) {
	if x.Snapshots == nil {
		return []string{"this agent takes no snapshots"}, nil
	}
	var missing []string
	for _, c := range x.s.Spec.Volumes {
		image, err := imageOf(point, c)
		if err != nil {
			return nil, err
		}
		taken, there := snapshotOf(entry.Volumes, c.Namespace, c.Name)
		if !there || taken.Image != string(image.ID) || taken.UID == "" {
			missing = append(missing, fmt.Sprintf("claim %s/%s has no snapshot that is known to be of this round", c.Namespace, c.Name))
			continue
		}
		state, err := x.Snapshots.LookAtSnapshot(ctx, x.snapshotOwner(entry.Round), x.Namespace, taken.Snapshot)
		switch {
		case err != nil:
			return nil, err
		case !state.Ready:
			missing = append(missing, fmt.Sprintf("VolumeSnapshot %s of claim %s/%s %s", taken.Snapshot, c.Namespace, c.Name, cmp.Or(state.Err, "is not ready")))
		case state.UID != taken.UID:
			missing = append(missing, fmt.Sprintf("VolumeSnapshot %s of claim %s/%s is another than the one that was taken", taken.Snapshot, c.Namespace, c.Name))
		}
	}
	return missing, nil
}

// givenUp tells which rounds that are known here were sealed after the one that is
// activated.
func (x *run) givenUp(ctx context.Context, point snapshot.RecoveryPoint) (string, error) {
	var newest string
	at := point.Sealed
	see := func(round string, sealed time.Time) {
		if round != point.Round && sealed.After(at) {
			newest, at = round, sealed
		}
	}
	if points := x.s.Status.Points; points != nil {
		for _, p := range points.Items {
			if p.Seal == api.SealValid && p.Sealed != nil {
				see(p.Round, p.Sealed.Time)
			}
		}
	}
	if held := cmp.Or(x.s.Status.Round, x.s.Status.Previous); held != "" {
		p, why, err := x.recordHere(ctx, held)
		if err != nil {
			return "", err
		}
		if why == "" {
			see(held, p.Sealed)
		}
	}
	if newest == "" {
		return "", nil
	}
	return fmt.Sprintf("; what the source wrote up to round %s, sealed at %s, is given up", newest, at.UTC().Format(time.RFC3339)), nil
}

// fromSnapshots is true for an activation that makes its volumes of snapshots.
func (x *run) fromSnapshots() bool {
	a := x.s.Spec.Activation
	c := meta.FindStatusCondition(x.s.Status.Conditions, conditionActivating)
	return a != nil && !a.Planned && c != nil && c.Reason == reasonFromSnapshots
}

// remake has a volume made of the snapshot that holds its image, beside the one that
// it has. That one may hold a newer round, and stays until the application runs.
func (x *run) remake(v *api.StandbyVolume) {
	v.Snapshot = ""
	entry := x.snapshotsKept(x.s.Spec.Round)
	if !x.fromSnapshots() || entry == nil || v.Image == v.Wants {
		return
	}
	taken, there := snapshotOf(entry.Volumes, v.Namespace, v.Name)
	if !there || taken.Image != v.Wants {
		return
	}
	v.Displaced = nil
	if v.Image != "" {
		v.Displaced = &api.DisplacedClaim{Claim: x.nameFor(v), Image: v.Image}
	}
	v.Snapshot = taken.Snapshot
	makeAnew(v)
}

// makeAnew gives a volume another claim, of which nothing is known.
func makeAnew(v *api.StandbyVolume) {
	v.Remade++
	v.Claim, v.Image, v.From, v.Adopting, v.Adopted = "", "", "", false, false
}

// holdsSnapshot takes a volume that the storage made of a snapshot: there is nothing
// to write.
func (x *run) holdsSnapshot(ctx context.Context, v *api.StandbyVolume, mounted csi.Mounted) error {
	var claim corev1.PersistentVolumeClaim
	if err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v)}, &claim); err != nil {
		return fmt.Errorf("read standby claim %s: %w", x.nameFor(v), err)
	}
	if from := claim.Spec.DataSource; from == nil || from.Kind != "VolumeSnapshot" || from.Name != x.madeOf(v) {
		return fmt.Errorf("%w: claim %s was not made of VolumeSnapshot %s: delete it", errRefused, claim.Name, x.madeOf(v))
	}
	v.Volume, v.Image, v.From, v.BytesDone, v.Reason = mounted.PersistentVolume, v.Wants, "", v.BytesTotal, ""
	return nil
}

// giveUpSnapshot lets a volume be copied from the store whose storage does not make it
// of the snapshot, where the store can be reached: the copy goes to another volume, and
// what the standby held is left alone.
func (x *run) giveUpSnapshot(ctx context.Context, v *api.StandbyVolume) error {
	if v.Snapshot == "" {
		return nil
	}
	var claim corev1.PersistentVolumeClaim
	if err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v)}, &claim); err != nil {
		return fmt.Errorf("read standby claim %s: %w", x.nameFor(v), err)
	}
	if claim.Status.Phase == corev1.ClaimBound || x.Now().Sub(claim.CreationTimestamp.Time) < snapshotPatience {
		return nil
	}
	if err := x.inRepository(ctx, x.peer, func(snapshot.Repository) error { return nil }); err != nil {
		v.Reason += fmt.Sprintf(" (VolumeSnapshot %s is all that there is of it: %v)", v.Snapshot, err)
		return nil //nolint:nilerr // it is told, and waited for
	}
	if gone, err := x.Holds.DropHold(ctx, x.hold(v)); err != nil || !gone {
		return err
	}
	x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "NotFromSnapshots", "Activate",
		"the storage has not made a volume of VolumeSnapshot %s in %s (see the events of claim %s): claim %s/%s is copied whole from the store",
		v.Snapshot, snapshotPatience, claim.Name, v.Namespace, v.Name)
	v.Snapshot, v.Reason = "", ""
	makeAnew(v)
	return nil
}

// onlyCopy is true for a claim that was displaced, and whose image no snapshot on this
// cluster holds.
func (x *run) onlyCopy(claim string) bool {
	return slices.ContainsFunc(x.s.Status.Volumes, func(v api.StandbyVolume) bool {
		return v.Displaced != nil && v.Displaced.Claim == claim && !x.inSnapshots(&v)
	})
}

// inSnapshots is true where a snapshot holds what was displaced.
func (x *run) inSnapshots(v *api.StandbyVolume) bool {
	return slices.ContainsFunc(x.s.Status.Snapshots, func(e api.StandbySnapshot) bool {
		taken, there := snapshotOf(e.Volumes, v.Namespace, v.Name)
		return there && e.Ready && taken.Image == v.Displaced.Image
	})
}

// leaveDisplaced lets go of a claim that may be the last that holds its round.
func (x *run) leaveDisplaced(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	before := claim.DeepCopy()
	delete(claim.Labels, labelOwner)
	if err := x.Client.Patch(ctx, claim, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("let go of standby claim %s: %w", claim.Name, err)
	}
	x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "VolumeLeft", "Activate",
		"claim %s of namespace %s holds a newer round of claim %s, of which no snapshot is kept, and is left as it is: delete it when nobody wants it",
		claim.Name, x.Namespace, claim.Annotations["godwit.io/claim"])
	return nil
}

// settleDisplaced forgets the claims that went, since a snapshot holds what they did.
func (x *run) settleDisplaced() {
	for i := range x.s.Status.Volumes {
		if v := &x.s.Status.Volumes[i]; v.Displaced != nil && x.inSnapshots(v) {
			v.Displaced = nil
		}
	}
}

package target

import (
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
	"github.com/godwit-io/godwit/snapshot/csi"
)

const (
	// conditionSnapshotting is set while snapshots of a reached round are taken.
	conditionSnapshotting = "Snapshotting"
	// snapshotPatience is how long rounds wait for that.
	snapshotPatience = 5 * time.Minute
)

// snapshotRound takes snapshots of the volumes that have just reached a round, and
// reports whether the next round may write. Nothing has them open, and no other round
// begins meanwhile. Snapshots are a convenience: trouble with them is told, and
// stops no round.
func (x *run) snapshotRound(ctx context.Context) (done bool, err error) {
	if !x.stages() || x.s.Spec.Snapshots == 0 || x.s.Status.Phase == api.StandbyReady {
		return true, nil
	}
	entry := x.snapshotEntry()
	if entry.Ready {
		return true, nil
	}
	if !x.has(conditionSnapshotting) {
		// Written down first, so that what is made is found again.
		x.mark(conditionSnapshotting, "Begun", "snapshots of round "+x.s.Spec.Round+" are taken")
		return false, nil
	}
	began := meta.FindStatusCondition(x.s.Status.Conditions, conditionSnapshotting).LastTransitionTime.Time
	waiting, err := x.takeSnapshots(ctx, entry)
	switch {
	case err != nil && !csi.IsFinal(err):
		return false, err
	case err != nil:
		waiting = err.Error()
	case waiting == "":
		entry.Ready = true
		return true, nil
	case x.Now().Sub(began) < snapshotPatience:
		x.s.Status.Message = "waiting for " + waiting
		return false, nil
	}
	x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "NotSnapshotted", "Snapshot", "round %s has no snapshots on this cluster: %s", x.s.Spec.Round, waiting)
	return true, nil
}

// snapshotEntry is what the status says of the snapshots of the round that was reached.
func (x *run) snapshotEntry() *api.StandbySnapshot {
	s := &x.s.Status
	i := slices.IndexFunc(s.Snapshots, func(e api.StandbySnapshot) bool { return e.Round == x.s.Spec.Round })
	if i < 0 {
		s.Snapshots = slices.Insert(s.Snapshots, 0, api.StandbySnapshot{Round: x.s.Spec.Round})
		i = 0
	}
	return &s.Snapshots[i]
}

// takeSnapshots says what it waits for; nothing once all are there.
func (x *run) takeSnapshots(ctx context.Context, entry *api.StandbySnapshot) (waiting string, err error) {
	if x.Snapshots == nil {
		return "", &csi.FinalError{Problem: "this agent takes no snapshots", Remedy: "set spec.snapshots of the Standby to 0"}
	}
	entry.Volumes, entry.Taken = nil, nil
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if v.Leaving {
			continue
		}
		var pvc corev1.PersistentVolumeClaim
		if err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v)}, &pvc); err != nil {
			return "", fmt.Errorf("read standby claim %s: %w", x.nameFor(v), err)
		}
		can, err := x.Snapshots.Capability(ctx, &pvc)
		if err != nil {
			return "", err
		}
		handle, err := x.handleOf(ctx, &pvc)
		if err != nil {
			return "", err
		}
		name := x.nameFor(v) + "-" + keptDigest(entry.Round)
		state, err := x.Snapshots.EnsureSnapshot(ctx, csi.SnapshotRequest{
			Owner: x.snapshotOwner(entry.Round), Name: name, Namespace: x.Namespace, Claim: pvc.Name, Class: can.SnapshotClass,
		})
		if err != nil {
			return "", err
		}
		entry.Volumes = append(entry.Volumes, api.SnapshotOfClaim{Namespace: v.Namespace, Name: v.Name, Snapshot: name, Image: v.Image, UID: state.UID, Handle: state.Handle, VolumeHandle: handle})
		entry.Taken = earlier(entry.Taken, v.Taken)
		if !state.Ready {
			waiting = fmt.Sprintf("VolumeSnapshot %s of claim %s/%s %s", name, v.Namespace, v.Name, state.Err)
		}
	}
	return waiting, nil
}

// handleOf is the driver's name of the volume that a claim has; empty for one of no
// CSI driver.
func (x *run) handleOf(ctx context.Context, pvc *corev1.PersistentVolumeClaim) (string, error) {
	var pv corev1.PersistentVolume
	err := x.Live.Get(ctx, types.NamespacedName{Name: pvc.Spec.VolumeName}, &pv)
	if client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("read standby volume %s: %w", pvc.Spec.VolumeName, err)
	}
	if err != nil || pv.Spec.CSI == nil {
		return "", nil //nolint:nilerr // no snapshot waits for it
	}
	return pv.Spec.CSI.VolumeHandle, nil
}

// snapshotOwner lets the snapshots of each round be released by themselves.
func (x *run) snapshotOwner(round string) csi.Owner {
	return csi.Owner{UID: types.UID(string(x.s.UID) + "-" + keptDigest(round)), Name: x.s.Name}
}

// dropSnapshots releases those of all rounds but the newest keep that can be opened.
// What is not gone at once is asked for again at the next round. It reports whether
// all is done.
func (x *run) dropSnapshots(ctx context.Context, keep int32) (done bool, err error) {
	var left []api.StandbySnapshot
	done = true
	var failed []error
	for _, e := range x.s.Status.Snapshots {
		if e.Ready && keep > 0 {
			keep--
			left = append(left, e)
			continue
		}
		gone := false
		if x.Snapshots != nil {
			if gone, err = x.Snapshots.Release(ctx, x.snapshotOwner(e.Round)); err != nil {
				failed = append(failed, fmt.Errorf("release the snapshots of round %s: %w", e.Round, err))
			}
		}
		if !gone {
			e.Ready, done = false, false
			left = append(left, e)
		}
	}
	x.s.Status.Snapshots = left
	return done, errors.Join(failed...)
}

// roundsKept are those whose sealed record is kept on this cluster.
func (x *run) roundsKept() []string {
	rounds := []string{x.s.Spec.Round}
	for _, e := range x.s.Status.Snapshots {
		if e.Ready {
			rounds = append(rounds, e.Round)
		}
	}
	return rounds
}

// madeOf is the snapshot that a volume is made of, for a drill or an older round;
// empty where it is read from the repository.
func (x *run) madeOf(v *api.StandbyVolume) string {
	if x.s.Spec.Drill == nil {
		return v.Snapshot
	}
	c, _ := snapshotOf(x.s.Spec.Drill.Snapshots, v.Namespace, v.Name)
	return c.Snapshot
}

func snapshotOf(all []api.SnapshotOfClaim, namespace, name string) (api.SnapshotOfClaim, bool) {
	i := slices.IndexFunc(all, func(c api.SnapshotOfClaim) bool { return c.Namespace == namespace && c.Name == name })
	if i < 0 {
		return api.SnapshotOfClaim{}, false
	}
	return all[i], true
}

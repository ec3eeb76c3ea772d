package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// takeSnapshots takes all of them before any is read, those of one driver and
// namespace at one moment where the driver can, so that the volumes of a round
// are as near to one moment as the storage allows.
func (x *run) takeSnapshots(ctx context.Context) error {
	var open []*api.MigrationVolumeInfo
	var requests []csi.SnapshotRequest
	for i := range x.m.Status.Volumes {
		v := &x.m.Status.Volumes[i]
		if v.Step != stepSnapshot {
			continue
		}
		request, err := x.snapshotRequest(ctx, *v)
		if err != nil {
			return err
		}
		open, requests = append(open, v), append(requests, request)
	}
	members, err := x.Snapshots.EnsureTogether(ctx, requests)
	if err != nil {
		return fmt.Errorf("snapshots of %s: %w", x.application(), err)
	}
	ready := true
	for i, v := range open {
		if err := x.showSnapshot(v, members[i]); err != nil {
			return err
		}
		ready = ready && members[i].Ready
	}
	if !ready {
		return nil
	}
	for _, v := range open {
		v.Step, v.Reason = stepBackup, "Volume migration has started. Backup in progress."
	}
	x.tellGroups(open)
	x.working("Backup", "storing the volumes' images")
	return nil
}

func (x *run) snapshotRequest(ctx context.Context, v api.MigrationVolumeInfo) (csi.SnapshotRequest, error) {
	pvc, err := x.claimOf(ctx, v)
	if err != nil {
		return csi.SnapshotRequest{}, err
	}
	capability, err := x.Snapshots.Capability(ctx, pvc)
	if err != nil {
		return csi.SnapshotRequest{}, fmt.Errorf("claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
	}
	return csi.SnapshotRequest{
		Owner: x.owner(), Name: x.nameFor(v.Namespace, v.PersistentVolumeClaim),
		Namespace: v.Namespace, Claim: v.PersistentVolumeClaim, Class: capability.SnapshotClass,
	}, nil
}

func (x *run) showSnapshot(v *api.MigrationVolumeInfo, m csi.Member) error {
	v.Status, v.Reason = api.MigrationStatusInProgress, "Waiting for the snapshot."
	v.GroupSnapshot = m.Group
	if m.Err != "" {
		v.Reason = "Waiting for the snapshot: " + m.Err
		x.waiting("SnapshotNotReady", fmt.Sprintf("claim %s/%s: %s", v.Namespace, v.PersistentVolumeClaim, m.Err))
	}
	if replaced(*v, m.SnapshotState) {
		return final("SnapshotReplaced", "the snapshot of claim %s/%s was replaced by another after it was cut, so that the volumes are not of one moment: start a new Migration", v.Namespace, v.PersistentVolumeClaim)
	}
	// Some drivers tell the moment long before the snapshot can be read.
	if taken := metav1.NewTime(m.Taken); v.Taken == nil && !m.Taken.IsZero() {
		v.Taken = &taken
	}
	if m.Ready {
		v.Snapshot, v.SnapshotHandle = m.Snapshot, m.Handle
	}
	return nil
}

// replaced is true for a snapshot that was made again after the first was cut.
func replaced(v api.MigrationVolumeInfo, now csi.SnapshotState) bool {
	return v.Taken != nil && !now.Taken.IsZero() && v.Taken.Unix() != now.Taken.Unix()
}

// snapshotOf names the volume's VolumeSnapshot.
func (x *run) snapshotOf(v api.MigrationVolumeInfo) string {
	return cmp.Or(v.Snapshot, x.nameFor(v.Namespace, v.PersistentVolumeClaim))
}

// tellGroups says which volumes are of one moment.
func (x *run) tellGroups(volumes []*api.MigrationVolumeInfo) {
	groups := map[string][]string{}
	for _, v := range volumes {
		if v.GroupSnapshot != "" {
			name := v.Namespace + "/" + v.GroupSnapshot
			groups[name] = append(groups[name], v.PersistentVolumeClaim)
		}
	}
	for name, claims := range groups {
		slices.Sort(claims)
		x.Events.Eventf(x.m, nil, corev1.EventTypeNormal, "GroupSnapshot", "Snapshot",
			"VolumeGroupSnapshot %s took claims %s at one moment", name, strings.Join(claims, ", "))
	}
}

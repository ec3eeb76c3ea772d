package controller_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// grouping is a storage that takes all that it is asked for at one moment: its
// snapshots are the group's, by which alone they are kept and go.
type grouping struct{ *storage }

func (g grouping) EnsureTogether(ctx context.Context, requests []csi.SnapshotRequest) ([]csi.Member, error) {
	if len(requests) < 2 {
		return g.storage.EnsureTogether(ctx, requests)
	}
	group := requests[0]
	group.Name = "group-of-" + string(group.Owner.UID)
	state, err := g.ensureSnapshot(ctx, group)
	var members []csi.Member
	for _, r := range requests {
		m := csi.Member{Snapshot: "member-" + r.Name, SnapshotState: state, Group: group.Name}
		m.Handle = "handle-of-member-" + r.Name
		members = append(members, m)
	}
	return members, err
}

// EnsureExposure finds members by their names, and not those that were asked for.
func (g grouping) EnsureExposure(ctx context.Context, r csi.ExposureRequest) (csi.Mounted, error) {
	if len(r.Snapshot) < 7 || r.Snapshot[:7] != "member-" {
		return csi.Mounted{}, fmt.Errorf("snapshot %s is no member", r.Snapshot)
	}
	g.mu.Lock()
	for key := range g.snapshots {
		r.Snapshot = key[len(r.Namespace)+1:]
	}
	g.mu.Unlock()
	return g.storage.EnsureExposure(ctx, r)
}

// TestGroupsAreKeptAsOneBase stages three times by group snapshots: the next round
// starts from the one before, and there is one group from round to round.
func TestGroupsAreKeptAsOneBase(t *testing.T) {
	r := newRig(t)
	r.claim("a")
	r.claim("b")
	r.migrations.Snapshots = grouping{r.storage}
	var before *api.Migration
	for _, name := range []string{"one", "two", "three"} {
		r.migration(name, staged)
		m := r.until(name, "its end", ended, r.carryOut(name), func() {
			for _, transfer := range r.transfersOf(r.get(name)) {
				if before == nil {
					continue
				}
				i := slices.IndexFunc(before.Status.Volumes, func(v api.MigrationVolumeInfo) bool { return v.PersistentVolumeClaim == transfer.Spec.Volume.Name })
				if last := before.Status.Volumes[i]; transfer.Spec.Base == nil || transfer.Spec.Base.Image != last.Image || transfer.Spec.Base.SnapshotHandle != last.SnapshotHandle {
					t.Errorf("%s starts from %+v, want %s", transfer.Spec.Volume.Name, transfer.Spec.Base, last.Image)
				}
			}
		})
		if m.Status.Status != api.MigrationStatusSuccessful {
			t.Fatalf("it ended as %s: %+v", m.Status.Status, m.Status.Conditions)
		}
		for _, v := range m.Status.Volumes {
			if v.GroupSnapshot != "group-of-"+string(m.UID) || v.Snapshot == "" || v.SnapshotHandle == "" {
				t.Errorf("volume %+v", v)
			}
		}
		if left := r.storage.left(); len(left) != 1 || left[0] != "snapshot "+r.ns+"/group-of-"+string(m.UID) {
			t.Errorf("after round %s there is %v", name, left)
		}
		before = m
	}
	r.migration("move", nil)
	if m := r.until("move", "its end", ended, r.carryOut("move")); len(r.storage.left()) > 0 {
		t.Errorf("after the move (%s) there is %v", m.Status.Status, r.storage.left())
	}
}

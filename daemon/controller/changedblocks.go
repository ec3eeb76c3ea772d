package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// trackable names the snapshot that the volume is read from, so that the node
// can ask its storage which blocks there are to read; nil where the volume is
// not read as the blocks of a snapshot.
func (x *run) trackable(ctx context.Context, v api.MigrationVolumeInfo) (*api.TransferSnapshot, error) {
	alias := x.exposure(v).Alias()
	if alias == "" || v.Method != api.MethodBlock {
		return nil, nil
	}
	pvc, err := x.claimOf(ctx, v)
	if err != nil {
		return nil, err
	}
	capability, err := x.Snapshots.Capability(ctx, pvc)
	if err != nil {
		return nil, fmt.Errorf("claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
	}
	return &api.TransferSnapshot{Driver: capability.Driver, Name: alias}, nil
}

// tellMethod passes on why a volume was read by a slower method than was to be
// expected. That a storage has no changed blocks at all is no news to its user.
func (x *run) tellMethod(v api.MigrationVolumeInfo, t *api.VolumeTransfer) {
	best := meta.FindStatusCondition(t.Status.Conditions, api.ConditionBestMethod)
	if best == nil || best.Status != metav1.ConditionFalse || best.Reason == "NotServed" || best.Reason == "NoSnapshot" {
		return
	}
	const longest = 700 // The API refuses longer events.
	x.warn("SteppedDown", "claim %s/%s was read by method %s (%s): %.*s",
		v.Namespace, v.PersistentVolumeClaim, t.Status.Method, best.Reason, longest, t.Status.MethodReason)
}

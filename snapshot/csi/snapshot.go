package csi

import (
	"context"
	"fmt"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// SnapshotGroup is the API group of VolumeSnapshots, which a claim names that is to
// be made of one.
const SnapshotGroup = snapshotv1.GroupName

// SnapshotRequest asks for one VolumeSnapshot.
type SnapshotRequest struct {
	Owner Owner
	// Name of the VolumeSnapshot in Namespace; it is made once for each Name.
	Name string
	// Namespace and Claim are the application's.
	Namespace string
	Claim     string
	// Class as Capability gave it.
	Class string
}

// SnapshotState tells how far a snapshot is.
type SnapshotState struct {
	// Ready says that it can be exposed; Handle, Taken and RestoreSize are valid then.
	Ready bool
	// UID is the VolumeSnapshot's.
	UID types.UID
	// Handle is the driver's name for it, which outlives the objects.
	Handle string
	// ContentName is the VolumeSnapshotContent; empty until it is bound.
	ContentName string
	// Taken is the moment that the snapshot is of.
	Taken time.Time
	// RestoreSize is the smallest size of a volume made from it; zero for unknown.
	RestoreSize int64
	// Err is what the driver last said went wrong; it goes on trying.
	Err string
}

// EnsureSnapshot asks for the snapshot, or tells how far it is.
func (s *Snapshots) EnsureSnapshot(ctx context.Context, r SnapshotRequest) (SnapshotState, error) {
	if r.Class == "" {
		return SnapshotState{}, &FinalError{
			Problem: fmt.Sprintf("claim %s/%s cannot be snapshotted: there is no VolumeSnapshotClass for it", r.Namespace, r.Claim),
			Remedy:  "create one for its driver, or move the volume as files",
		}
	}
	vs, err := ensure(ctx, s, r.Owner, &snapshotv1.VolumeSnapshot{
		ObjectMeta: objectMeta(r.Owner, roleSnapshot, r.Namespace, r.Name),
		Spec: snapshotv1.VolumeSnapshotSpec{
			Source:                  snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: &r.Claim},
			VolumeSnapshotClassName: &r.Class,
		},
	})
	if err != nil {
		return SnapshotState{}, err
	}
	if source := vs.Spec.Source.PersistentVolumeClaimName; source == nil || *source != r.Claim {
		return SnapshotState{}, &FinalError{
			Problem: fmt.Sprintf("VolumeSnapshot %s/%s is of another claim than %s", r.Namespace, r.Name, r.Claim),
			Remedy:  "delete it",
		}
	}
	if vs.DeletionTimestamp != nil {
		return SnapshotState{Err: "an earlier snapshot of that name is still being deleted"}, nil
	}
	state, _, err := s.snapshotState(ctx, vs)
	return state, err
}

// LookAtSnapshot tells of a snapshot that was made for the owner, and makes none. Of
// one that is not there, or is another's, it tells that as Err.
func (s *Snapshots) LookAtSnapshot(ctx context.Context, o Owner, namespace, name string) (SnapshotState, error) {
	var vs snapshotv1.VolumeSnapshot
	key := types.NamespacedName{Namespace: namespace, Name: name}
	err := s.live.Get(ctx, key, &vs)
	switch {
	case apierrors.IsNotFound(err):
		return SnapshotState{Err: "is not there any more"}, nil
	case err != nil:
		return SnapshotState{}, describe(err, "read", &vs, key)
	case !isOwned(&vs, o):
		return SnapshotState{Err: "was not made for " + o.Name}, nil
	case vs.DeletionTimestamp != nil:
		return SnapshotState{Err: "is being deleted"}, nil
	}
	state, _, err := s.snapshotState(ctx, &vs)
	return state, err
}

// snapshotState reads a VolumeSnapshot and its content. The content is nil as
// long as the snapshot is not bound.
func (s *Snapshots) snapshotState(ctx context.Context, vs *snapshotv1.VolumeSnapshot) (SnapshotState, *snapshotv1.VolumeSnapshotContent, error) {
	state := SnapshotState{UID: vs.UID}
	if vs.Status == nil {
		return state, nil, nil
	}
	if e := vs.Status.Error; e != nil && e.Message != nil {
		state.Err = *e.Message
	}
	if vs.Status.BoundVolumeSnapshotContentName == nil {
		return state, nil, nil
	}
	var content snapshotv1.VolumeSnapshotContent
	name := *vs.Status.BoundVolumeSnapshotContentName
	if err := s.client.Get(ctx, types.NamespacedName{Name: name}, &content); err != nil {
		if apierrors.IsNotFound(err) {
			return state, nil, nil
		}
		return state, nil, fmt.Errorf("read VolumeSnapshotContent %s of VolumeSnapshot %s/%s: %w", name, vs.Namespace, vs.Name, err)
	}
	state.ContentName = name
	if content.Status != nil && content.Status.SnapshotHandle != nil {
		state.Handle = *content.Status.SnapshotHandle
	}
	if t := vs.Status.CreationTime; t != nil {
		state.Taken = t.Time
	}
	if size := vs.Status.RestoreSize; size != nil {
		state.RestoreSize = size.Value()
	}
	ready := vs.Status.ReadyToUse != nil && *vs.Status.ReadyToUse
	state.Ready = ready && state.Handle != ""
	if state.Ready {
		state.Err = ""
	}
	return state, &content, nil
}

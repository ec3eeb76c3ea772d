package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

func (d *Driver) needSnapshots() error {
	if d.cfg.Flavor.Snapshots {
		return nil
	}
	return status.Error(codes.Unimplemented, "this storage has no snapshots")
}

func (c *controller) CreateSnapshot(ctx context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if err := c.d.needSnapshots(); err != nil {
		return nil, err
	}
	if err := cmp.Or(required(req.GetName(), "name"), required(req.GetSourceVolumeId(), "source volume id")); err != nil {
		return nil, err
	}
	lock, err := c.d.store.LockName(ctx, store.Snapshots, req.GetName())
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	var s store.Snapshot
	err = c.d.store.FindByName(req.GetName(), &s)
	if err == nil && s.Volume != req.GetSourceVolumeId() {
		return nil, status.Errorf(codes.AlreadyExists, "snapshot %q is there, of volume %s", s.Name, s.Volume)
	}
	if errors.Is(err, store.ErrNotFound) {
		s, err = c.takeSnapshot(ctx, req.GetName(), req.GetSourceVolumeId())
	}
	if err != nil {
		return nil, fmt.Errorf("create snapshot %q: %w", req.GetName(), err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: c.d.snapshotOf(s)}, nil
}

func (c *controller) takeSnapshot(ctx context.Context, name, volume string) (store.Snapshot, error) {
	var v store.Volume
	if err := c.d.store.Read(volume, &v); err != nil {
		return store.Snapshot{}, err
	}
	id, err := c.d.store.NewID(store.Snapshots, name)
	if err != nil {
		return store.Snapshot{}, err
	}
	s := store.Snapshot{ID: id, Name: name, Volume: volume, Node: v.Node}
	image := c.d.store.Image(store.Snapshots, id)
	s.Taken, err = c.d.cut(ctx, []member{{volume: volume, target: image}})
	if err == nil {
		s.Size, err = imageSize(image)
	}
	if err == nil {
		err = c.d.store.Write(&s)
	}
	if err != nil {
		return s, errors.Join(err, c.d.store.Remove(store.Snapshots, id))
	}
	return s, nil
}

func (c *controller) DeleteSnapshot(_ context.Context, req *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if err := c.d.needSnapshots(); err != nil {
		return nil, err
	}
	if err := required(req.GetSnapshotId(), "snapshot id"); err != nil {
		return nil, err
	}
	var s store.Snapshot
	if err := c.d.store.Read(req.GetSnapshotId(), &s); err != nil {
		return &csi.DeleteSnapshotResponse{}, ignoreNotFound(err)
	}
	if s.Group != "" {
		err := c.d.store.Read(s.Group, &store.Group{})
		if err == nil {
			return nil, status.Errorf(codes.InvalidArgument, "snapshot %s belongs to group %s: delete the group", s.ID, s.Group)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	return &csi.DeleteSnapshotResponse{}, c.d.store.Remove(store.Snapshots, s.ID)
}

func (c *controller) GetSnapshot(_ context.Context, req *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	if err := c.d.needSnapshots(); err != nil {
		return nil, err
	}
	if err := required(req.GetSnapshotId(), "snapshot id"); err != nil {
		return nil, err
	}
	var s store.Snapshot
	if err := c.d.store.Read(req.GetSnapshotId(), &s); err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: c.d.snapshotOf(s)}, nil
}

// snapshotOf writes a record as CSI has it.
func (d *Driver) snapshotOf(s store.Snapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId: s.ID, SourceVolumeId: s.Volume, GroupSnapshotId: s.Group, SizeBytes: s.Size,
		CreationTime: timestamppb.New(s.Taken), ReadyToUse: true,
	}
}

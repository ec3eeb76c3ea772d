package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

type groupController struct {
	csi.UnimplementedGroupControllerServer
	d *Driver
}

var _ csi.GroupControllerServer = (*groupController)(nil)

func (g *groupController) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	if !g.d.cfg.Flavor.Snapshots {
		return &csi.GroupControllerGetCapabilitiesResponse{}, nil
	}
	return &csi.GroupControllerGetCapabilitiesResponse{Capabilities: []*csi.GroupControllerServiceCapability{{
		Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{
			Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT,
		}},
	}}}, nil
}

func (g *groupController) CreateVolumeGroupSnapshot(ctx context.Context, req *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	if err := g.d.needSnapshots(); err != nil {
		return nil, err
	}
	if err := required(req.GetName(), "name"); err != nil {
		return nil, err
	}
	volumes := slices.Compact(slices.Sorted(slices.Values(req.GetSourceVolumeIds())))
	if len(volumes) == 0 || volumes[0] == "" {
		return nil, status.Error(codes.InvalidArgument, "source volume ids are missing")
	}
	lock, err := g.d.store.LockName(ctx, store.Groups, req.GetName())
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	var group store.Group
	err = g.d.store.FindByName(req.GetName(), &group)
	if errors.Is(err, store.ErrNotFound) {
		group, err = g.takeGroup(ctx, req.GetName(), volumes)
	}
	if err != nil {
		return nil, fmt.Errorf("create group snapshot %q: %w", req.GetName(), err)
	}
	resp, err := g.groupOf(group)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, s := range resp.GetSnapshots() {
		have = append(have, s.GetSourceVolumeId())
	}
	if !slices.Equal(slices.Sorted(slices.Values(have)), volumes) {
		return nil, status.Errorf(codes.AlreadyExists, "group snapshot %q is there, of volumes %v", group.Name, have)
	}
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: resp}, nil
}

// takeGroup writes the record of the group last. Members that a killed process
// left without their group are removed on the way.
func (g *groupController) takeGroup(ctx context.Context, name string, volumes []string) (_ store.Group, err error) {
	id, err := g.d.store.NewID(store.Groups, name)
	if err != nil {
		return store.Group{}, err
	}
	group := store.Group{ID: id, Name: name}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.forget(group))
		}
	}()
	snaps := make([]store.Snapshot, len(volumes))
	members := make([]member, len(volumes))
	for i, volume := range volumes {
		var v store.Volume
		if err := g.d.store.Read(volume, &v); err != nil {
			return group, err
		}
		memberName := name + "/" + volume
		// Held to the end, or a process that just starts would sweep it.
		lock, err := g.d.store.LockName(ctx, store.Snapshots, memberName)
		if err != nil {
			return group, err
		}
		defer lock.Unlock()
		if err := g.removeOrphan(memberName); err != nil {
			return group, err
		}
		sid, err := g.d.store.NewID(store.Snapshots, memberName)
		if err != nil {
			return group, err
		}
		group.Snapshots = append(group.Snapshots, sid)
		snaps[i] = store.Snapshot{ID: sid, Name: memberName, Volume: volume, Group: id, Node: v.Node}
		members[i] = member{volume: volume, target: g.d.store.Image(store.Snapshots, sid)}
	}
	if group.Taken, err = g.d.cut(ctx, members); err != nil {
		return group, err
	}
	for i := range snaps {
		snaps[i].Taken = group.Taken
		if snaps[i].Size, err = imageSize(members[i].target); err != nil {
			return group, err
		}
		if err := g.d.store.Write(&snaps[i]); err != nil {
			return group, err
		}
	}
	return group, g.d.store.Write(&group)
}

func (g *groupController) removeOrphan(name string) error {
	var s store.Snapshot
	if err := g.d.store.FindByName(name, &s); err != nil {
		return ignoreNotFound(err)
	}
	return g.d.store.Remove(store.Snapshots, s.ID)
}

// forget removes the members of a group and then the group, so that a call
// that is killed in between can be repeated.
func (g *groupController) forget(group store.Group) error {
	for _, s := range group.Snapshots {
		if err := g.d.store.Remove(store.Snapshots, s); err != nil {
			return err
		}
	}
	return g.d.store.Remove(store.Groups, group.ID)
}

func (g *groupController) DeleteVolumeGroupSnapshot(_ context.Context, req *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	if err := g.d.needSnapshots(); err != nil {
		return nil, err
	}
	if err := required(req.GetGroupSnapshotId(), "group snapshot id"); err != nil {
		return nil, err
	}
	var group store.Group
	if err := g.d.store.Read(req.GetGroupSnapshotId(), &group); err != nil {
		return &csi.DeleteVolumeGroupSnapshotResponse{}, ignoreNotFound(err)
	}
	if err := sameMembers(group, req.GetSnapshotIds()); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, g.forget(group)
}

func (g *groupController) GetVolumeGroupSnapshot(_ context.Context, req *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	if err := g.d.needSnapshots(); err != nil {
		return nil, err
	}
	if err := required(req.GetGroupSnapshotId(), "group snapshot id"); err != nil {
		return nil, err
	}
	var group store.Group
	if err := g.d.store.Read(req.GetGroupSnapshotId(), &group); err != nil {
		return nil, err
	}
	if err := sameMembers(group, req.GetSnapshotIds()); err != nil {
		return nil, err
	}
	resp, err := g.groupOf(group)
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: resp}, err
}

// sameMembers refuses a list of members that is not the group's; none is fine.
func sameMembers(group store.Group, ids []string) error {
	if len(ids) == 0 || slices.Equal(slices.Sorted(slices.Values(ids)), slices.Sorted(slices.Values(group.Snapshots))) {
		return nil
	}
	return status.Errorf(codes.InvalidArgument, "group %s has the snapshots %v, not %v", group.ID, group.Snapshots, ids)
}

func (g *groupController) groupOf(group store.Group) (*csi.VolumeGroupSnapshot, error) {
	resp := &csi.VolumeGroupSnapshot{GroupSnapshotId: group.ID, CreationTime: timestamppb.New(group.Taken), ReadyToUse: true}
	for _, id := range group.Snapshots {
		var s store.Snapshot
		if err := g.d.store.Read(id, &s); err != nil {
			return nil, fmt.Errorf("member of group %s: %w", group.ID, err)
		}
		resp.Snapshots = append(resp.Snapshots, g.d.snapshotOf(s))
	}
	return resp, nil
}

func imageSize(path string) (int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("size of image: %w", err)
	}
	return st.Size(), nil
}

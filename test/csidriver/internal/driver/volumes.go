package driver

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

const (
	defaultSize = 1 << 30
	// maxSize is the largest file that the smallest filesystem here can hold.
	maxSize = 8 << 40
	// topologyKey names the node that a volume is bound to.
	topologyKey = "test.godwit.io/node"
)

type controller struct {
	csi.UnimplementedControllerServer
	d *Driver
}

var _ csi.ControllerServer = (*controller)(nil)

func (c *controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	types := []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_GET_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	}
	f := c.d.cfg.Flavor
	if f.Blocks {
		types = append(types, csi.ControllerServiceCapability_RPC_CLONE_VOLUME)
	}
	if f.Blocks && c.d.cfg.SingleNodeAttach {
		types = append(types, csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
			csi.ControllerServiceCapability_RPC_PUBLISH_READONLY,
			csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES)
	}
	if f.Snapshots {
		types = append(types, csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
			csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
			csi.ControllerServiceCapability_RPC_GET_SNAPSHOT)
	}
	resp := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range types {
		resp.Capabilities = append(resp.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return resp, nil
}

func (c *controller) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if err := c.checkCreate(req); err != nil {
		return nil, err
	}
	lock, err := c.d.store.LockName(ctx, store.Volumes, req.GetName())
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	var v store.Volume
	err = c.d.store.FindByName(req.GetName(), &v)
	if err == nil {
		if err := sameVolume(v, req); err != nil {
			return nil, err
		}
		return &csi.CreateVolumeResponse{Volume: c.d.volumeOf(v)}, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	v, err = c.makeVolume(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("create volume %q: %w", req.GetName(), err)
	}
	return &csi.CreateVolumeResponse{Volume: c.d.volumeOf(v)}, nil
}

func (c *controller) checkCreate(req *csi.CreateVolumeRequest) error {
	if err := required(req.GetName(), "name"); err != nil {
		return err
	}
	if len(req.GetVolumeCapabilities()) == 0 {
		return status.Error(codes.InvalidArgument, "volume capabilities are missing")
	}
	for _, vc := range req.GetVolumeCapabilities() {
		if err := c.d.checkCapability(vc); err != nil {
			return err
		}
	}
	if len(req.GetMutableParameters()) > 0 {
		return status.Error(codes.InvalidArgument, "mutable parameters are not known here")
	}
	src := req.GetVolumeContentSource()
	f := c.d.cfg.Flavor
	if (src.GetSnapshot() != nil && !f.Snapshots) || (src.GetVolume() != nil && !f.Blocks) {
		return status.Error(codes.InvalidArgument, "this storage cannot make a volume from another one or from a snapshot")
	}
	return nil
}

// sameVolume tells whether a volume answers to a request that comes again.
func sameVolume(v store.Volume, req *csi.CreateVolumeRequest) error {
	r := req.GetCapacityRange()
	if v.Size < r.GetRequiredBytes() || (r.GetLimitBytes() > 0 && v.Size > r.GetLimitBytes()) {
		return status.Errorf(codes.AlreadyExists, "volume %q is there with %d bytes", v.Name, v.Size)
	}
	src := req.GetVolumeContentSource()
	if v.FromSnapshot != src.GetSnapshot().GetSnapshotId() || v.FromVolume != src.GetVolume().GetVolumeId() {
		return status.Errorf(codes.AlreadyExists, "volume %q is there with another source", v.Name)
	}
	return nil
}

func (c *controller) makeVolume(ctx context.Context, req *csi.CreateVolumeRequest) (_ store.Volume, err error) {
	src, err := c.sourceOf(req)
	if err != nil {
		return store.Volume{}, err
	}
	size, err := volumeSize(req, src.size)
	if err != nil {
		return store.Volume{}, err
	}
	id, err := c.d.store.NewID(store.Volumes, req.GetName())
	if err != nil {
		return store.Volume{}, err
	}
	v := store.Volume{
		ID: id, Name: req.GetName(), Size: size, Shared: !c.d.cfg.Flavor.Blocks, Node: src.node,
		FromSnapshot: req.GetVolumeContentSource().GetSnapshot().GetSnapshotId(),
		FromVolume:   req.GetVolumeContentSource().GetVolume().GetVolumeId(),

		ClaimNamespace: req.GetParameters()[claimNamespace],
	}
	if c.d.cfg.Topology && v.Node == "" {
		v.Node = chosenNode(req.GetAccessibilityRequirements())
	}
	err = c.fill(ctx, v)
	if err == nil {
		err = c.d.store.Write(&v)
	}
	if err != nil {
		return v, errors.Join(err, c.d.store.Remove(store.Volumes, id))
	}
	return v, nil
}

// source is what a volume is made from.
type source struct {
	size int64
	node string
}

func (c *controller) sourceOf(req *csi.CreateVolumeRequest) (source, error) {
	if id := req.GetVolumeContentSource().GetSnapshot().GetSnapshotId(); id != "" {
		var s store.Snapshot
		err := c.d.store.Read(id, &s)
		return source{size: s.Size, node: s.Node}, err
	}
	if id := req.GetVolumeContentSource().GetVolume().GetVolumeId(); id != "" {
		var v store.Volume
		err := c.d.store.Read(id, &v)
		return source{size: v.Size, node: v.Node}, err
	}
	if req.GetVolumeContentSource() != nil {
		return source{}, status.Error(codes.InvalidArgument, "the content source names nothing")
	}
	return source{}, nil
}

func volumeSize(req *csi.CreateVolumeRequest, sourceSize int64) (int64, error) {
	want, limit := req.GetCapacityRange().GetRequiredBytes(), req.GetCapacityRange().GetLimitBytes()
	if want < 0 || limit < 0 || (limit > 0 && want > limit) {
		return 0, status.Errorf(codes.InvalidArgument, "capacity range: %d required, limit %d", want, limit)
	}
	size := want
	switch {
	case size == 0 && sourceSize > 0:
		size = sourceSize
	case size == 0:
		size = defaultSize
		if limit > 0 {
			size = min(size, limit)
		}
	}
	if size < sourceSize {
		return 0, status.Errorf(codes.OutOfRange, "%d bytes are too few for a source of %d", size, sourceSize)
	}
	for _, vc := range req.GetVolumeCapabilities() {
		if vc.GetMount().GetFsType() == disk.XFS {
			size = max(size, disk.MinXFS)
		}
	}
	return roundedSize(size, limit)
}

// roundedSize is size in whole blocks.
func roundedSize(size, limit int64) (int64, error) {
	size = (size + disk.BlockSize - 1) / disk.BlockSize * disk.BlockSize
	if size > maxSize || (limit > 0 && size > limit) {
		return 0, status.Errorf(codes.OutOfRange, "a volume here has at most %d bytes and whole blocks of %d", int64(maxSize), disk.BlockSize)
	}
	return size, nil
}

func chosenNode(r *csi.TopologyRequirement) string {
	for _, t := range append(r.GetPreferred(), r.GetRequisite()...) {
		if n := t.GetSegments()[topologyKey]; n != "" {
			return n
		}
	}
	return ""
}

// fill makes the image or the folder of a new volume.
func (c *controller) fill(ctx context.Context, v store.Volume) error {
	image := c.d.store.Image(store.Volumes, v.ID)
	switch {
	case v.Shared:
		// The mode is explicit: umask must not keep the pods out.
		if err := os.Mkdir(c.d.store.Tree(v.ID), 0o777); err != nil {
			return err
		}
		return os.Chmod(c.d.store.Tree(v.ID), 0o777)
	case v.FromSnapshot != "":
		if err := c.d.cloneImage(c.d.store.Image(store.Snapshots, v.FromSnapshot), image); err != nil {
			return err
		}
		return resizeImage(image, v.Size)
	case v.FromVolume != "":
		if _, err := c.d.cut(ctx, []member{{volume: v.FromVolume, target: image}}); err != nil {
			return err
		}
		return resizeImage(image, v.Size)
	default:
		return disk.CreateImage(image, v.Size)
	}
}

func resizeImage(image string, size int64) error {
	if err := os.Truncate(image, size); err != nil {
		return err
	}
	return disk.SyncFile(image)
}

func (c *controller) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if err := required(req.GetVolumeId(), "volume id"); err != nil {
		return nil, err
	}
	lock, err := c.d.store.LockVolume(ctx, req.GetVolumeId())
	if errors.Is(err, store.ErrNotFound) {
		return &csi.DeleteVolumeResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	var v store.Volume
	if err := c.d.store.Read(req.GetVolumeId(), &v); err != nil {
		return &csi.DeleteVolumeResponse{}, ignoreNotFound(err)
	}
	staged, err := c.d.store.StagedOn(v.ID)
	if err != nil {
		return nil, err
	}
	if len(staged) > 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is in use on %v: end its pods first", v.ID, staged)
	}
	if len(v.Attachments) > 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is attached to %s: detach it first", v.ID, v.Attachments[0].Node)
	}
	if !v.Shared {
		if err := c.d.detach(ctx, c.d.store.Image(store.Volumes, v.ID)); err != nil {
			return nil, err
		}
	}
	return &csi.DeleteVolumeResponse{}, c.d.store.Remove(store.Volumes, v.ID)
}

func (c *controller) ValidateVolumeCapabilities(_ context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if err := required(req.GetVolumeId(), "volume id"); err != nil {
		return nil, err
	}
	if len(req.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "volume capabilities are missing")
	}
	if err := c.d.store.Read(req.GetVolumeId(), &store.Volume{}); err != nil {
		return nil, err
	}
	for _, vc := range req.GetVolumeCapabilities() {
		if err := c.d.checkCapability(vc); err != nil {
			return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
		}
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: req.GetVolumeContext(), VolumeCapabilities: req.GetVolumeCapabilities(), Parameters: req.GetParameters(),
	}}, nil
}

func (c *controller) GetCapacity(context.Context, *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(c.d.store.Dir(), &st); err != nil {
		return nil, fmt.Errorf("capacity of %s: %w", c.d.store.Dir(), err)
	}
	return &csi.GetCapacityResponse{AvailableCapacity: int64(st.Bavail) * st.Bsize}, nil
}

func (c *controller) ControllerExpandVolume(ctx context.Context, req *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if err := required(req.GetVolumeId(), "volume id"); err != nil {
		return nil, err
	}
	if req.GetCapacityRange() == nil {
		return nil, status.Error(codes.InvalidArgument, "the capacity range is missing")
	}
	lock, err := c.d.store.LockVolume(ctx, req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	var v store.Volume
	if err := c.d.store.Read(req.GetVolumeId(), &v); err != nil {
		return nil, err
	}
	size, err := roundedSize(req.GetCapacityRange().GetRequiredBytes(), req.GetCapacityRange().GetLimitBytes())
	if err != nil {
		return nil, err
	}
	if size > v.Size {
		if !v.Shared {
			if err := resizeImage(c.d.store.Image(store.Volumes, v.ID), size); err != nil {
				return nil, fmt.Errorf("expand volume %s: %w", v.ID, err)
			}
		}
		v.Size = size
		if err := c.d.store.Write(&v); err != nil {
			return nil, err
		}
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.Size, NodeExpansionRequired: !v.Shared}, nil
}

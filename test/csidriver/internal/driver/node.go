package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

type node struct {
	csi.UnimplementedNodeServer
	d *Driver
}

var _ csi.NodeServer = (*node)(nil)

func (n *node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	types := []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	}
	if n.d.cfg.Flavor.Blocks {
		types = append(types, csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csi.NodeServiceCapability_RPC_EXPAND_VOLUME)
	}
	resp := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range types {
		resp.Capabilities = append(resp.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return resp, nil
}

func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	resp := &csi.NodeGetInfoResponse{NodeId: n.d.cfg.NodeID}
	if n.d.cfg.Topology {
		resp.AccessibleTopology = &csi.Topology{Segments: map[string]string{topologyKey: n.d.cfg.NodeID}}
	}
	return resp, nil
}

// lockVolume locks a volume and reads its record.
func (n *node) lockVolume(ctx context.Context, id string) (store.Volume, *store.Lock, error) {
	var v store.Volume
	lock, err := n.d.store.LockVolume(ctx, id)
	if err != nil {
		return v, nil, err
	}
	if err := n.d.store.Read(id, &v); err != nil {
		lock.Unlock()
		return v, nil, err
	}
	return v, lock, nil
}

func (n *node) checkVolumeCapability(c *csi.VolumeCapability) error {
	if c == nil {
		return status.Error(codes.InvalidArgument, "the volume capability is missing")
	}
	return n.d.checkCapability(c)
}

func (n *node) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if err := cmp.Or(required(req.GetVolumeId(), "volume id"), required(req.GetStagingTargetPath(), "staging target path"),
		n.checkVolumeCapability(req.GetVolumeCapability())); err != nil {
		return nil, err
	}
	v, lock, err := n.lockVolume(ctx, req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	if v.Shared {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	if n.d.cfg.Plain {
		return &csi.NodeStageVolumeResponse{}, n.d.store.Stage(v.ID, n.d.cfg.NodeID)
	}
	// The note comes first: a loop that nobody has noted could be detached.
	if err := n.d.store.Stage(v.ID, n.d.cfg.NodeID); err != nil {
		return nil, err
	}
	readOnly := onlyReads(req.GetVolumeCapability().GetAccessMode().GetMode())
	if req.GetVolumeCapability().GetBlock() != nil {
		_, err := n.attach(ctx, v, readOnly)
		return &csi.NodeStageVolumeResponse{}, err
	}
	err = n.stageFilesystem(ctx, v, req.GetStagingTargetPath(), req.GetVolumeCapability().GetMount(), readOnly)
	if err != nil {
		return nil, fmt.Errorf("stage volume %s: %w", v.ID, err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// attach gives a volume its loop, at the size that the volume has now.
func (n *node) attach(ctx context.Context, v store.Volume, readOnly bool) (disk.Loop, error) {
	l, err := disk.AttachLoop(ctx, n.d.store.Image(store.Volumes, v.ID), readOnly)
	if err != nil {
		return l, err
	}
	return l, disk.ResizeLoop(l)
}

func (n *node) stageFilesystem(ctx context.Context, v store.Volume, target string, want *csi.VolumeCapability_MountVolume, readOnly bool) error {
	// Even a mount that only reads may have to replay a journal first, so the
	// loop is always writable; the mount is not.
	l, err := n.attach(ctx, v, false)
	if err != nil {
		return err
	}
	if done, err := mountedFrom(l, target); done || err != nil {
		return err
	}
	fsType, err := n.ensureFilesystem(ctx, v, l, want.GetFsType(), readOnly)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	options := append([]string(nil), want.GetMountFlags()...)
	if readOnly {
		return disk.MountDevice(ctx, l.Path(), target, fsType, append(options, "ro"))
	}
	if err := growBeforeMount(ctx, l, fsType, v.Size); err != nil {
		return err
	}
	if err := disk.MountDevice(ctx, l.Path(), target, fsType, options); err != nil {
		return err
	}
	return growXFS(ctx, l, target, fsType, v.Size)
}

// mountedFrom tells whether a loop is mounted at a path. Something else there
// is an error, for a second mount would hide it.
func mountedFrom(l disk.Loop, target string) (bool, error) {
	m, mounted, err := disk.MountAt(target)
	if err != nil || !mounted {
		return false, err
	}
	dev, err := l.Dev()
	if err != nil {
		return false, err
	}
	if m.Dev != dev {
		return false, status.Errorf(codes.FailedPrecondition, "%s is the mount of another device, %s: unmount it first", target, m.Dev)
	}
	return true, nil
}

// ensureFilesystem returns the filesystem of a volume, made now if the volume
// is blank. What it does not know it never overwrites.
func (n *node) ensureFilesystem(ctx context.Context, v store.Volume, l disk.Loop, want string, readOnly bool) (string, error) {
	mark := n.d.store.Formatting(v.ID)
	image := n.d.store.Image(store.Volumes, v.ID)
	if fileExists(mark) {
		// A format that was killed left a part of a filesystem and no data.
		return cmp.Or(want, n.d.cfg.FSType), n.format(ctx, v, l, cmp.Or(want, n.d.cfg.FSType))
	}
	have, err := disk.ProbeType(l.Path())
	if err != nil {
		return "", err
	}
	if have != "" && want != "" && have != want {
		return "", status.Errorf(codes.FailedPrecondition, "it holds %s, but %s is asked for: use a storage class with that filesystem type", have, want)
	}
	if have != "" {
		return have, nil
	}
	blank, err := disk.Blank(image)
	if err != nil {
		return "", err
	}
	if !blank || readOnly {
		return "", status.Errorf(codes.FailedPrecondition, "it holds no filesystem (blank %t, read-only %t): use volumeMode Block, or a volume that was made for files", blank, readOnly)
	}
	return cmp.Or(want, n.d.cfg.FSType), n.format(ctx, v, l, cmp.Or(want, n.d.cfg.FSType))
}

func (n *node) format(ctx context.Context, v store.Volume, l disk.Loop, fsType string) error {
	mark := n.d.store.Formatting(v.ID)
	image := n.d.store.Image(store.Volumes, v.ID)
	if fileExists(mark) {
		if err := disk.Wipe(image); err != nil {
			return err
		}
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	if err := disk.SyncFile(n.d.store.Folder(store.Volumes, v.ID)); err != nil {
		return err
	}
	if err := disk.Format(ctx, l.Path(), fsType); err != nil {
		return err
	}
	if err := disk.SyncLoop(l); err != nil {
		return err
	}
	return os.Remove(mark)
}

func (n *node) NodeUnstageVolume(ctx context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if err := cmp.Or(required(req.GetVolumeId(), "volume id"), required(req.GetStagingTargetPath(), "staging target path")); err != nil {
		return nil, err
	}
	v, lock, err := n.lockVolume(ctx, req.GetVolumeId())
	if errors.Is(err, store.ErrNotFound) {
		return &csi.NodeUnstageVolumeResponse{}, disk.Unmount(req.GetStagingTargetPath())
	}
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	if err := disk.Unmount(req.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	if v.Shared {
		return &csi.NodeUnstageVolumeResponse{}, nil
	}
	return &csi.NodeUnstageVolumeResponse{}, n.release(ctx, v)
}

// release takes this node's note back, and detaches the loops with the last
// note. Loops that still show somewhere keep both.
func (n *node) release(ctx context.Context, v store.Volume) error {
	holders, err := n.d.store.StagedOn(v.ID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(holders, func(h string) bool { return h != n.d.cfg.NodeID }) {
		return n.d.store.Unstage(v.ID, n.d.cfg.NodeID)
	}
	image := n.d.store.Image(store.Volumes, v.ID)
	loops, err := n.d.loops(v.ID)
	if err != nil {
		return err
	}
	shown, err := shownAt(loops)
	if err != nil {
		return err
	}
	if len(shown) > 0 {
		return status.Errorf(codes.FailedPrecondition, "volume %s is still shown at %v: unpublish it first", v.ID, shown)
	}
	if err := n.d.detach(ctx, image); err != nil {
		return err
	}
	return n.d.store.Unstage(v.ID, n.d.cfg.NodeID)
}

package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

func (n *node) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := cmp.Or(required(req.GetVolumeId(), "volume id"), required(req.GetTargetPath(), "target path"),
		n.checkVolumeCapability(req.GetVolumeCapability())); err != nil {
		return nil, err
	}
	v, lock, err := n.lockVolume(ctx, req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	readOnly := req.GetReadonly() || onlyReads(req.GetVolumeCapability().GetAccessMode().GetMode())
	switch {
	case n.d.cfg.Plain:
		err = n.publishPlain(ctx, v, req)
	case v.Shared:
		err = n.publishShared(v, req, readOnly)
	case req.GetVolumeCapability().GetBlock() != nil:
		err = n.publishDevice(ctx, v, req, readOnly)
	default:
		err = n.publishFilesystem(v, req, readOnly)
	}
	if err != nil {
		return nil, fmt.Errorf("publish volume %s: %w", v.ID, err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (n *node) publishShared(v store.Volume, req *csi.NodePublishVolumeRequest, readOnly bool) error {
	tree := n.d.store.Tree(v.ID)
	mounts, err := disk.Mounts()
	if err != nil {
		return err
	}
	var shown []string
	for _, m := range mounts {
		// The ID makes the end of the path unique on the machine.
		if strings.HasSuffix(m.Root, filepath.Join(string(store.Volumes), v.ID, filepath.Base(tree))) {
			shown = append(shown, m.Target)
		}
	}
	if err := singleWriter(req, shown, ""); err != nil {
		return err
	}
	return publishFolder(tree, req.GetTargetPath(), readOnly)
}

// publishFolder binds a folder to target; a bind that is there stays.
func publishFolder(source, target string, readOnly bool) error {
	if _, mounted, err := disk.MountAt(target); err != nil {
		return err
	} else if mounted {
		return sameFile(source, target)
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	return disk.Bind(source, target, readOnly)
}

// sameFile refuses a mount that shows something else than it should.
func sameFile(source, target string) error {
	a, err := os.Stat(source)
	if err != nil {
		return err
	}
	b, err := os.Stat(target)
	if err != nil {
		return err
	}
	if !os.SameFile(a, b) {
		return status.Errorf(codes.FailedPrecondition, "%s is the mount of something else: unmount it first", target)
	}
	return nil
}

func (n *node) publishFilesystem(v store.Volume, req *csi.NodePublishVolumeRequest, readOnly bool) error {
	staging := req.GetStagingTargetPath()
	if staging == "" {
		return status.Error(codes.FailedPrecondition, "the staging target path is missing: stage the volume first")
	}
	loops, err := n.d.loops(v.ID)
	if err != nil {
		return err
	}
	staged := false
	for _, l := range loops {
		if !l.ReadOnly {
			if staged, err = mountedFrom(l, staging); err != nil {
				return err
			}
		}
	}
	if !staged {
		return status.Errorf(codes.FailedPrecondition, "it is not mounted at %s: stage the volume first", staging)
	}
	shown, err := shownAt(loops)
	if err != nil {
		return err
	}
	if err := singleWriter(req, shown, staging); err != nil {
		return err
	}
	return publishFolder(staging, req.GetTargetPath(), readOnly)
}

// publishDevice binds the loop to a file. A volume that is only read gets a
// loop of its own that refuses writes: a read-only bind of a device would not.
func (n *node) publishDevice(ctx context.Context, v store.Volume, req *csi.NodePublishVolumeRequest, readOnly bool) error {
	if req.GetStagingTargetPath() == "" {
		return status.Error(codes.FailedPrecondition, "the staging target path is missing: stage the volume first")
	}
	if err := n.d.store.Stage(v.ID, n.d.cfg.NodeID); err != nil {
		return err
	}
	l, err := n.attach(ctx, v, readOnly)
	if err != nil {
		return err
	}
	target := req.GetTargetPath()
	shown, err := shownAt([]disk.Loop{l})
	if err != nil {
		return err
	}
	if err := singleWriter(req, shown, ""); err != nil {
		return err
	}
	if _, mounted, err := disk.MountAt(target); err != nil {
		return err
	} else if mounted {
		return sameDevice(l, target)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return disk.Bind(l.Path(), target, false)
}

func sameDevice(l disk.Loop, target string) error {
	var a, b unix.Stat_t
	if err := unix.Stat(l.Path(), &a); err != nil {
		return fmt.Errorf("stat %s: %w", l.Path(), err)
	}
	if err := unix.Stat(target, &b); err != nil {
		return fmt.Errorf("stat %s: %w", target, err)
	}
	if a.Rdev != b.Rdev {
		return status.Errorf(codes.FailedPrecondition, "%s is the mount of another device: unmount it first", target)
	}
	return nil
}

// singleWriter holds SINGLE_NODE_SINGLE_WRITER volumes to one target; shown
// are the places where the volume is mounted.
func singleWriter(req *csi.NodePublishVolumeRequest, shown []string, staging string) error {
	if req.GetVolumeCapability().GetAccessMode().GetMode() != csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		return nil
	}
	for _, path := range shown {
		if path != staging && path != req.GetTargetPath() {
			return status.Errorf(codes.FailedPrecondition, "it may have one writer and is published at %s", path)
		}
	}
	return nil
}

// shownAt lists where loops, or the filesystems on them, are mounted.
func shownAt(loops []disk.Loop) ([]string, error) {
	mounts, err := disk.Mounts()
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, l := range loops {
		dev, err := l.Dev()
		if err != nil {
			return nil, err
		}
		for _, m := range mounts {
			device := "/dev" + m.Root
			if m.Dev == dev || (m.FSType == "devtmpfs" && device == l.Path()) {
				paths = append(paths, m.Target)
			}
		}
	}
	return paths, nil
}

func (n *node) NodeUnpublishVolume(_ context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := cmp.Or(required(req.GetVolumeId(), "volume id"), required(req.GetTargetPath(), "target path")); err != nil {
		return nil, err
	}
	if err := disk.Unmount(req.GetTargetPath()); err != nil {
		return nil, err
	}
	// Remove and not RemoveAll: were the unmount not to have worked, the data
	// of the volume would go.
	if err := os.Remove(req.GetTargetPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("unpublish volume %s: %w", req.GetVolumeId(), err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

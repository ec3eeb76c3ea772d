package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

// A plain driver has no loops and no mounts, and so needs no root. What it
// publishes is a symbolic link: to the image of a Block volume, or to a folder
// beside the image of a Filesystem volume. While there is a folder it holds the
// data, and the image what it held before; each cut first packs the folder into
// the image, as an ext4, so that snapshots, clones and changed blocks work. It cannot hold a volume to
// its size before a cut, nor to reading only, nor stop its writers for a cut.

// loops finds the loops of a volume; a plain driver never made any.
func (d *Driver) loops(volume string) ([]disk.Loop, error) {
	if d.cfg.Plain {
		return nil, nil
	}
	return disk.FindLoops(d.store.Image(store.Volumes, volume))
}

// detach takes the loops from an image.
func (d *Driver) detach(ctx context.Context, image string) error {
	if d.cfg.Plain {
		return nil
	}
	return disk.DetachLoops(ctx, image)
}

// pack brings the folder of a plain volume into its image before it is copied.
func (d *Driver) pack(ctx context.Context, volume string) error {
	tree := d.store.Tree(volume)
	if !d.cfg.Plain || !fileExists(tree) {
		return nil
	}
	if err := disk.Pack(ctx, tree, d.store.Image(store.Volumes, volume)); err != nil {
		return status.Errorf(codes.ResourceExhausted, "the files of volume %s do not fit into it: %v", volume, err)
	}
	return nil
}

func (n *node) publishPlain(ctx context.Context, v store.Volume, req *csi.NodePublishVolumeRequest) error {
	source := n.d.store.Tree(v.ID)
	switch {
	case v.Shared:
	case req.GetVolumeCapability().GetBlock() != nil:
		source = n.d.store.Image(store.Volumes, v.ID)
		if err := n.dropTree(ctx, v); err != nil {
			return err
		}
	default:
		if err := n.ensureTree(ctx, v); err != nil {
			return err
		}
	}
	target := req.GetTargetPath()
	if have, err := os.Readlink(target); err == nil && have == source {
		return nil
	}
	// Kubelets make the folder before they ask to publish onto it.
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	return os.Symlink(source, target)
}

// dropTree brings the folder of a volume into its image and removes it, so that
// what is written to the image from now on counts.
func (n *node) dropTree(ctx context.Context, v store.Volume) error {
	if err := n.d.pack(ctx, v.ID); err != nil {
		return err
	}
	if err := disk.SyncFile(n.d.store.Image(store.Volumes, v.ID)); err != nil {
		return err
	}
	return os.RemoveAll(n.d.store.Tree(v.ID))
}

// ensureTree makes the folder of a volume from what its image holds.
func (n *node) ensureTree(ctx context.Context, v store.Volume) error {
	tree, image := n.d.store.Tree(v.ID), n.d.store.Image(store.Volumes, v.ID)
	if fileExists(tree) {
		return nil
	}
	blank, err := disk.Blank(image)
	if err != nil {
		return err
	}
	if blank {
		return os.Mkdir(tree, 0o777)
	}
	fsType, err := disk.ProbeType(image)
	if err != nil {
		return err
	}
	if fsType != disk.Ext4 {
		return status.Errorf(codes.FailedPrecondition, "it holds %q, and without mounts only ext4 can be read: run the driver as root without --plain", fsType)
	}
	part := tree + ".part"
	if err := os.RemoveAll(part); err != nil {
		return fmt.Errorf("unpack again: %w", err)
	}
	if err := disk.Unpack(ctx, image, part); err != nil {
		return err
	}
	return os.Rename(part, tree)
}

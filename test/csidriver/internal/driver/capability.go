package driver

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
)

// checkCapability returns INVALID_ARGUMENT for what this flavor cannot do.
func (d *Driver) checkCapability(c *csi.VolumeCapability) error {
	mode := c.GetAccessMode().GetMode()
	if mode == csi.VolumeCapability_AccessMode_UNKNOWN {
		return status.Error(codes.InvalidArgument, "the access mode is missing")
	}
	if c.GetBlock() == nil && c.GetMount() == nil {
		return status.Error(codes.InvalidArgument, "the access type is missing: block or mount")
	}
	if !d.cfg.Flavor.Blocks {
		return d.checkShared(c)
	}
	if t := c.GetMount().GetFsType(); t != "" && t != disk.Ext4 && t != disk.XFS {
		return status.Errorf(codes.InvalidArgument, "filesystem %q is not made here: use ext4 or xfs", t)
	}
	if writesOnManyNodes(mode) && (c.GetMount() != nil || d.cfg.SingleNodeAttach) {
		return status.Errorf(codes.InvalidArgument, "access mode %s: volumes of this driver are written on one node at a time", mode)
	}
	return nil
}

func (d *Driver) checkShared(c *csi.VolumeCapability) error {
	if c.GetBlock() != nil {
		return status.Error(codes.InvalidArgument, "this storage has no block volumes: use volumeMode Filesystem")
	}
	if t := c.GetMount().GetFsType(); t != "" {
		return status.Errorf(codes.InvalidArgument, "this storage is a shared folder and makes no %s: leave the filesystem type empty", t)
	}
	return nil
}

func writesOnManyNodes(mode csi.VolumeCapability_AccessMode_Mode) bool {
	return mode == csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER ||
		mode == csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER
}

func onlyReads(mode csi.VolumeCapability_AccessMode_Mode) bool {
	return mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY ||
		mode == csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
}

func required(value, field string) error {
	if value == "" {
		return status.Errorf(codes.InvalidArgument, "%s is missing", field)
	}
	return nil
}

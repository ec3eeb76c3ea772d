package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

// growBeforeMount makes an ext4 as large as its volume before it is mounted,
// which needs no CAP_SYS_RESOURCE. A filesystem that is mounted elsewhere, on a
// second node, has been grown there.
func growBeforeMount(ctx context.Context, l disk.Loop, fsType string, size int64) error {
	if fsType != disk.Ext4 {
		return nil
	}
	grow, err := disk.NeedsGrowth(l.Path(), size)
	if err != nil || !grow {
		return err
	}
	claimed, err := disk.Claimed(l)
	if err != nil || claimed {
		return err
	}
	return disk.GrowUnmounted(ctx, l.Path())
}

func growXFS(ctx context.Context, l disk.Loop, target, fsType string, size int64) error {
	if fsType != disk.XFS {
		return nil
	}
	grow, err := disk.NeedsGrowth(l.Path(), size)
	if err != nil || !grow {
		return err
	}
	return disk.GrowMounted(ctx, l.Path(), target, fsType)
}

func (n *node) NodeExpandVolume(ctx context.Context, req *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if err := cmp.Or(required(req.GetVolumeId(), "volume id"), required(req.GetVolumePath(), "volume path")); err != nil {
		return nil, err
	}
	v, lock, err := n.lockVolume(ctx, req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	if v.Shared || n.d.cfg.Plain {
		return &csi.NodeExpandVolumeResponse{CapacityBytes: v.Size}, nil
	}
	if want := req.GetCapacityRange().GetRequiredBytes(); want > v.Size {
		return nil, status.Errorf(codes.OutOfRange, "volume %s has %d bytes, not %d: expand it in the controller first", v.ID, v.Size, want)
	}
	loops, err := n.d.loops(v.ID)
	if err != nil {
		return nil, err
	}
	if len(loops) == 0 {
		return nil, status.Errorf(codes.NotFound, "volume %s is not on this node", v.ID)
	}
	for _, l := range loops {
		if err := n.expandLoop(ctx, v, l, req.GetVolumePath()); err != nil {
			return nil, err
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: v.Size}, nil
}

// expandLoop grows a loop and the filesystem that is mounted from it at path.
func (n *node) expandLoop(ctx context.Context, v store.Volume, l disk.Loop, path string) error {
	if err := disk.ResizeLoop(l); err != nil {
		return err
	}
	m, mounted, err := disk.MountAt(path)
	if err != nil || !mounted {
		return err
	}
	dev, err := l.Dev()
	if err != nil || m.Dev != dev {
		return err
	}
	grow, err := disk.NeedsGrowth(l.Path(), v.Size)
	if err != nil || !grow {
		return err
	}
	err = disk.GrowMounted(ctx, l.Path(), path, m.FSType)
	if err != nil && m.FSType == disk.Ext4 && !mayGrowMountedExt4() {
		return status.Errorf(codes.FailedPrecondition,
			"volume %s: ext4 cannot grow while mounted without CAP_SYS_RESOURCE: restart its pods and it grows before it is mounted (%v)", v.ID, err)
	}
	if err != nil {
		return fmt.Errorf("expand volume %s: %w", v.ID, err)
	}
	return nil
}

// mayGrowMountedExt4 tells whether this process has CAP_SYS_RESOURCE.
func mayGrowMountedExt4() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return false
	}
	return caps[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func (n *node) NodeGetVolumeStats(_ context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if err := cmp.Or(required(req.GetVolumeId(), "volume id"), required(req.GetVolumePath(), "volume path")); err != nil {
		return nil, err
	}
	var v store.Volume
	if err := n.d.store.Read(req.GetVolumeId(), &v); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(req.GetVolumePath(), &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil, status.Errorf(codes.NotFound, "volume %s is not at %s", v.ID, req.GetVolumePath())
		}
		return nil, fmt.Errorf("stat %s: %w", req.GetVolumePath(), err)
	}
	if _, mounted, err := disk.MountAt(req.GetVolumePath()); err != nil {
		return nil, err
	} else if !mounted && !n.d.cfg.Plain {
		return nil, status.Errorf(codes.NotFound, "volume %s is not mounted at %s", v.ID, req.GetVolumePath())
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: v.Size}}}, nil
	}
	return filesystemStats(req.GetVolumePath())
}

func filesystemStats(path string) (*csi.NodeGetVolumeStatsResponse, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil, fmt.Errorf("statfs %s: %w", path, err)
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{
			Unit: csi.VolumeUsage_BYTES, Total: int64(fs.Blocks) * fs.Bsize,
			Available: int64(fs.Bavail) * fs.Bsize, Used: int64(fs.Blocks-fs.Bfree) * fs.Bsize,
		},
		{Unit: csi.VolumeUsage_INODES, Total: int64(fs.Files), Available: int64(fs.Ffree), Used: int64(fs.Files - fs.Ffree)},
	}}, nil
}

package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// The filesystems that the driver makes.
const (
	Ext4 = "ext4"
	XFS  = "xfs"
)

// MinXFS is the smallest image in bytes that mkfs.xfs accepts.
const MinXFS = 300 << 20

// growSlack is what a filesystem may leave unused at the end of its device.
const growSlack = 1 << 20

// superblock is what the first bytes of a device tell about its filesystem.
type superblock struct {
	fsType string
	size   int64
}

func readSuperblock(device string) (superblock, error) {
	f, err := os.Open(device)
	if err != nil {
		return superblock{}, fmt.Errorf("probe: %w", err)
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 4096)
	if err := readZeroPadded(f, head, 0); err != nil {
		return superblock{}, err
	}
	if bytes.HasPrefix(head, []byte("XFSB")) {
		blockSize, blocks := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint64(head[8:])
		return superblock{fsType: XFS, size: int64(blocks) * int64(blockSize)}, nil
	}
	ext := head[1024:]
	if binary.LittleEndian.Uint16(ext[0x38:]) != 0xef53 {
		return superblock{}, nil
	}
	blocks := uint64(binary.LittleEndian.Uint32(ext[4:]))
	if binary.LittleEndian.Uint32(ext[0x60:])&0x80 != 0 { // 64bit
		blocks |= uint64(binary.LittleEndian.Uint32(ext[0x150:])) << 32
	}
	return superblock{fsType: Ext4, size: int64(blocks) << (10 + binary.LittleEndian.Uint32(ext[0x18:]))}, nil
}

// ProbeType returns Ext4, XFS or "" for what it does not know.
func ProbeType(device string) (string, error) {
	sb, err := readSuperblock(device)
	return sb.fsType, err
}

var errNotBlank = errors.New("not blank")

// Blank tells whether an image reads as zeros from end to end.
func Blank(image string) (bool, error) {
	zeros := make([]byte, compareChunk)
	f, err := os.Open(image)
	if err != nil {
		return false, fmt.Errorf("is it blank: %w", err)
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, compareChunk)
	err = Allocated(image, 0, func(e Extent) error {
		for off := e.Offset; off < e.End(); off += compareChunk {
			p := buf[:min(compareChunk, e.End()-off)]
			if err := readZeroPadded(f, p, off); err != nil {
				return err
			}
			if !bytes.Equal(p, zeros[:len(p)]) {
				return errNotBlank
			}
		}
		return nil
	})
	if errors.Is(err, errNotBlank) {
		return false, nil
	}
	return err == nil, err
}

// Format makes a filesystem on a device. The caller has seen that it is blank.
func Format(ctx context.Context, device, fsType string) error {
	switch fsType {
	case Ext4:
		return run(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", device)
	case XFS:
		// Without -f it refuses what already holds a filesystem.
		return run(ctx, "mkfs.xfs", "-q", device)
	default:
		return fmt.Errorf("format %s: filesystem %q is not known here: use ext4 or xfs", device, fsType)
	}
}

// MountDevice mounts a filesystem with mount's option strings.
func MountDevice(ctx context.Context, device, target, fsType string, options []string) error {
	if fsType == XFS {
		// A clone has the identity of its source, which may be mounted too.
		options = append([]string{"nouuid"}, options...)
	}
	args := []string{"-t", fsType}
	if len(options) > 0 {
		args = append(args, "-o", strings.Join(options, ","))
	}
	return run(ctx, "mount", append(args, device, target)...)
}

// NeedsGrowth tells whether a device is larger than its filesystem, which is
// so after an expansion and after a restore into a larger volume.
func NeedsGrowth(device string, size int64) (bool, error) {
	sb, err := readSuperblock(device)
	if err != nil {
		return false, err
	}
	return sb.fsType != "" && sb.size+growSlack < size, nil
}

// GrowMounted makes a mounted filesystem as large as its device. On ext4 the
// kernel allows it only to holders of CAP_SYS_RESOURCE.
func GrowMounted(ctx context.Context, device, target, fsType string) error {
	if fsType == XFS {
		return run(ctx, "xfs_growfs", target)
	}
	return run(ctx, "resize2fs", device)
}

// GrowUnmounted makes an ext4 as large as its device; xfs grows only mounted.
func GrowUnmounted(ctx context.Context, device string) error {
	err := run(ctx, "e2fsck", "-f", "-p", device)
	var exit *exec.ExitError
	// 1: it corrected something, such as a journal that was not yet replayed.
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return err
	}
	return run(ctx, "resize2fs", device)
}

func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

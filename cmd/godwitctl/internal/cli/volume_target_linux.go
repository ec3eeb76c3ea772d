package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot/blockdev"
)

// newFileMode keeps a volume's bytes to whoever restored it.
const newFileMode = 0o600

// newFile is a file that gets its name only once it is whole.
type newFile struct {
	file *os.File
	path string
	// named is its name meanwhile, where the filesystem has no nameless files.
	named string
}

// createFile makes a file of the size that will be at path.
func createFile(path string, size int64) (*newFile, error) {
	if strings.HasPrefix(path, "/dev/") {
		return nil, fmt.Errorf("%s does not exist, and a file in /dev would be no device: correct the name", path)
	}
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, newFileMode)
	n := &newFile{path: path}
	switch {
	case err == nil:
		n.file = os.NewFile(uintptr(fd), path)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL):
		if n.file, err = os.CreateTemp(dir, "."+filepath.Base(path)+".partial-*"); err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
		n.named = n.file.Name()
	default:
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	if err := n.file.Truncate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("make %s of %d bytes: %w", path, size, err), n.discard())
	}
	return n, nil
}

// where is a path that opens it before it has its name.
func (n *newFile) where() string { return "/proc/self/fd/" + strconv.Itoa(int(n.file.Fd())) }

// keep gives it its name. One that came into being meanwhile is not replaced.
func (n *newFile) keep() error {
	if err := unix.Linkat(unix.AT_FDCWD, n.where(), unix.AT_FDCWD, n.path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return errors.Join(fmt.Errorf("name the restored file %s: %w", n.path, err), n.discard())
	}
	return n.discard()
}

// discard closes it, and removes the name it had meanwhile.
func (n *newFile) discard() error {
	err := n.file.Close()
	if n.named != "" {
		err = errors.Join(err, os.Remove(n.named))
	}
	return err
}

// Ranges that show whether a device is in use by something that no probe knows.
const (
	edgeSize    = 1 << 20
	sampleSize  = 64 << 10
	sampleCount = 64
)

// empty says in words why the target must not be overwritten; "" means that it
// holds nothing that was found.
func holds(path string, sink *blockdev.Sink) (string, error) {
	filesystem, err := blockdev.Filesystem(sink)
	if err != nil {
		return "", err
	}
	if filesystem != "" {
		return fmt.Sprintf("%s holds a filesystem (%s)", path, filesystem), nil
	}
	size := sink.Size()
	ranges := [][2]int64{{0, edgeSize}, {max(0, size-edgeSize), edgeSize}}
	for i := range int64(sampleCount) {
		ranges = append(ranges, [2]int64{size / sampleCount * i, sampleSize})
	}
	buf, zeros := make([]byte, edgeSize), make([]byte, edgeSize)
	for _, at := range ranges {
		n, err := sink.ReadAt(buf[:at[1]], at[0])
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("look whether %s is empty: %w", path, err)
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			return fmt.Sprintf("%s holds data (near byte %d)", path, at[0]), nil
		}
	}
	return "", nil
}

// loopOf names the loop device that a file or a device is behind, if any.
func loopOf(path string) (string, error) {
	var target unix.Stat_t
	if err := unix.Stat(path, &target); err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", fmt.Errorf("look for loop devices: %w", err)
	}
	for _, file := range backing {
		loop := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(file)))
		held, err := behind(loop, file)
		if err == nil && isSame(held, target) {
			return loop, nil
		}
	}
	return "", nil
}

// behind is what a loop device holds, as far as isSame needs it. The device itself tells,
// whatever names and mounts there are; who may not open it has to go by the name that
// the kernel shows.
func behind(loop, backing string) (held unix.Stat_t, err error) {
	if fd, err := unix.Open(loop, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		defer func() { _ = unix.Close(fd) }()
		if info, err := unix.IoctlLoopGetStatus64(fd); err == nil {
			return unix.Stat_t{Dev: info.Device, Ino: info.Inode, Rdev: info.Rdevice}, nil
		}
	}
	name, err := os.ReadFile(backing) //nolint:gosec // the kernel's own
	if err != nil {
		return held, err
	}
	err = unix.Stat(strings.TrimSuffix(string(name), "\n"), &held)
	return held, err
}

// isSame says whether both are the same file, or nodes of the same device.
func isSame(held, target unix.Stat_t) bool {
	if target.Mode&unix.S_IFMT == unix.S_IFBLK {
		return held.Rdev == target.Rdev
	}
	return held.Dev == target.Dev && held.Ino == target.Ino
}

// openTarget opens an existing device or file for writing. What is in use is
// never written; what holds something only with force.
func openTarget(path string, force bool) (*blockdev.Sink, error) {
	loop, err := loopOf(path)
	if err != nil {
		return nil, err
	}
	if loop != "" {
		return nil, fmt.Errorf("%s is in use by %s: write to that, or detach it first with losetup -d %s", path, loop, loop)
	}
	sink, err := blockdev.OpenSink(path)
	if err != nil {
		return nil, err
	}
	if force {
		return sink, nil
	}
	found, err := holds(path, sink)
	if err == nil && found != "" {
		err = fmt.Errorf("%s, which would be lost: choose another target, or say --force", found)
	}
	if err != nil {
		return nil, errors.Join(err, sink.Close())
	}
	return sink, nil
}

// warnOfUse tells of a source that something may write meanwhile.
func (s *session) warnOfUse(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return s.hint("warning: %s is in use; unless nothing writes to it meanwhile, the image is of no one moment", path)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return unix.Close(fd)
}

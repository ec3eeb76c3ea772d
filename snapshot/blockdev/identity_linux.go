package blockdev

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity names the device or file so that no other has its name, not even
// one that takes its place under the same path: it serves to tell whose
// journal one finds. A device keeps it until it is detached or the machine
// starts again, a file as long as it exists.
func (d *device) Identity() (string, error) {
	var st unix.Statx_t
	fd := int(d.file.Fd())
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return "", &os.PathError{Op: "identify", Path: d.path, Err: err}
	}
	if !d.block {
		return fmt.Sprintf("file %d:%d inode %d of %d.%09d", st.Dev_major, st.Dev_minor, st.Ino, st.Btime.Sec, st.Btime.Nsec), nil
	}
	folder := fmt.Sprintf("/sys/dev/block/%d:%d/", st.Rdev_major, st.Rdev_minor)
	// The device mapper gives its devices names of their own.
	name, err := attribute(folder + "dm/uuid")
	if err != nil {
		return "", err
	}
	if name != "" {
		return "mapped " + name, nil
	}
	sequence, err := attribute(folder + "diskseq")
	if err == nil && sequence == "" { // a partition has its disk's
		sequence, err = attribute(folder + "../diskseq")
	}
	if err != nil {
		return "", err
	}
	boot, err := attribute("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	if sequence == "" || boot == "" {
		return "", fmt.Errorf("%s cannot be told from another in its place: this kernel numbers no disks: %w", d.path, errors.ErrUnsupported)
	}
	return fmt.Sprintf("device %d:%d number %s since boot %s", st.Rdev_major, st.Rdev_minor, sequence, boot), nil
}

// attribute reads a line that the kernel may have; empty where it has none.
func attribute(path string) (string, error) {
	data, err := os.ReadFile(path) //nolint:gosec // below /sys and /proc
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

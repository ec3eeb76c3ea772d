package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sectorSize is the logical sector of every loop, in bytes.
const sectorSize = 512

// Loop is a loop device that is bound to an image.
type Loop struct {
	// Number is N in /dev/loopN.
	Number int
	// ReadOnly tells that the kernel refuses writes to the device.
	ReadOnly bool

	flags uint32
}

// Path returns the device node.
func (l Loop) Path() string { return fmt.Sprintf("/dev/loop%d", l.Number) }

// Dev returns the device number as mountinfo writes it.
func (l Loop) Dev() (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/dev", l.Number))
	if err != nil {
		return "", fmt.Errorf("device number of loop%d: %w", l.Number, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// FindLoops returns every loop of an image, in order of their numbers.
func FindLoops(image string) ([]Loop, error) {
	var st unix.Stat_t
	if err := unix.Stat(image, &st); err != nil {
		return nil, fmt.Errorf("look for loops of %s: %w", image, err)
	}
	bound, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var found []Loop
	for _, dir := range bound {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(dir)), "loop"))
		if err != nil {
			continue
		}
		l, backs, err := loopStatus(n, st.Dev, st.Ino)
		if err != nil {
			return nil, err
		}
		if backs {
			found = append(found, l)
		}
	}
	return found, nil
}

// loopStatus tells whether loop n is bound to the file with that device and
// inode number. A loop that goes away meanwhile is bound to nothing.
func loopStatus(n int, dev, ino uint64) (Loop, bool, error) {
	f, err := openLoop(n, os.O_RDONLY)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) {
		return Loop{}, false, nil
	}
	if err != nil {
		return Loop{}, false, err
	}
	defer func() { _ = f.Close() }()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return Loop{}, false, nil
	}
	if err != nil {
		return Loop{}, false, fmt.Errorf("status of loop%d: %w", n, err)
	}
	l := Loop{Number: n, ReadOnly: info.Flags&unix.LO_FLAGS_READ_ONLY != 0, flags: info.Flags}
	return l, info.Device == dev && info.Inode == ino, nil
}

// openLoop opens /dev/loopN, making the node where /dev is not a devtmpfs.
func openLoop(n, mode int) (*os.File, error) {
	path := Loop{Number: n}.Path()
	f, err := os.OpenFile(path, mode|unix.O_CLOEXEC, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	dev, err := Loop{Number: n}.Dev()
	if err != nil {
		return nil, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(dev, "%d:%d", &major, &minor); err != nil {
		return nil, fmt.Errorf("device number %q of loop%d: %w", dev, n, err)
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return os.OpenFile(path, mode|unix.O_CLOEXEC, 0)
}

// AttachLoop returns the loop of an image that is read-only or not as asked,
// binding a free one when there is none. The caller keeps others from
// attaching the same image at the same time.
func AttachLoop(ctx context.Context, image string, readOnly bool) (Loop, error) {
	loops, err := FindLoops(image)
	if err != nil {
		return Loop{}, err
	}
	for _, l := range loops {
		if l.ReadOnly == readOnly {
			return l, keepLoop(l)
		}
	}
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(image, mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return Loop{}, fmt.Errorf("attach: %w", err)
	}
	defer func() { _ = f.Close() }()
	for ctx.Err() == nil {
		l, err := bindFree(f, readOnly)
		// Somebody else took the free number between our asking and binding.
		if errors.Is(err, unix.EBUSY) {
			continue
		}
		return l, err
	}
	return Loop{}, fmt.Errorf("attach %s: %w", image, ctx.Err())
}

// keepLoop takes away a pending detach: a loop whose detach met an open file
// goes at the last close, which must not happen to a volume in use.
func keepLoop(l Loop) error {
	if l.flags&unix.LO_FLAGS_AUTOCLEAR == 0 {
		return nil
	}
	f, err := openLoop(l.Number, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("keep %s: %w", l.Path(), err)
	}
	defer func() { _ = f.Close() }()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return fmt.Errorf("keep %s: %w", l.Path(), err)
	}
	info.Flags &^= unix.LO_FLAGS_AUTOCLEAR
	if err := unix.IoctlLoopSetStatus64(int(f.Fd()), info); err != nil {
		return fmt.Errorf("keep %s: %w", l.Path(), err)
	}
	return nil
}

func bindFree(image *os.File, readOnly bool) (Loop, error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return Loop{}, fmt.Errorf("a free loop device (needs root and the loop driver): %w", err)
	}
	defer func() { _ = ctl.Close() }()
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return Loop{}, fmt.Errorf("a free loop device: %w", err)
	}
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	dev, err := openLoop(n, mode)
	if err != nil {
		return Loop{}, fmt.Errorf("open loop%d: %w", n, err)
	}
	defer func() { _ = dev.Close() }()
	// Left to itself, the kernel gives an image that shares blocks larger
	// sectors than one that does not, and a filesystem that was made on the one
	// does not mount on the other.
	cfg := unix.LoopConfig{Fd: uint32(image.Fd()), Size: sectorSize}
	copy(cfg.Info.File_name[:len(cfg.Info.File_name)-1], image.Name())
	if readOnly {
		cfg.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	// Direct I/O keeps one copy of the data in memory instead of two; where it
	// cannot be done with such sectors the loop is buffered.
	cfg.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	err = unix.IoctlLoopConfigure(int(dev.Fd()), &cfg)
	if errors.Is(err, unix.EINVAL) {
		cfg.Info.Flags &^= unix.LO_FLAGS_DIRECT_IO
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &cfg)
	}
	if err != nil {
		return Loop{}, fmt.Errorf("bind loop%d to %s: %w", n, image.Name(), err)
	}
	return Loop{Number: n, ReadOnly: readOnly, flags: cfg.Info.Flags}, nil
}

// DetachLoops unbinds every loop of an image and waits until the kernel has
// let go of it, for what still holds a loop would otherwise go unnoticed.
func DetachLoops(ctx context.Context, image string) error {
	loops, err := FindLoops(image)
	if err != nil {
		return err
	}
	for _, l := range loops {
		if err := clearLoop(l); err != nil {
			return fmt.Errorf("detach %s from %s: %w", l.Path(), image, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		loops, err := FindLoops(image)
		if err != nil || len(loops) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s still holds %s: end what uses the device and try again", loops[0].Path(), image)
		case <-tick.C:
		}
	}
}

func clearLoop(l Loop) error {
	f, err := openLoop(l.Number, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	_, err = unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD)
	if errors.Is(err, unix.ENXIO) {
		return nil
	}
	return err
}

// ResizeLoop makes a loop as large as its image is now.
func ResizeLoop(l Loop) error {
	f, err := openLoop(l.Number, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("resize loop: %w", err)
	}
	defer func() { _ = f.Close() }()
	if _, err := unix.IoctlRetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY); err != nil {
		return fmt.Errorf("resize %s: %w", l.Path(), err)
	}
	return nil
}

// SyncLoop writes what the kernel caches for a loop into its image, so that a
// copy of the image holds all that was written to the device before.
func SyncLoop(l Loop) error {
	f, err := openLoop(l.Number, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("sync loop: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", l.Path(), err)
	}
	return nil
}

// Claimed tells whether the kernel holds a loop for itself: it is mounted, in
// whichever mount namespace, or a member of something built on top of it.
func Claimed(l Loop) (bool, error) {
	f, err := openLoop(l.Number, os.O_RDONLY|unix.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("is %s claimed: %w", l.Path(), err)
	}
	return false, f.Close()
}

// Writes counts what was written to a loop since it was made.
type Writes struct{ IOs, Sectors, Discards, InFlight uint64 }

// LoopWrites reads the counters of a loop.
func LoopWrites(l Loop) (Writes, error) {
	b, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/stat", l.Number))
	if err != nil {
		return Writes{}, fmt.Errorf("counters of %s: %w", l.Path(), err)
	}
	fields := strings.Fields(string(b))
	// reads(4) writes(4: IOs merges sectors ticks) in-flight ticks queue discards(4) flushes(2)
	if len(fields) < 12 {
		return Writes{}, fmt.Errorf("counters of %s: %d fields, want 12 or more", l.Path(), len(fields))
	}
	var w Writes
	for i, v := range map[int]*uint64{4: &w.IOs, 6: &w.Sectors, 8: &w.InFlight, 11: &w.Discards} {
		if *v, err = strconv.ParseUint(fields[i], 10, 64); err != nil {
			return Writes{}, fmt.Errorf("counters of %s: %w", l.Path(), err)
		}
	}
	return w, nil
}

package node

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

// AttachLoop gives the image file a loop device, or finds the one it has, and returns the device
// open: the device goes by itself when the last of file and mounts is closed.
func AttachLoop(image string) (*os.File, error) {
	have, err := loopsOf(image)
	if err != nil {
		return nil, err
	}
	if len(have) > 0 {
		return os.OpenFile(loopPath(have[0]), os.O_RDWR, 0)
	}
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close() //nolint:errcheck // the loop device holds it
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop devices are not available: %w", err)
	}
	defer control.Close() //nolint:errcheck // only asked
	for range 20 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("no free loop device: %w", err)
		}
		dev, err := os.OpenFile(loopPath(n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{
			Fd:   uint32(backing.Fd()),
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR},
		})
		if err == nil {
			return dev, nil
		}
		_ = dev.Close()
		if !errors.Is(err, unix.EBUSY) { // EBUSY: somebody else took the number between the calls
			return nil, fmt.Errorf("attach %s to %s: %w", image, loopPath(n), err)
		}
	}
	return nil, fmt.Errorf("attach %s: loop devices are taken faster than they are found", image)
}

// DetachLoops detaches every loop device that stands on the image: volumes are loop devices on
// files inside of it, and raw volumes loop devices on those. They outlive the namespaces they were
// made in. Those still in use go when their user does.
func DetachLoops(ctx context.Context, image string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		stack, err := loopStack(image)
		if err != nil || len(stack) == 0 {
			return err
		}
		for i := len(stack) - 1; i >= 0; i-- {
			if err := detachLoop(stack[i]); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("loop devices %v still stand on %s: %w", stack, image, ctx.Err())
		case <-tick.C:
		}
	}
}

func detachLoop(n int) error {
	dev, err := os.OpenFile(loopPath(n), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dev.Close() //nolint:errcheck // nothing was written
	if _, err := unix.IoctlRetInt(int(dev.Fd()), unix.LOOP_CLR_FD); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", loopPath(n), err)
	}
	return nil
}

// loopStack lists the loop devices on the image, lowest first. The path of a backing file means
// nothing outside of the namespace it was opened in; the device it lies on does.
func loopStack(image string) ([]int, error) {
	stack, err := loopsOf(image)
	if err != nil || len(stack) == 0 {
		return nil, err
	}
	all, err := loops()
	if err != nil {
		return nil, err
	}
	in := map[int]bool{}
	for i := 0; i < len(stack); i++ {
		in[stack[i]] = true
		under := unix.Mkdev(7, uint32(stack[i]))
		for n, info := range all {
			if !in[n] && (info.Device == under || info.Rdevice == under) {
				in[n] = true
				stack = append(stack, n)
			}
		}
	}
	return stack, nil
}

func loopsOf(image string) ([]int, error) {
	var st unix.Stat_t
	if err := unix.Stat(image, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		return nil, fmt.Errorf("image %s: %w", image, err)
	}
	all, err := loops()
	if err != nil {
		return nil, err
	}
	var on []int
	for n, info := range all {
		if info.Inode == st.Ino && info.Device == st.Dev {
			on = append(on, n)
		}
	}
	return on, nil
}

// loops reads all loop devices in use.
func loops() (map[int]unix.LoopInfo64, error) {
	found, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	all := map[int]unix.LoopInfo64{}
	for _, dir := range found {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(dir)), "loop"))
		if err != nil {
			continue
		}
		dev, err := os.Open(loopPath(n))
		if err != nil {
			return nil, err
		}
		info, err := unix.IoctlLoopGetStatus64(int(dev.Fd()))
		_ = dev.Close()
		if errors.Is(err, unix.ENXIO) { // detached since
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("status of %s: %w", loopPath(n), err)
		}
		all[n] = *info
	}
	return all, nil
}

func loopPath(n int) string { return fmt.Sprintf("/dev/loop%d", n) }

package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	ioctlFreeze = 0xc0045877 // FIFREEZE
	ioctlThaw   = 0xc0045878 // FITHAW
)

// Frozen is a mounted filesystem that takes no writes until Thaw.
type Frozen struct {
	root *os.File
	loop Loop
}

// Freeze stops the filesystem on a loop, having written all of it to the
// image. The filesystem may be mounted in any mount namespace. It returns nil
// where the loop is not mounted. A process that dies here leaves the filesystem
// frozen: ThawStale is what the next one does first.
func Freeze(l Loop) (*Frozen, error) {
	root, err := openMounted(l)
	if err != nil || root == nil {
		return nil, err
	}
	if err := unix.IoctlSetInt(int(root.Fd()), ioctlFreeze, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("freeze the filesystem on %s: %w", l.Path(), err), root.Close())
	}
	return &Frozen{root: root, loop: l}, nil
}

// Thaw lets the filesystem go on.
func (f *Frozen) Thaw() error {
	err := unix.IoctlSetInt(int(f.root.Fd()), ioctlThaw, 0)
	if err != nil {
		err = fmt.Errorf("thaw the filesystem on %s: %w", f.loop.Path(), err)
	}
	return errors.Join(err, f.root.Close())
}

// ThawStale thaws the filesystem on a loop, left frozen by a process that died,
// and tells whether it was. The caller makes sure that nobody alive froze it.
func ThawStale(l Loop) (bool, error) {
	root, err := openMounted(l)
	if err != nil || root == nil {
		return false, err
	}
	err = unix.IoctlSetInt(int(root.Fd()), ioctlThaw, 0)
	// EINVAL: it is not frozen.
	if errors.Is(err, unix.EINVAL) {
		return false, root.Close()
	}
	if err != nil {
		err = fmt.Errorf("thaw the filesystem on %s: %w", l.Path(), err)
	}
	return err == nil, errors.Join(err, root.Close())
}

// openMounted opens the root of the filesystem that is mounted from a loop, or
// returns nil. The mount may be in a namespace that this process does not see,
// so it does not look for one: mounting the same device again gives the same
// filesystem, and a mount that is never attached to a path goes with its file.
func openMounted(l Loop) (*os.File, error) {
	claimed, err := Claimed(l)
	if err != nil || !claimed {
		return nil, err
	}
	fsType, err := ProbeType(l.Path())
	if err != nil {
		return nil, err
	}
	if fsType == "" {
		return nil, nil
	}
	mnt, err := detachedMount(l.Path(), fsType, false)
	if errors.Is(err, unix.EBUSY) {
		// It is mounted read-only: a second mount has to be so as well.
		mnt, err = detachedMount(l.Path(), fsType, true)
	}
	if err != nil {
		return nil, fmt.Errorf("reach the %s on %s: %w", fsType, l.Path(), err)
	}
	defer func() { _ = unix.Close(mnt) }()
	fd, err := unix.Openat(mnt, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the root of %s: %w", l.Path(), err)
	}
	return os.NewFile(uintptr(fd), l.Path()), nil
}

func detachedMount(device, fsType string, readOnly bool) (int, error) {
	fs, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigSetString(fs, "source", device); err != nil {
		return -1, fmt.Errorf("fsconfig source: %w", err)
	}
	if readOnly {
		if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
			return -1, fmt.Errorf("fsconfig ro: %w", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("fsconfig create: %w", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return mnt, nil
}

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaces are those that each node has of its own.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Able says what keeps this machine from running nodes. It tries what containers forbid.
func Able(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("nodes are made of namespaces, mounts and loop devices, which needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("nodes need loop devices (a container needs --privileged): %w", err)
	}
	dirs, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := unix.Access(dir, unix.W_OK); err != nil {
			return fmt.Errorf("nodes need control groups of their own, and %s cannot be written (a container needs --privileged): %w", dir, err)
		}
	}
	// True is what it runs, and in a mount namespace of its own it may mount.
	cmd := exec.CommandContext(ctx, "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("nodes need namespaces of their own (a container needs --privileged): %w", err)
	}
	return nil
}

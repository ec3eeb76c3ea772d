package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A node's control group is NAME under the root of every hierarchy: NAME/system holds the daemons,
// kubelet makes the pods' beside it.
const cgroupRoot = "/sys/fs/cgroup"

// cgroupHierarchies lists the mounted hierarchies: one on a machine with cgroup v2, one for each
// controller with v1 (and the v2 tree of a hybrid machine).
func cgroupHierarchies() ([]string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		return nil, fmt.Errorf("control groups at %s: %w", cgroupRoot, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{cgroupRoot}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		dir := filepath.Join(cgroupRoot, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil && e.IsDir() {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("no control group hierarchy is mounted under %s", cgroupRoot)
	}
	return dirs, nil
}

// joinCgroup makes the node's control group everywhere and moves the process into its system part.
func joinCgroup(name string, pid int) error {
	dirs, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		system := filepath.Join(dir, name, "system")
		if err := os.MkdirAll(system, 0o755); err != nil {
			return err
		}
		if err := inherit(dir, name); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(system, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("move process %d to %s: %w", pid, system, err)
		}
	}
	return nil
}

// inherit gives the new groups what they do not take from their parent by themselves: the CPUs and
// memory nodes with v1 (without them no process may enter), the controllers with v2.
func inherit(dir, name string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(strings.TrimSpace(string(value))) == 0 {
			continue
		}
		if err != nil {
			return err
		}
		for _, group := range []string{name, name + "/system"} {
			if err := os.WriteFile(filepath.Join(dir, group, file), value, 0); err != nil {
				return fmt.Errorf("set %s of %s: %w", file, group, err)
			}
		}
	}
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil //nolint:nilerr // a v1 hierarchy has none
	}
	for _, group := range []string{"", name} {
		for _, c := range strings.Fields(string(controllers)) {
			file := filepath.Join(dir, group, "cgroup.subtree_control")
			if err := os.WriteFile(file, []byte("+"+c), 0); err != nil {
				return fmt.Errorf("enable controller %s in %s: %w", c, file, err)
			}
		}
	}
	return nil
}

// removeCgroup removes the node's control group with all below it. Its processes are dead, but the
// kernel may need a moment to let go of the last.
func removeCgroup(ctx context.Context, name string) error {
	dirs, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var last error
		for _, dir := range dirs {
			if err := removeTree(filepath.Join(dir, name)); err != nil {
				last = err
			}
		}
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("control group %s: %w", name, last)
		case <-tick.C:
		}
	}
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

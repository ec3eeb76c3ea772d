package disk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is a line of /proc/self/mountinfo.
type Mount struct {
	// Dev is the device number, major:minor.
	Dev string
	// Root is the folder or file of the filesystem that is mounted.
	Root string
	// Target is where it is mounted.
	Target string
	// FSType is the type of the filesystem.
	FSType string
	// ReadOnly tells that this mount, or its filesystem, refuses writes.
	ReadOnly bool
}

// Mounts lists the mounts that this process sees, oldest first.
func Mounts() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	var all []Mount
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, err := parseMount(lines.Text())
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return all, nil
}

func parseMount(line string) (Mount, error) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 6 || len(r) < 2 {
		return Mount{}, fmt.Errorf("mountinfo: cannot read the line %q", line)
	}
	readOnly := false
	for _, opts := range []string{l[5], r[len(r)-1]} {
		for o := range strings.SplitSeq(opts, ",") {
			readOnly = readOnly || o == "ro"
		}
	}
	return Mount{Dev: l[2], Root: unescape(l[3]), Target: unescape(l[4]), FSType: r[0], ReadOnly: readOnly}, nil
}

// unescape undoes the octal escapes that the kernel writes for blanks.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// MountAt returns the topmost mount at a path, and whether there is one.
func MountAt(path string) (Mount, bool, error) {
	// The kernel writes paths without symbolic links.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	all, err := Mounts()
	if err != nil {
		return Mount{}, false, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Target == path {
			return all[i], true, nil
		}
	}
	return Mount{}, false, nil
}

// Bind shows source at target; both are folders or both are files.
func Bind(source, target string, readOnly bool) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return errors.Join(fmt.Errorf("make %s read-only: %w", target, err), Unmount(target))
	}
	return nil
}

// Unmount takes away every mount at a path; there may be none.
func Unmount(path string) error {
	for {
		_, mounted, err := MountAt(path)
		if err != nil || !mounted {
			return err
		}
		if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

// Package debian brings Debian packages: onto this machine, where a sandbox needs their tools, and
// into images, with all that they depend on. It asks apt and dpkg and writes nothing to their
// databases for images.
package debian

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tool is a file that must be there and the package it comes from.
type tool struct {
	Package string
	Any     []string // a command's name, or a path; one of them is enough
}

// planeTools is all that a sandbox without containers needs: volumes are packed into filesystems.
func planeTools() []tool {
	return []tool{
		{"e2fsprogs", []string{"mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"}},
		{"e2fsprogs", []string{"debugfs", "/usr/sbin/debugfs", "/sbin/debugfs"}},
	}
}

// shell is what images have that bring none.
func shell() tool { return tool{"busybox-static", []string{"/bin/busybox"}} }

func tools() []tool {
	return []tool{
		{"containerd", []string{"containerd"}},
		{"containerd", []string{"ctr"}},
		{"runc", []string{"runc"}},
		{"containernetworking-plugins", []string{"/usr/lib/cni/bridge"}},
		{"nftables", []string{"nft"}},
		{"iptables", []string{"iptables"}},
		{"iproute2", []string{"ip"}},
		{"util-linux", []string{"nsenter"}},
		{"mount", []string{"mount"}},
		{"xfsprogs", []string{"mkfs.xfs"}},
		{"xfsprogs", []string{"xfs_growfs"}},
		{"e2fsprogs", []string{"mkfs.ext4"}},
		{"e2fsprogs", []string{"resize2fs"}},
		shell(),
		{"ca-certificates", []string{"/etc/ssl/certs/ca-certificates.crt"}},
	}
}

// EnsureTools installs what is missing on this machine and says which; without containers
// (planeOnly) little is needed.
func EnsureTools(ctx context.Context, planeOnly bool, progress io.Writer) error {
	if planeOnly {
		return ensure(ctx, planeTools(), progress)
	}
	return ensure(ctx, tools(), progress)
}

// EnsureBusybox installs the shell for images where it is missing: they are also made where
// no cluster ever was.
func EnsureBusybox(ctx context.Context, progress io.Writer) error {
	return ensure(ctx, []tool{shell()}, progress)
}

func ensure(ctx context.Context, needed []tool, progress io.Writer) error {
	missing := missingTools(needed)
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing on this machine: %s; this is no Debian, so install these (Debian's names) yourself", strings.Join(missing, " "))
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing on this machine: %s; run as root: apt-get install %[1]s", strings.Join(missing, " "))
	}
	fmt.Fprintf(progress, "installing Debian packages: %s\n", strings.Join(missing, " "))
	if err := install(ctx, missing); err != nil {
		return err
	}
	if still := missingTools(needed); len(still) > 0 {
		return fmt.Errorf("packages %s are installed but their programs are not found in PATH", strings.Join(still, " "))
	}
	return nil
}

func missingTools(needed []tool) []string {
	var missing []string
	for _, t := range needed {
		if !t.there() && (len(missing) == 0 || missing[len(missing)-1] != t.Package) {
			missing = append(missing, t.Package)
		}
	}
	return missing
}

func (t tool) there() bool {
	for _, f := range t.Any {
		if filepath.IsAbs(f) {
			if _, err := os.Stat(f); err == nil {
				return true
			}
		} else if _, err := exec.LookPath(f); err == nil {
			return true
		}
	}
	return false
}

// install tries with the lists that are there first: they may be fresh, and update takes long.
func install(ctx context.Context, packages []string) error {
	args := append([]string{"install", "-y", "-q", "--no-install-recommends"}, packages...)
	if listsThere() {
		if _, err := apt(ctx, args...); err == nil {
			return nil
		}
	}
	if _, err := apt(ctx, "update", "-q"); err != nil {
		return err
	}
	_, err := apt(ctx, args...)
	return err
}

func listsThere() bool {
	lists, err := filepath.Glob("/var/lib/apt/lists/*Packages*")
	return err == nil && len(lists) > 0
}

func apt(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

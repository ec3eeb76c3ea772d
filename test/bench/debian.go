package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// debian finds a program that Debian has a package of, of the program's name, and installs
// it where it is missing and this process may.
func debian(ctx context.Context, program string) (string, error) {
	binary, missing := exec.LookPath(program)
	if missing == nil {
		return binary, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", fmt.Errorf("%s is not installed (Debian's package %s), and only root installs it: %w", program, program, missing)
	}
	// The lists of packages may be missing, or name versions that are gone.
	for _, args := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", program}} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("install %s: apt-get %s: %w: %s", program, args[0], err, out)
		}
	}
	return exec.LookPath(program)
}

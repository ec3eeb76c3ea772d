package debian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Fetch downloads the packages and all that they depend on into dir, keeping what is there, and
// returns their files in the order of apt. Packages in without stay out: dependencies that the user
// knows to be of no use in an image.
func Fetch(ctx context.Context, dir string, packages, without []string, progress io.Writer) ([]string, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, errors.New("images from Debian packages need apt-get on this machine")
	}
	for _, sub := range []string{"partial", "none/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	if !listsThere() {
		if err := update(ctx); err != nil {
			return nil, err
		}
	}
	files, err := download(ctx, dir, packages, without, progress)
	if err != nil {
		// Package lists older than the mirror name versions that are gone from it.
		if updateErr := update(ctx); updateErr != nil {
			return nil, errors.Join(err, updateErr)
		}
		return download(ctx, dir, packages, without, progress)
	}
	return files, nil
}

func update(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("apt's package lists are missing or old: run apt-get update as root")
	}
	_, err := apt(ctx, "update", "-q")
	return err
}

func download(ctx context.Context, dir string, packages, without []string, progress io.Writer) ([]string, error) {
	files, err := closure(ctx, dir, packages)
	if err != nil {
		return nil, err
	}
	missing := 0
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			missing++
		}
	}
	if missing > 0 {
		fmt.Fprintf(progress, "downloading %d of %d Debian packages\n", missing, len(files))
		if _, err := apt(ctx, plan(dir, "--download-only", packages)...); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(files, func(f string) bool {
		name, _, _ := strings.Cut(filepath.Base(f), "_")
		return slices.Contains(without, name)
	}), nil
}

// plan is apt-get's command line for a machine on which nothing is installed, with its archive of
// packages in dir. It changes nothing on this machine.
func plan(dir, mode string, packages []string) []string {
	return append([]string{
		"-o", "Dir::State::status=" + os.DevNull, "-o", "Dir::Cache::archives=" + dir + "/",
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-o", "APT::Install-Recommends=0",
		"-q", "-y", mode, "install",
	}, packages...)
}

// closure lists the files that the packages come in. apt names only what it would download, so it
// is asked with an archive that is empty.
func closure(ctx context.Context, dir string, packages []string) ([]string, error) {
	out, err := apt(ctx, plan(filepath.Join(dir, "none"), "--print-uris", packages)...)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, line := range strings.Split(out, "\n") {
		if fields := strings.Fields(line); len(fields) >= 3 && strings.HasPrefix(line, "'") {
			files = append(files, filepath.Join(dir, fields[1]))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("apt names no files for %s", strings.Join(packages, " "))
	}
	return files, nil
}

// Contents calls use with the package's files as a tar stream.
func Contents(ctx context.Context, file string, use func(io.Reader) error) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	useErr := use(out)
	if useErr == nil {
		_, useErr = io.Copy(io.Discard, out) // the padding after the last entry
	}
	if useErr != nil {
		_ = cmd.Process.Kill()
	}
	if err := errors.Join(useErr, cmd.Wait()); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	return nil
}

package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Pack makes an image, of the size that it has, into an ext4 that holds a
// folder. It needs no root and mounts nothing.
func Pack(ctx context.Context, tree, image string) error {
	if err := Wipe(image); err != nil {
		return err
	}
	return run(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-d", tree, image)
}

// Unpack fills a new folder with what the ext4 in an image holds, without a
// mount. Hard links become files of their own and extended attributes are
// lost; owners are kept only by root.
func Unpack(ctx context.Context, image, tree string) error {
	if err := os.Mkdir(tree, 0o777); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	cmd := exec.CommandContext(ctx, "debugfs", "-R", fmt.Sprintf("rdump / %q", tree), image)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	err := cmd.Run()
	// It ends well whatever happened, so that only its complaints tell.
	for line := range strings.Lines(complaints.String()) {
		line = strings.TrimSpace(line)
		harmless := line == "" || strings.HasPrefix(line, "debugfs 1.") || strings.Contains(line, "while changing ownership")
		if !harmless {
			err = errors.Join(err, errors.New(line))
		}
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", image, err)
	}
	return os.Remove(tree + "/lost+found")
}

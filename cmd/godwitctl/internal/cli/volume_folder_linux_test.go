package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const inPart = " was written in part and is not to be used: restore it again with --force"

// newFolderImage is of a folder with one file, larger than what it is restored into here.
func newFolderImage(t *testing.T) (p program, id string, content []byte) {
	t.Helper()
	p = inFolder(t, buildProgram(t))
	dir := t.TempDir()
	content = make([]byte, 12<<20)
	fillNoise(content, 7)
	write(t, filepath.Join(dir, "file"), content)
	return p, string(p.backup(t, "--create", "--volume", "shop/files", dir).Image.ID), content
}

// TestVolumeFolderInterrupted ends the restore of a folder with Ctrl-C when it has removed
// something, and goes on with it.
func TestVolumeFolderInterrupted(t *testing.T) {
	t.Parallel()
	p, id, content := newFolderImage(t)
	target := t.TempDir()
	mine := filepath.Join(target, "mine")
	write(t, mine, []byte("mine"))
	cmd := p.command("restore", "--force", "--rate", "1MiB", "--image", id, target)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone(t, mine)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.HasSuffix(said.String(), target+inPart+"\ninterrupted\n") {
		t.Errorf("exit code %d\n%s", code, said.String())
	}
	p.run(t, "restore", "--force", "--image", id, target)
	same(t, filepath.Join(target, "file"), content)
}

// gone waits until a file is removed.
func gone(t *testing.T, file string) {
	t.Helper()
	tick, end := time.NewTicker(5*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for {
		if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Errorf("%s is not removed", file)
			return
		}
	}
}

// TestVolumeFolderCutShort has the restore of a folder fail when it has begun, and before.
func TestVolumeFolderCutShort(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a file system that is too small, and another in it")
	}
	p, id, _ := newFolderImage(t)
	target := t.TempDir()
	mountSmall(t, target)
	mine, within := filepath.Join(target, "mine"), filepath.Join(target, "within")
	write(t, mine, []byte("mine"))
	if err := os.Mkdir(within, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Run("before", func(t *testing.T) {
		mountSmall(t, within)
		restore := []string{"restore", "--force", "--image", id, target}
		p.refuse(t, within+" is a mount", restore...)
		if _, said, _ := p.try(restore...); strings.Contains(said, inPart) {
			t.Errorf("of what was not touched it says %s", said)
		}
		same(t, mine, []byte("mine"))
	})
	p.refuse(t, "no space left on device; "+target+inPart, "restore", "--force", "--image", id, target)
}

func mountSmall(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("godwit-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// TestVolumeFolderNewer compares a folder with an image that is older: nobody is to lose
// what is new by following what is said.
func TestVolumeFolderNewer(t *testing.T) {
	t.Parallel()
	p, id, content := newFolderImage(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), content)
	write(t, filepath.Join(dir, "new"), []byte("new"))
	p.refuse(t, "it is new: restore --force makes it as the image is, and removes what is new", "verify", "--image", id, dir)
}

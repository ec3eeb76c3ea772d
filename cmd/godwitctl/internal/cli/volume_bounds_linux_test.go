package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

const (
	boundContent = 12 << 20
	boundRate    = "3MiB"
	// boundSeconds is less than such a rate takes for it, since what is under way at the
	// end passes at once.
	boundSeconds = 2
)

// TestVolumeRate holds everything that moves a volume to --rate.
func TestVolumeRate(t *testing.T) {
	t.Parallel()
	p := inFolder(t, buildProgram(t))
	dir := t.TempDir()
	noise := make([]byte, boundContent)
	for i := range 3 {
		fillNoise(noise[i*boundContent/3:(i+1)*boundContent/3], byte(20+i))
		write(t, filepath.Join(dir, fmt.Sprint(i)), noise[i*boundContent/3:(i+1)*boundContent/3])
	}
	file, restored := filepath.Join(t.TempDir(), "disk.img"), filepath.Join(t.TempDir(), "restored")
	write(t, file, noise)
	blocks := p.backup(t, "--create", file).Image.ID
	bound := func(args ...string) volumeResult {
		t.Helper()
		result := decoded[volumeResult](t, p.run(t, append(args, "--json", "--rate", boundRate)...))
		if result.Seconds < boundSeconds {
			t.Errorf("%s at %s/s took %.1fs", args[0], boundRate, result.Seconds)
		}
		return result
	}
	bound("verify", "--image", string(blocks), file)
	// What the repository holds already would not be moved.
	if err := os.RemoveAll(filepath.Join(p.repo[len("file://"):])); err != nil {
		t.Fatal(err)
	}
	tree := string(bound("backup", "--create", "--volume", "shop/files", dir).Image.ID)
	bound("restore", "--image", tree, restored)
	bound("verify", "--image", tree, restored)
	bound("verify", "--sample", "100", "--image", tree, restored)
}

// TestVolumeMemoryOfFolder sees that a folder takes no more than --memory.
func TestVolumeMemoryOfFolder(t *testing.T) {
	t.Parallel()
	p := inFolder(t, buildProgram(t))
	dir := t.TempDir()
	// A folder that is listed takes a KiB for each, and half of the memory is for it.
	for i := range 17 << 10 {
		if err := os.Symlink("nowhere", filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	p.refuse(t, "17409 entries", "backup", "--create", "--memory", "32MiB", "--volume", "shop/files", dir)
	p.run(t, "backup", "--create", "--memory", "64MiB", "--volume", "shop/files", dir)
}

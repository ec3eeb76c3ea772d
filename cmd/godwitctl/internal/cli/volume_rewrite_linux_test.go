package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVolumeRewrite mends a repository of which chunks were lost, as the error says.
func TestVolumeRewrite(t *testing.T) {
	p := inFolder(t, buildProgram(t))
	source, into := filepath.Join(t.TempDir(), "disk.img"), filepath.Join(t.TempDir(), "back.img")
	content := make([]byte, 6<<20)
	fillNoise(content, 3)
	write(t, source, content)
	first := p.backup(t, "--create", source)
	root := strings.TrimPrefix(p.repo, "file://")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); err == nil && !d.IsDir() && strings.HasPrefix(rel, "p") {
			return os.Remove(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.refuse(t, "volume backup --rewrite", "restore", "--image", string(first.Image.ID), into)
	p.refuse(t, "--rewrite stores everything again", "backup", "--rewrite", "--parent", string(first.Image.ID), source)
	p.refuse(t, "--rewrite is for devices and files", "backup", "--rewrite", t.TempDir())
	again := p.backup(t, "--rewrite", source)
	// What was stored within the second in which it begins counts as new, and is left.
	for deadline := time.Now().Add(time.Minute); again.Stats.Uploaded < int64(len(content)) && time.Now().Before(deadline); {
		again = p.backup(t, "--rewrite", source)
	}
	if again.Stats.Uploaded < int64(len(content)) {
		t.Errorf("%d bytes were stored again", again.Stats.Uploaded)
	}
	p.run(t, "restore", "--force", "--image", string(first.Image.ID), into)
	same(t, into, content)
}

package snapshottest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tool is a program from a Go module that is none of ours.
type tool struct {
	// variable names an environment variable that holds the path of a binary.
	variable        string
	name, pkg, vers string
	// modFile, where it exists, is a go.mod under the repository that pins it.
	modFile string
}

// binary finds the tool, or builds it once into the user's cache.
func (b tool) binary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(b.variable); path != "" {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "godwit", b.name+"-"+b.vers)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	built := filepath.Join(filepath.Dir(path), filepath.Base(dir)+"-"+b.name)
	pinned := b.pinned(t)
	if pinned == "" {
		b.run(t, dir, "mod", "init", "tool")
		b.run(t, dir, "get", b.pkg+"@"+b.vers)
		pinned = filepath.Join(dir, "go.mod")
	}
	b.run(t, filepath.Dir(pinned), "build", "-modfile="+pinned, "-o", built, b.pkg)
	// Others may build it too: the last rename wins, with the same program.
	if err := os.Rename(built, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// pinned looks for the module file upwards from the package under test.
func (b tool) pinned(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for b.modFile != "" && dir != filepath.Dir(dir) {
		file := filepath.Join(dir, b.modFile)
		if _, err := os.Stat(file); err == nil {
			return file
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

func (b tool) run(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false -trimpath", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s (or set %s to a binary): go %v: %v\n%s", b.name, b.variable, args, err, out)
	}
}

// Kopia is the path of stock kopia.
func Kopia(t *testing.T) string {
	t.Helper()
	return tool{
		variable: "GODWIT_KOPIA", name: "kopia", pkg: "github.com/kopia/kopia", vers: "v0.22.3",
		modFile: filepath.Join(".tools", "kopia", "go.mod"),
	}.binary(t)
}

// Package program builds the programs that a sandbox runs, from Go modules, into a cache that every
// clone of the repository shares.
//
// A set is one Go module and the programs built from it. A set's key is a hash of its sources, its
// checksums, the build's flags and the Go version: the same key is the same programs, and a key's
// folder appears in the cache whole or not at all. Nothing is ever removed from the cache here.
package program

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
)

// KubernetesVersion is what nodes and API servers say they are; it must be the version in
// programs/kube/go.mod.
const KubernetesVersion = "v1.36.3"

// Set is a Go module and what is built from it.
type Set struct {
	Name     string
	Dir      string // the module, relative to the sandbox's sources
	Packages []string
	LDFlags  string
	Whole    bool // sources lie in subfolders as well
}

// Sets are all that a sandbox needs; the driver comes from its sibling folder.
func Sets() []Set {
	const sidecars = "github.com/kubernetes-csi/"
	return []Set{
		{Name: "kube", Dir: "programs/kube", Packages: []string{"."}, LDFlags: kubernetesFlags()},
		{Name: "csi", Dir: "programs/csi", Packages: []string{
			sidecars + "external-provisioner/v5/cmd/csi-provisioner",
			sidecars + "external-attacher/v4/cmd/csi-attacher",
			sidecars + "external-resizer/v2/cmd/csi-resizer",
			sidecars + "external-snapshotter/v8/cmd/csi-snapshotter",
			sidecars + "external-snapshotter/v8/cmd/snapshot-controller",
			sidecars + "external-snapshot-metadata/cmd/csi-snapshot-metadata",
		}},
		{Name: "coredns", Dir: "programs/coredns", Packages: []string{"."}},
		{Name: "versitygw", Dir: "programs/versitygw", Packages: []string{"github.com/versity/versitygw/cmd/versitygw"}},
		{Name: "pause", Dir: "programs/pause", Packages: []string{"."}},
		{Name: "csidriver", Dir: "../csidriver", Packages: []string{"."}, Whole: true},
	}
}

// kubernetesFlags stamp the version: without them nodes say v0.0.0-master, and clients refuse.
func kubernetesFlags() string {
	number := strings.Split(strings.TrimPrefix(KubernetesVersion, "v"), ".")
	var b strings.Builder
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(&b, " -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitCommit=module -X %[1]s.gitTreeState=clean -X %[1]s.buildDate=2026-01-01T00:00:00Z",
			pkg, KubernetesVersion, number[0], number[1])
	}
	return b.String()
}

// key names what the set builds to.
func (s Set) key(source string) (string, error) {
	files, err := s.sources(source)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, s.Packages, s.LDFlags)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		rel, err := filepath.Rel(source, f)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, rel, len(b))
		h.Write(b)
	}
	return s.Name + "-" + hex.EncodeToString(h.Sum(nil))[:16], nil
}

// ownCode reports whether the module's own files are compiled; those that only name programs of
// other modules are not, and a word changed in them must not rebuild anything.
func (s Set) ownCode() bool { return len(s.Packages) == 1 && s.Packages[0] == "." }

func (s Set) sources(source string) ([]string, error) {
	root := filepath.Join(source, s.Dir)
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil && s.Dir != "programs/pause" {
		return nil, fmt.Errorf("sources of %s: %w", s.Name, err)
	}
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir() && path != root && (!s.Whole || strings.HasPrefix(name, ".") || name == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || strings.HasSuffix(name, "_test.go"):
		case s.ownCode() && strings.HasSuffix(name, ".go") || name == "go.mod" || name == "go.sum":
			files = append(files, path)
		}
		return nil
	})
	sort.Strings(files)
	return files, err
}

// FindSource returns the folder of the sandbox's sources: the one given, or the first found from
// the working folder and the program's own place upwards.
func FindSource(given string) (string, error) {
	starts := []string{given}
	if given == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		wd, err := os.Getwd()
		if err != nil {
			return "", err
		}
		starts = []string{wd, filepath.Dir(self)}
		if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
			starts = append(starts, filepath.Dir(file))
		}
	}
	for _, start := range starts {
		for dir := filepath.Clean(start); ; dir = filepath.Dir(dir) {
			for _, sub := range []string{"", "test/sandbox"} {
				if _, err := os.Stat(filepath.Join(dir, sub, "programs/kube/go.mod")); err == nil {
					return filepath.Abs(filepath.Join(dir, sub))
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.New("the sandbox's sources are not found: run inside a clone of the repository, or name its test/sandbox with --source")
}

// CacheDir is where built programs are kept.
func CacheDir() (string, error) {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "godwit", "sandbox"), nil
	}
	if os.Geteuid() == 0 {
		return "/var/cache/godwit/sandbox", nil
	}
	return "", errors.New("no cache folder: set HOME or XDG_CACHE_HOME")
}

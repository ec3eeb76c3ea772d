package scenario

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// spoils are the lines of the faults file of each cluster's block storage, by
// whose volumes they spoil: stories run side by side.
type spoils struct {
	mu    sync.Mutex
	lines map[string]map[string][]string
}

// Spoil has the cluster's block storage misbehave as the lines say, which are
// those of test/csidriver's faults, for the volumes of claims in namespaces that
// match the pattern. None of them puts it right again.
func (g *Ground) Spoil(ctx context.Context, c Cluster, namespaces string, lines ...string) error {
	if g.sandbox == nil {
		return errors.New("the storage of existing clusters is not ours to spoil")
	}
	g.spoils.mu.Lock()
	defer g.spoils.mu.Unlock()
	if g.spoils.lines == nil {
		g.spoils.lines = map[string]map[string][]string{}
	}
	if g.spoils.lines[c.Name] == nil {
		g.spoils.lines[c.Name] = map[string][]string{}
	}
	of := g.spoils.lines[c.Name]
	of[namespaces] = nil
	for _, line := range lines {
		of[namespaces] = append(of[namespaces], line+" of="+namespaces)
	}
	var all []string
	for _, namespaces := range slices.Sorted(maps.Keys(of)) {
		all = append(all, of[namespaces]...)
	}
	// The folder is mounted in the cluster's nodes alone. The driver reads the file
	// at each call, and must not see half of it.
	file := filepath.Join(filepath.Dir(c.Kubeconfig), "csi", "block", "faults")
	_, err := g.sandbox.run(ctx, "shell", c.Name, "--", "sh", "-c", `printf %s "$1" > "$0.new" && mv "$0.new" "$0"`, file, strings.Join(all, "\n"))
	return err
}

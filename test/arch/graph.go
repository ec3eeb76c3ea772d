package arch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// Package is one package of the import graph.
type Package struct {
	// ImportPath is the full path, as in an import statement.
	ImportPath string
	// Standard is true for the standard library.
	Standard bool
	// Imports are those of the non-test files.
	Imports []string
}

// Graph is a module's packages and all that they lead to.
type Graph struct {
	// Module is the path of the module that is judged.
	Module string
	// Packages has an entry for every package, by import path.
	Packages map[string]Package
}

// Load asks the go command for the graph of the module at root.
func Load(ctx context.Context, root string) (Graph, error) {
	module, err := goList(ctx, root, "-m", "-f", "{{.Path}}")
	if err != nil {
		return Graph{}, err
	}
	out, err := goList(ctx, root, "-deps", "-json=ImportPath,Standard,Imports", "./...")
	if err != nil {
		return Graph{}, err
	}
	g := Graph{Module: strings.TrimSpace(string(module)), Packages: map[string]Package{}}
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p Package
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return g, nil
		} else if err != nil {
			return Graph{}, fmt.Errorf("read the output of go list: %w", err)
		}
		g.Packages[p.ImportPath] = p
	}
}

func goList(ctx context.Context, root string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}

// ours returns the path of p within the module, "." for its root, and whether p
// belongs to it at all.
func (g Graph) ours(importPath string) (string, bool) {
	if importPath == g.Module {
		return ".", true
	}
	return strings.CutPrefix(importPath, g.Module+"/")
}

// own returns the module's packages, sorted.
func (g Graph) own() []Package {
	var own []Package
	for path, p := range g.Packages {
		if _, ok := g.ours(path); ok {
			own = append(own, p)
		}
	}
	slices.SortFunc(own, func(a, b Package) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return own
}

// chain returns the shortest way from one package to any that matches, both
// ends included, or nil. A matching start does not count.
func (g Graph) chain(from string, match func(string) bool) []string {
	came := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range g.Packages[queue[0]].Imports {
			if _, seen := came[next]; seen {
				continue
			}
			came[next] = queue[0]
			if match(next) {
				return walkBack(came, next)
			}
			queue = append(queue, next)
		}
	}
	return nil
}

func walkBack(came map[string]string, end string) []string {
	var way []string
	for at := end; at != ""; at = came[at] {
		way = append(way, at)
	}
	slices.Reverse(way)
	return way
}

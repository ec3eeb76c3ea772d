// Portable sees that a program can be built for another system: it checks the types of
// all that the program is made of, from source, as that system's compiler would. Nothing
// is compiled, which for all dependencies takes minutes.
//
//	portable GOOS PACKAGE
//
// It does not link, and looks into functions only of the module's own packages.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// listed is what go list tells of a package.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string
	Module          *struct{ Main bool }
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: portable GOOS PACKAGE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "%s does not build for %s: %v\n", os.Args[2], os.Args[1], err)
		os.Exit(1)
	}
}

func run(system, program string) error {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,ImportMap,Module", program) //nolint:noctx // it ends by itself
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	c := checker{files: token.NewFileSet(), done: map[string]*types.Package{"unsafe": types.Unsafe}}
	// What a package imports comes before it.
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the output of go list: %w", err)
		}
		if p.ImportPath == "unsafe" {
			continue
		}
		if err := c.check(p); err != nil {
			return err
		}
	}
}

// checker has the packages that were checked.
type checker struct {
	files *token.FileSet
	done  map[string]*types.Package
}

func (c *checker) check(p listed) error {
	var parsed []*ast.File
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(c.files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		parsed = append(parsed, file)
	}
	var problems error
	config := types.Config{
		Importer:         importer{c, p.ImportMap},
		Sizes:            types.SizesFor("gc", runtime.GOARCH),
		IgnoreFuncBodies: p.Module == nil || !p.Module.Main,
		Error:            func(err error) { problems = errors.Join(problems, err) },
	}
	checked, err := config.Check(p.ImportPath, c.files, parsed, nil)
	c.done[p.ImportPath] = checked
	return errors.Join(problems, err)
}

// importer knows packages by the names that one of them has for the others.
type importer struct {
	*checker
	names map[string]string
}

// Import is types.Importer's.
func (i importer) Import(name string) (*types.Package, error) {
	if other, ok := i.names[name]; ok {
		name = other
	}
	if p, ok := i.done[name]; ok {
		return p, nil
	}
	return nil, fmt.Errorf("go list did not tell of %s", name)
}

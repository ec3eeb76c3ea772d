package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// topLevel is all that the top level may hold, beside dot-files and what the
// build makes.
func topLevel() []string {
	return []string{
		"cmd", "daemon", "pairing", "snapshot", "proto", "deploy", "test", "docs",
		"Makefile", "go.mod", "go.sum", "README.md", "LICENSE", "CHANGELOG.md",
	}
}

// buildOutput is made by the Makefile, and ignored by git.
func buildOutput() []string { return []string{"bin", "_output"} }

// shapeless names say nothing of what a package owns.
func shapeless() []string {
	return []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base"}
}

// CheckTopLevel finds entries that the plan of the house does not name.
func CheckTopLevel(entries []string) []Breach {
	var breaches []Breach
	for _, name := range entries {
		if strings.HasPrefix(name, ".") || slices.Contains(topLevel(), name) || slices.Contains(buildOutput(), name) {
			continue
		}
		breaches = append(breaches, Breach{name, "stands at the top level",
			"the top level is fixed, so that a newcomer finds everything; put it into " + strings.Join(topLevel()[:8], ", ")})
	}
	return breaches
}

// Folder is one folder with Go files, as parsed.
type Folder struct {
	// Path is relative to the repository's top.
	Path string
	// Files by name, with comments and imports, and bodies.
	Files map[string]*ast.File
}

// ReadTree parses every Go file below root, those of other modules too, but not
// what lies in dot-folders, testdata and build output.
func ReadTree(root string) ([]Folder, *token.FileSet, error) {
	fset := token.NewFileSet()
	byPath := map[string]*Folder{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			// Others may be working in the tree: what is gone has no shape.
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return fmt.Errorf("place %s below %s: %w", path, root, err)
		}
		if entry.IsDir() {
			return skip(relative, entry.Name())
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", relative, err)
		}
		dir := filepath.ToSlash(filepath.Dir(relative))
		if byPath[dir] == nil {
			byPath[dir] = &Folder{Path: dir, Files: map[string]*ast.File{}}
		}
		byPath[dir].Files[entry.Name()] = file
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var folders []Folder
	for _, f := range byPath {
		folders = append(folders, *f)
	}
	slices.SortFunc(folders, func(a, b Folder) int { return strings.Compare(a.Path, b.Path) })
	return folders, fset, nil
}

func skip(relative, name string) error {
	if relative == "." {
		return nil
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || slices.Contains(buildOutput(), relative) {
		return filepath.SkipDir
	}
	return nil
}

// CheckFolder finds what a package's sources alone can tell.
func CheckFolder(f Folder) []Breach {
	var breaches []Breach
	if !documented(f) {
		breaches = append(breaches, Breach{f.Path, "has no package comment",
			"a package says first what it owns, its words, and what it never does"})
	}
	for name, file := range f.Files {
		if slices.Contains(shapeless(), strings.TrimSuffix(file.Name.Name, "_test")) {
			breaches = append(breaches, Breach{f.Path, "is named " + file.Name.Name + " in " + name,
				"a package is named after what it owns"})
		}
		if under(f.Path, "proto") && !ast.IsGenerated(file) {
			breaches = append(breaches, Breach{f.Path, "holds the hand-written " + name,
				"generated types carry no methods of ours; wire and domain meet in the adapters"})
		}
	}
	return breaches
}

// documented says whether some file's package comment says something. Where
// there are files beside the tests, it must be one of them.
func documented(f Folder) bool {
	onlyTests := true
	for name := range f.Files {
		onlyTests = onlyTests && strings.HasSuffix(name, "_test.go")
	}
	for name, file := range f.Files {
		if ast.IsGenerated(file) {
			return true
		}
		if onlyTests || !strings.HasSuffix(name, "_test.go") {
			if len(strings.Fields(file.Doc.Text())) >= 4 {
				return true
			}
		}
	}
	return false
}

// CheckClock finds calls that ask for the time in packages that are given it.
func CheckClock(f Folder, fset *token.FileSet) []Breach {
	var breaches []Breach
	for name, file := range f.Files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			owner, ok := selector.X.(*ast.Ident)
			asksTime := slices.Contains([]string{"Now", "Since", "Until", "After", "NewTimer", "NewTicker"}, selector.Sel.Name)
			if ok && owner.Name == "time" && asksTime {
				breaches = append(breaches, Breach{f.Path,
					fmt.Sprintf("asks time.%s at %s:%d", selector.Sel.Name, name, fset.Position(n.Pos()).Line), pureDecision})
			}
			return true
		})
	}
	return breaches
}

// CheckStrangers finds imports of the product in modules that must stand apart
// from it: product is the product's module path, own the module's.
func CheckStrangers(f Folder, product, own string) []Breach {
	var breaches []Breach
	for name, file := range f.Files {
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err == nil && under(path, product) && !under(path, own) {
				breaches = append(breaches, Breach{f.Path, "imports " + path + " in " + name,
					"a driver that shared code with the product would share its mistakes"})
			}
		}
	}
	return breaches
}

// CheckDoubles finds imports of test doubles outside tests.
func CheckDoubles(g Graph, doubles []string) []Breach {
	var breaches []Breach
	for _, p := range g.own() {
		path, _ := g.ours(p.ImportPath)
		for _, imported := range p.Imports {
			within, ok := g.ours(imported)
			if ok && slices.Contains(doubles, within) && !slices.Contains(doubles, path) {
				breaches = append(breaches, Breach{path, "imports " + within,
					"doubles are for _test.go files; a product that links one can lose data in memory"})
			}
		}
	}
	return breaches
}

// entries lists the names at the top level.
func entries(root string) ([]string, error) {
	list, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", root, err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, nil
}

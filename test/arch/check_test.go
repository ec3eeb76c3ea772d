package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

const fakeModule = "example.org/house"

// fakeGraph makes a graph of "importer: imported imported" lines. Names that
// begin with a slash are of the module; names without a dot are the standard
// library's.
func fakeGraph(lines ...string) Graph {
	full := func(name string) string {
		if strings.HasPrefix(name, "/") {
			return fakeModule + name
		}
		return name
	}
	g := Graph{Module: fakeModule, Packages: map[string]Package{}}
	add := func(path string) {
		if _, ok := g.Packages[path]; !ok {
			first, _, _ := strings.Cut(path, "/")
			g.Packages[path] = Package{ImportPath: path, Standard: !strings.Contains(first, ".")}
		}
	}
	for _, line := range lines {
		importer, imported, _ := strings.Cut(line, ":")
		path := full(importer)
		add(path)
		p := g.Packages[path]
		for _, name := range strings.Fields(imported) {
			add(full(name))
			p.Imports = append(p.Imports, full(name))
		}
		g.Packages[path] = p
	}
	return g
}

func TestCheck(t *testing.T) {
	cases := []struct {
		name  string
		graph Graph
		want  []string // each in a breach of its own
	}{
		{"what the table allows", fakeGraph(
			"/snapshot: fmt golang.org/x/sync/errgroup", "/snapshot/blockdev: /snapshot golang.org/x/sys/unix",
			"/snapshot/kopiastore: /snapshot github.com/kopia/kopia/repo", "github.com/kopia/kopia/repo: google.golang.org/grpc",
			"/daemon/controller: /daemon/migrate /snapshot/csi sigs.k8s.io/controller-runtime", "/daemon/migrate: /snapshot",
			"/snapshot/csi: k8s.io/client-go", "/pairing/rpc: /pairing /proto/godwit/v1", "/proto/godwit/v1: google.golang.org/grpc",
			"/cmd/godwitd: /snapshot/kopiastore /daemon/controller",
		), nil},
		{"a package without a row", fakeGraph("/attic: fmt"), []string{"attic: has no row"}},
		{"a child has its parent's row", fakeGraph("/daemon/migrate/plan: /daemon/migrate k8s.io/api"),
			[]string{"daemon/migrate/plan: imports k8s.io/api", "daemon/migrate/plan: reaches k8s.io/api"}},
		{"an import outwards", fakeGraph("/snapshot: /daemon/migrate", "/daemon/migrate: fmt"), []string{"snapshot: imports daemon/migrate"}},
		{"a row is not its children's", fakeGraph("/pairing/rpc: /pairing/secretstore", "/pairing/secretstore: /pairing"),
			[]string{"pairing/rpc: imports pairing/secretstore"}},
		{"a library from outside", fakeGraph("/pairing: github.com/golang-jwt/jwt/v5"), []string{"pairing: imports github.com/golang-jwt/jwt/v5"}},
		{"a prefix is a path, not letters", fakeGraph("/snapshot/csi: k8s.iota.example/x"), []string{"snapshot/csi: imports k8s.iota.example/x"}},
		{"a ban through others", fakeGraph(
			"/daemon/controller: /snapshot/csi", "/snapshot/csi: k8s.io/a", "k8s.io/a: k8s.io/b", "k8s.io/b: google.golang.org/grpc/codes",
		), []string{"daemon/controller: reaches google.golang.org/grpc/codes by example.org/house/daemon/controller → example.org/house/snapshot/csi → k8s.io/a → k8s.io/b → google.golang.org/grpc/codes"}},
		{"kopia outside its package", fakeGraph("/cmd/godwitctl: github.com/kopia/kopia/repo"), []string{"cmd/godwitctl: imports github.com/kopia/kopia/repo"}},
		{"I/O in a decision", fakeGraph("/daemon/migrate: os"), []string{"daemon/migrate: imports os"}},
		{"devices in the controller", fakeGraph("/daemon/controller: golang.org/x/sys/unix"),
			[]string{"daemon/controller: imports golang.org/x/sys/unix", "daemon/controller: imports golang.org/x/sys/unix"}},
		{"workload on the privileged node", fakeGraph("/daemon/node: /snapshot github.com/x/y", "github.com/x/y: /daemon/workload", "/daemon/workload: fmt"),
			[]string{"daemon/node: reaches example.org/house/daemon/workload"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { compare(t, Check(c.graph, Table()), c.want) })
	}
}

// TestTable finds rows that nothing can match, and narrow rows without a reason.
func TestTable(t *testing.T) {
	named := map[string]bool{}
	for _, row := range Table() {
		if named[row.Package] {
			t.Errorf("%s has two rows", row.Package)
		}
		named[row.Package] = true
		if row.Why == "" && (!row.AnyOurs || !row.AnyOutside) {
			t.Errorf("%s has no reason", row.Package)
		}
		for _, ban := range row.Never {
			if ban.Why == "" || (ban.Family.Name == "" && ban.Ours == "") {
				t.Errorf("%s has a ban that forbids nothing or gives no reason: %+v", row.Package, ban)
			}
		}
	}
	for _, row := range Table() {
		for _, used := range row.Uses {
			if !named[used] {
				t.Errorf("%s uses %s, which has no row", row.Package, used)
			}
		}
	}
}

// compare wants as many breaches as there are texts, each text in one of them,
// and a reason in every one.
func compare(t *testing.T, got []Breach, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d breaches %v, want %d", len(got), got, len(want))
	}
	for _, text := range want {
		if !slices.ContainsFunc(got, func(b Breach) bool { return strings.Contains(b.String(), text) }) {
			t.Errorf("no breach says %q: %v", text, got)
		}
	}
	for _, b := range got {
		if b.Why == "" {
			t.Errorf("breach without a reason: %v", b)
		}
	}
}

func TestCheckDoubles(t *testing.T) {
	g := fakeGraph("/daemon/node: /snapshot/snapshottest", "/snapshot/snapshottest: /snapshot")
	compare(t, CheckDoubles(g, TestDoubles()), []string{"daemon/node: imports snapshot/snapshottest"})
}

func TestCheckTopLevel(t *testing.T) {
	compare(t, CheckTopLevel([]string{".ci", "cmd", "bin", "go.sum", "hack"}), []string{"hack: stands at the top level"})
}

func folder(t *testing.T, path string, sources map[string]string) (Folder, *token.FileSet) {
	t.Helper()
	fset := token.NewFileSet()
	f := Folder{Path: path, Files: map[string]*ast.File{}}
	for name, source := range sources {
		file, err := parser.ParseFile(fset, name, source, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		f.Files[name] = file
	}
	return f, fset
}

func TestCheckFolder(t *testing.T) {
	cases := []struct {
		name, path string
		sources    map[string]string
		want       []string
	}{
		{"documented", "snapshot", map[string]string{"a.go": "// Package snapshot owns the words.\npackage snapshot", "b.go": "package snapshot"}, nil},
		{"no comment", "snapshot", map[string]string{"a.go": "package snapshot"}, []string{"has no package comment"}},
		{"a license is no comment", "snapshot", map[string]string{"a.go": "// Some license text that is long.\n\npackage snapshot"}, []string{"has no package comment"}},
		{"a comment in the tests only", "snapshot", map[string]string{"a.go": "package snapshot", "a_test.go": "// Package snapshot owns the words.\npackage snapshot"}, []string{"has no package comment"}},
		{"tests only", "test/e2e", map[string]string{"a_test.go": "// Package e2e moves a whole application.\npackage e2e"}, nil},
		{"shapeless name", "daemon/util", map[string]string{"a.go": "// Package util owns nothing at all.\npackage util"}, []string{"is named util"}},
		{"generated", "proto/godwit/v1", map[string]string{"a.pb.go": "// Code generated by protoc-gen-go. DO NOT EDIT.\n\npackage godwitv1"}, nil},
		{"hand-written in proto", "proto/godwit/v1", map[string]string{"a.go": "// Package godwitv1 has methods.\npackage godwitv1"}, []string{"holds the hand-written a.go"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, _ := folder(t, c.path, c.sources)
			compare(t, CheckFolder(f), c.want)
		})
	}
}

func TestCheckClock(t *testing.T) {
	f, fset := folder(t, "daemon/migrate", map[string]string{
		"a.go":      "package migrate\n\nimport \"time\"\n\nvar d = time.Second\n\nfunc f() { _ = time.Now() }",
		"a_test.go": "package migrate\n\nimport \"time\"\n\nfunc g() { _ = time.Now() }",
	})
	compare(t, CheckClock(f, fset), []string{"asks time.Now at a.go:7"})
}

func TestCheckStrangers(t *testing.T) {
	f, _ := folder(t, "test/csidriver", map[string]string{
		"a.go": "package main\n\nimport (\n\t_ \"example.org/house/test/csidriver/disk\"\n\t_ \"example.org/house/snapshot\"\n)",
	})
	compare(t, CheckStrangers(f, fakeModule, fakeModule+"/test/csidriver"), []string{"imports example.org/house/snapshot in a.go"})
}

package arch

import (
	"path/filepath"
	"testing"
)

// root is the top of the repository, seen from this package.
func root(t *testing.T) string {
	t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func report(t *testing.T, breaches []Breach) {
	t.Helper()
	for _, b := range breaches {
		t.Error(b)
	}
}

func TestImports(t *testing.T) {
	g, err := Load(t.Context(), root(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.own()) == 0 {
		t.Fatal("go list named no package of the module")
	}
	report(t, Check(g, Table()))
	report(t, CheckDoubles(g, TestDoubles()))
}

func TestTopLevel(t *testing.T) {
	names, err := entries(root(t))
	if err != nil {
		t.Fatal(err)
	}
	report(t, CheckTopLevel(names))
}

func TestSources(t *testing.T) {
	const product = "github.com/godwit-io/godwit"
	folders, fset, err := ReadTree(root(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) == 0 {
		t.Fatal("found no Go file")
	}
	for _, f := range folders {
		report(t, CheckFolder(f))
		if under(f.Path, "daemon/migrate") || under(f.Path, "daemon/schedule") {
			report(t, CheckClock(f, fset))
		}
		if under(f.Path, "test/csidriver") {
			report(t, CheckStrangers(f, product, product+"/test/csidriver"))
		}
	}
}

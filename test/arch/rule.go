package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Family is a named set of packages from outside, by import path prefix.
type Family struct {
	Name     string
	Prefixes []string
}

// Has says whether the family holds the package.
func (f Family) Has(importPath string) bool {
	return slices.ContainsFunc(f.Prefixes, func(prefix string) bool { return under(importPath, prefix) })
}

// Ban forbids packages to a row.
type Ban struct {
	// Family is forbidden, if it has a name.
	Family Family
	// Ours is a package of the module, with all below it, that is forbidden.
	Ours string
	// Direct limits the ban to import statements in the row's own files.
	// Without it the ban holds through any number of other packages.
	Direct bool
	// Why is printed with every breach.
	Why string
}

// Row is what the plan says about one package.
type Row struct {
	// Package is a path within the module; the row holds for what is below it
	// too, unless that has its own row.
	Package string
	// Uses names the rows whose packages may be imported. A package may always
	// import what is in its own row. Nil allows no other; AnyOurs lifts the limit.
	Uses    []string
	AnyOurs bool
	// Outside are import path prefixes from outside the module and the standard
	// library. Nil allows none; AnyOutside lifts the limit.
	Outside    []string
	AnyOutside bool
	// NoStd are packages of the standard library that are forbidden in the row's
	// own files. What lies behind others cannot be judged: even fmt leads to os.
	NoStd []string
	// Never are the bans.
	Never []Ban
	// Why says why Uses, Outside and NoStd are as narrow as they are.
	Why string
}

// Breach is one departure from the table.
type Breach struct {
	Package string
	What    string
	Why     string
}

func (b Breach) String() string {
	return fmt.Sprintf("%s: %s\n\tbecause: %s", b.Package, b.What, b.Why)
}

// under says whether path is prefix or below it.
func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// Check holds every package of the module against its row.
func Check(g Graph, table []Row) []Breach {
	var breaches []Breach
	for _, p := range g.own() {
		path, _ := g.ours(p.ImportPath)
		row, ok := rowOf(table, path)
		if !ok {
			breaches = append(breaches, Breach{path, "has no row in the table",
				"every package has its place; add a row to test/arch/table.go that says what it may import"})
			continue
		}
		breaches = append(breaches, checkImports(g, table, row, p)...)
		breaches = append(breaches, checkBans(g, row, p)...)
	}
	return breaches
}

// rowOf returns the row of the package or of its nearest ancestor.
func rowOf(table []Row, path string) (Row, bool) {
	var best Row
	found := false
	for _, row := range table {
		if under(path, row.Package) && (!found || len(row.Package) > len(best.Package)) {
			best, found = row, true
		}
	}
	return best, found
}

func checkImports(g Graph, table []Row, row Row, p Package) []Breach {
	path, _ := g.ours(p.ImportPath)
	var breaches []Breach
	for _, imported := range p.Imports {
		if g.Packages[imported].Standard || imported == "C" || imported == "unsafe" {
			if slices.Contains(row.NoStd, imported) {
				breaches = append(breaches, Breach{path, "imports " + imported, row.Why})
			}
			continue
		}
		if within, ok := g.ours(imported); ok {
			if !mayUse(table, row, within) {
				breaches = append(breaches, Breach{path, "imports " + within, row.Why})
			}
			continue
		}
		outside := slices.ContainsFunc(row.Outside, func(prefix string) bool { return under(imported, prefix) })
		if !outside && !row.AnyOutside {
			breaches = append(breaches, Breach{path, "imports " + imported, row.Why})
		}
	}
	return breaches
}

// mayUse says whether the row allows the module's package.
func mayUse(table []Row, row Row, within string) bool {
	if row.AnyOurs {
		return true
	}
	target, ok := rowOf(table, within)
	if !ok {
		return slices.Contains(row.Uses, within)
	}
	return target.Package == row.Package || slices.Contains(row.Uses, target.Package)
}

func checkBans(g Graph, row Row, p Package) []Breach {
	path, _ := g.ours(p.ImportPath)
	var breaches []Breach
	for _, ban := range row.Never {
		match := func(importPath string) bool {
			if ban.Family.Has(importPath) {
				return true
			}
			within, ok := g.ours(importPath)
			return ok && ban.Ours != "" && under(within, ban.Ours)
		}
		if ban.Direct {
			for _, imported := range p.Imports {
				if match(imported) {
					breaches = append(breaches, Breach{path, "imports " + imported, ban.Why})
				}
			}
			continue
		}
		if way := g.chain(p.ImportPath, match); way != nil {
			breaches = append(breaches, Breach{path, "reaches " + way[len(way)-1] + " by " + strings.Join(way, " → "), ban.Why})
		}
	}
	return breaches
}

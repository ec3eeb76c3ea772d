// Portable sees that a program can be built for another system: it checks the types of
// all that the program is made of, from source, as that system's compiler would. Nothing
// is compiled, which for all dependencies takes minutes.
//
//	portable GOOS PACKAGE
//
// It does not link, and looks into functions only of the module's own packages.
package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: portable GOOS PACKAGE")
		os.Exit(2)
	}
	system, program := os.Args[1], os.Args[2]
	problems, err := check(system, program)
	if err == nil && problems > 0 {
		err = fmt.Errorf("%d problems", problems)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s cannot be built for %s: %v\n", program, system, err)
		os.Exit(1)
	}
}

// check prints each problem, and says how many there are.
func check(system, program string) (problems int, err error) {
	config := packages.Config{
		Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps | packages.NeedModule,
		Env:  append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0"),
	}
	roots, err := packages.Load(&config, program)
	if err != nil {
		return 0, err
	}
	var own []string
	packages.Visit(roots, nil, func(p *packages.Package) {
		if p.Module != nil && p.Module.Main {
			own = append(own, p.PkgPath)
		}
	})
	if len(own) == 0 {
		return 0, errors.New("it is made of no package of this module")
	}
	config.Mode = packages.LoadAllSyntax
	all, err := packages.Load(&config, own...)
	return packages.PrintErrors(all), err
}

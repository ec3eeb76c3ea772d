package scenario

import (
	"errors"
	"flag"
	"fmt"
)

// AtOnce has go test run that many parallel stories at once, unless its command
// line says how many. go test itself takes the number of cores, but stories wait
// more than they work.
func AtOnce(flags *flag.FlagSet, stories int) error {
	const parallel = "test.parallel"
	said := false
	flags.Visit(func(f *flag.Flag) { said = said || f.Name == parallel })
	if said {
		return nil
	}
	if flags.Lookup(parallel) == nil {
		return errors.New("these are not go test's flags")
	}
	return flags.Set(parallel, fmt.Sprint(stories))
}

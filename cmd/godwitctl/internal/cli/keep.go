package cli

import (
	"fmt"

	"github.com/spf13/pflag"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func addKeepFlags(flags *pflag.FlagSet, keep *api.RecoveryPointRetention) {
	flags.IntVar(&keep.Last, "keep-last", 0, "Recovery points that stay in the repository: the newest this many")
	flags.IntVar(&keep.WithinHours, "keep-within-hours", 0, "Recovery points that stay: all that are younger")
	flags.IntVar(&keep.Hourly, "keep-hourly", 0, "Recovery points that stay: the newest of each of this many hours")
	flags.IntVar(&keep.Daily, "keep-daily", 0, "Recovery points that stay: the newest of each of this many days")
	flags.IntVar(&keep.Weekly, "keep-weekly", 0, "Recovery points that stay: the newest of each of this many weeks")
	flags.IntVar(&keep.Monthly, "keep-monthly", 0, "Recovery points that stay: the newest of each of this many months")
}

// keepRules is what the flags say; nil keeps all. Runs that follow each other
// without a pause would fill the store, so they have rules in any case, which the
// object shows.
func keepRules(keep api.RecoveryPointRetention, continuous bool) (*api.RecoveryPointRetention, error) {
	for flag, n := range map[string]int{
		"last": keep.Last, "within-hours": keep.WithinHours, "hourly": keep.Hourly, "daily": keep.Daily, "weekly": keep.Weekly, "monthly": keep.Monthly,
	} {
		if n < 0 {
			return nil, fmt.Errorf("--keep-%s is %d: the least is 1, and 0 for no such rule", flag, n)
		}
	}
	switch {
	case keep != (api.RecoveryPointRetention{}):
		return &keep, nil
	case continuous:
		return &api.RecoveryPointRetention{Last: 30, Hourly: 24, Daily: 7, Weekly: 4}, nil
	}
	return nil, nil //nolint:nilnil // all stay
}

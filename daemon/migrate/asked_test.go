package migrate_test

import (
	"testing"

	"github.com/godwit-io/godwit/daemon/migrate"
)

func TestNextAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o    migrate.ObservedAsked
		want migrate.SwitchKind
	}{
		"ended":                        {migrate.ObservedAsked{Ended: true, Skip: true}, migrate.RestSwitch},
		"refused":                      {migrate.ObservedAsked{Refused: "why", Skip: true}, migrate.FailSwitch},
		"without the source":           {migrate.ObservedAsked{Skip: true, OneWay: "no way"}, migrate.ActivateStandby},
		"no way to ask":                {migrate.ObservedAsked{OneWay: "no way", Silence: "down", PatienceOver: true}, migrate.FailSwitch},
		"silent for a moment":          {migrate.ObservedAsked{Silence: "down"}, migrate.AwaitSource},
		"silent for long":              {migrate.ObservedAsked{Silence: "down", PatienceOver: true}, migrate.ActivateStandby},
		"silent after it began":        {migrate.ObservedAsked{Silence: "down", PatienceOver: true, Started: true}, migrate.AwaitSource},
		"begun, and given up by hand":  {migrate.ObservedAsked{Silence: "down", Started: true, Skip: true}, migrate.ActivateStandby},
		"under way":                    {migrate.ObservedAsked{Started: true}, migrate.FollowRound},
		"the source fails":             {migrate.ObservedAsked{Started: true, Source: migrate.FailOverReport{Ended: true}}, migrate.FailSwitch},
		"the source is done":           {migrate.ObservedAsked{Started: true, Source: migrate.FailOverReport{Ended: true, Good: true}}, migrate.EndSwitch},
		"coming up":                    {migrate.ObservedAsked{Activating: true, Silence: "down"}, migrate.FollowRound},
		"up":                           {migrate.ObservedAsked{Activating: true, Up: true}, migrate.EndSwitch},
		"not up, and never will be":    {migrate.ObservedAsked{Activating: true, Failed: "why"}, migrate.FailSwitch},
		"activating, the source spoke": {migrate.ObservedAsked{Activating: true, Source: migrate.FailOverReport{Ended: true}}, migrate.FollowRound},
	} {
		if got, why := migrate.NextAsked(c.o); got != c.want {
			t.Errorf("%s: %s (%s), want %s", name, got, why, c.want)
		}
	}
}

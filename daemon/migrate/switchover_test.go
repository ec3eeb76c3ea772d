package migrate_test

import (
	"testing"

	"github.com/godwit-io/godwit/daemon/migrate"
)

func TestNextSwitch(t *testing.T) {
	t.Parallel()
	ended := migrate.SwitchRound{Made: true, Ended: true}
	good := migrate.SwitchRound{Made: true, Ended: true, Good: true}
	for name, c := range map[string]struct {
		o    migrate.ObservedSwitch
		want migrate.SwitchKind
	}{
		"suspend first":    {migrate.ObservedSwitch{Schedule: true, Busy: "m"}, migrate.SuspendSchedule},
		"wait":             {migrate.ObservedSwitch{Schedule: true, Suspended: true, Busy: "m"}, migrate.AwaitRounds},
		"last":             {migrate.ObservedSwitch{Schedule: true, Suspended: true}, migrate.MakeLastRound},
		"a round first":    {migrate.ObservedSwitch{RoundFirst: true}, migrate.MakeRound},
		"follow it":        {migrate.ObservedSwitch{RoundFirst: true, Round: migrate.SwitchRound{Made: true}, Busy: "m"}, migrate.FollowRound},
		"then the last":    {migrate.ObservedSwitch{RoundFirst: true, Round: good}, migrate.MakeLastRound},
		"the round fails":  {migrate.ObservedSwitch{RoundFirst: true, Round: ended}, migrate.FailSwitch},
		"follow the last":  {migrate.ObservedSwitch{Round: good, Last: migrate.SwitchRound{Made: true}}, migrate.FollowRound},
		"it fails":         {migrate.ObservedSwitch{Last: ended}, migrate.FailSwitch},
		"it is done":       {migrate.ObservedSwitch{Last: good}, migrate.EndSwitch},
		"refused":          {migrate.ObservedSwitch{Refused: "why", Schedule: true}, migrate.FailSwitch},
		"refused too late": {migrate.ObservedSwitch{Refused: "why", Last: migrate.SwitchRound{Made: true}}, migrate.FollowRound},
		"ended":            {migrate.ObservedSwitch{Ended: true, Last: good}, migrate.RestSwitch},
	} {
		if got, why := migrate.NextSwitch(c.o); got != c.want {
			t.Errorf("%s: %s (%s), want %s", name, got, why, c.want)
		}
	}
}

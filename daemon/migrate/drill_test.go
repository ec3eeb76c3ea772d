package migrate_test

import (
	"testing"
	"time"

	"github.com/godwit-io/godwit/daemon/migrate"
)

func TestNextDrill(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	runs := migrate.ObservedDrill{HasFinalizer: true, Begun: true, Closed: true, CopyThere: true, CopyReady: true, Left: true, Ready: "1/2", Deadline: now.Add(time.Minute)}
	ended := migrate.ObservedDrill{HasFinalizer: true, Begun: true, Ended: true, Left: true}
	for name, c := range map[string]struct {
		from   migrate.ObservedDrill
		change func(*migrate.ObservedDrill)
		want   migrate.DrillActionKind
	}{
		"new":                           {migrate.ObservedDrill{}, nil, migrate.HoldDrill},
		"due":                           {migrate.ObservedDrill{HasFinalizer: true, Due: true}, nil, migrate.BeginDrill},
		"no round to open":              {migrate.ObservedDrill{HasFinalizer: true, Due: true, NoRound: "none"}, nil, migrate.RestDrill},
		"somebody's namespace":          {migrate.ObservedDrill{HasFinalizer: true, Due: true, Taken: "cms-drill"}, nil, migrate.RestDrill},
		"nothing opens before it":       {runs, func(o *migrate.ObservedDrill) { o.Closed, o.CopyThere, o.CopyReady = false, false, false }, migrate.CloseNamespaces},
		"a policy was deleted":          {runs, func(o *migrate.ObservedDrill) { o.Closed = false }, migrate.CloseNamespaces},
		"closed":                        {runs, func(o *migrate.ObservedDrill) { o.CopyThere, o.CopyReady = false, false }, migrate.OpenCopy},
		"opening":                       {runs, func(o *migrate.ObservedDrill) { o.CopyReady = false }, migrate.WatchDrill},
		"starting":                      {runs, nil, migrate.WatchDrill},
		"up":                            {runs, func(o *migrate.ObservedDrill) { o.Up = true }, migrate.PassDrill},
		"up, without the copy":          {runs, func(o *migrate.ObservedDrill) { o.Up, o.CopyReady = true, false }, migrate.WatchDrill},
		"the copy failed":               {runs, func(o *migrate.ObservedDrill) { o.CopyReady, o.CopyFailed = false, "no" }, migrate.FailDrill},
		"too late":                      {runs, func(o *migrate.ObservedDrill) { o.Deadline = now }, migrate.FailDrill},
		"too late to open":              {runs, func(o *migrate.ObservedDrill) { o.Deadline, o.CopyReady = now, false }, migrate.FailDrill},
		"up in the last moment":         {runs, func(o *migrate.ObservedDrill) { o.Deadline, o.Up = now, true }, migrate.PassDrill},
		"it stays for who looks":        {ended, nil, migrate.RestDrill},
		"it goes where it repeats":      {ended, func(o *migrate.ObservedDrill) { o.Repeats = true }, migrate.ClearDrill},
		"none before the last is gone":  {ended, func(o *migrate.ObservedDrill) { o.Due = true }, migrate.ClearDrill},
		"again":                         {ended, func(o *migrate.ObservedDrill) { o.Due, o.Left = true, false }, migrate.BeginDrill},
		"deleted":                       {runs, func(o *migrate.ObservedDrill) { o.Deleting = true }, migrate.ClearDrill},
		"deleted and clear":             {ended, func(o *migrate.ObservedDrill) { o.Deleting, o.Left = true, false }, migrate.LetGoDrill},
		"deleted, and somebody's place": {runs, func(o *migrate.ObservedDrill) { o.Deleting, o.Left, o.Taken = true, false, "cms" }, migrate.LetGoDrill},
	} {
		o := c.from
		if c.change != nil {
			c.change(&o)
		}
		if got := migrate.NextDrill(o, now); got.Kind != c.want {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
	}
}

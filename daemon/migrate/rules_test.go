package migrate_test

import (
	"testing"

	"github.com/godwit-io/godwit/daemon/migrate"
)

// TestRulesAroundTheSnapshots holds the order: before, cut, let go, after; and
// that a volume that is read live is read before anything is let go.
func TestRulesAroundTheSnapshots(t *testing.T) {
	t.Parallel()
	uncut := migrate.Volume{Name: "a"}
	cut := migrate.Volume{Name: "a", Cut: true}
	live := migrate.Volume{Name: "b", Cut: true, SnapshotReady: true, Live: true}
	stored := live
	stored.Image = "i"
	for name, c := range map[string]struct {
		rules     migrate.Rules
		collected bool
		volumes   []migrate.Volume
		want      migrate.ActionKind
	}{
		"before":            {migrate.Rules{PreOpen: true, HoldOpen: true, PostOpen: true}, false, []migrate.Volume{uncut}, migrate.RunPreRule},
		"held":              {migrate.Rules{HoldOpen: true, PostOpen: true}, false, []migrate.Volume{uncut}, migrate.TakeSnapshots},
		"let go":            {migrate.Rules{HoldOpen: true, PostOpen: true}, false, []migrate.Volume{cut}, migrate.ReleaseHold},
		"after":             {migrate.Rules{PostOpen: true}, false, []migrate.Volume{cut}, migrate.RunPostRule},
		"through":           {migrate.Rules{}, false, []migrate.Volume{cut}, migrate.CollectObjects},
		"objects, live":     {migrate.Rules{HoldOpen: true}, false, []migrate.Volume{cut, live}, migrate.CollectObjects},
		"held for the live": {migrate.Rules{HoldOpen: true}, true, []migrate.Volume{cut, live}, migrate.Upload},
		"the live is read":  {migrate.Rules{HoldOpen: true}, true, []migrate.Volume{cut, stored}, migrate.ReleaseHold},
		"frozen without":    {migrate.Rules{PostOpen: true}, true, []migrate.Volume{cut, live}, migrate.Upload},
	} {
		got := migrate.Next(admitted(func(o *migrate.Observed) { o.Rules, o.Collected, o.Volumes = c.rules, c.collected, c.volumes }))
		if got.Kind != c.want {
			t.Errorf("%s: %s, want %s", name, got.Kind, c.want)
		}
	}
	refused := migrate.Next(admitted(func(o *migrate.Observed) { o.Admitted, o.Rules.Problem = false, "no such rule" }))
	if refused.Kind != migrate.Fail || refused.Message != "no such rule" {
		t.Errorf("a rule that cannot be used: %+v", refused)
	}
}

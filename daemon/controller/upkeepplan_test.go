package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/godwit-io/godwit/daemon/schedule"
	"github.com/godwit-io/godwit/snapshot"
)

func pointsEvery(app string, n int, step time.Duration, newest time.Time) []snapshot.RecoveryPoint {
	var out []snapshot.RecoveryPoint
	for i := range n {
		at := newest.Add(-time.Duration(i) * step)
		round := at.Format(roundStamp) + "-aaaa"
		out = append(out, snapshot.RecoveryPoint{App: app, Round: round, Sealed: at, Images: []snapshot.Image{{ID: snapshot.ImageID(round), Taken: at}}})
	}
	return out
}

// TestSuperfluous holds what may go against what must not.
func TestSuperfluous(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	points := pointsEvery("a/a", 10, time.Hour, now)
	newest, third := points[0].Round, points[2].Round
	for name, c := range map[string]struct {
		keep    []schedule.Retention
		reached string
		inUse   int
		gone    int
	}{
		"by count":                      {[]schedule.Retention{{Last: 3}}, newest, -1, 7},
		"by age":                        {[]schedule.Retention{{Within: 4 * time.Hour}}, newest, -1, 6},
		"by days":                       {[]schedule.Retention{{Daily: 5}}, newest, -1, 9},
		"any of two schedules keeps":    {[]schedule.Retention{{Last: 1}, {Last: 8}}, newest, -1, 2},
		"no schedule says anything":     {nil, newest, -1, 0},
		"a schedule that keeps all":     {[]schedule.Retention{{}}, newest, -1, 0},
		"what the target holds":         {[]schedule.Retention{{Last: 1}}, third, -1, 7},
		"nobody knows what it holds":    {[]schedule.Retention{{Last: 1}}, "", -1, 0},
		"a base or a transfer needs it": {[]schedule.Retention{{Last: 1}}, newest, 5, 8},
		"all are old":                   {[]schedule.Retention{{Within: time.Nanosecond}}, newest, -1, 9},
	} {
		v := upkeepView{now: now, points: points, retention: map[line][]schedule.Retention{}, reached: map[line]string{{"a/a", ""}: c.reached}, inUse: map[snapshot.ImageID]bool{}}
		if c.keep != nil {
			v.retention[line{"a/a", ""}] = c.keep
		}
		if c.inUse >= 0 {
			v.inUse[points[c.inUse].Images[0].ID] = true
		}
		gone := v.superfluous()
		if len(gone) != c.gone {
			t.Errorf("%s: %d go, want %d", name, len(gone), c.gone)
		}
		if slices.ContainsFunc(gone, func(p snapshot.RecoveryPoint) bool { return p.Round >= c.reached || p.Round == newest }) {
			t.Errorf("%s: what is needed goes: %v", name, gone)
		}
	}
}

// TestSuperfluousByTarget sees that the rounds of one target neither count for another's
// retention nor go by it.
func TestSuperfluousByTarget(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	west, south := pointsEvery("a/a", 10, time.Minute, now), pointsEvery("a/a", 5, time.Hour, now.Add(-time.Second))
	for i := range south {
		south[i].Pair = "south"
	}
	v := upkeepView{
		now: now, pair: "west", points: slices.Concat(west, south), inUse: map[snapshot.ImageID]bool{},
		retention: map[line][]schedule.Retention{{"a/a", "west"}: {{Last: 2}}, {"a/a", "south"}: {{Last: 4}}},
		reached:   map[line]string{{"a/a", "west"}: west[0].Round, {"a/a", "south"}: south[0].Round},
	}
	gone := map[string]int{}
	for _, p := range v.superfluous() {
		gone[p.Pair]++
	}
	if gone[""] != 8 || gone["south"] != 1 {
		t.Errorf("of 10 and 5 rounds, of which 2 and 4 are kept, %d and %d go", gone[""], gone["south"])
	}
	delete(v.reached, line{"a/a", "south"})
	if slices.ContainsFunc(v.superfluous(), func(p snapshot.RecoveryPoint) bool { return p.Pair == "south" }) {
		t.Error("rounds go of a target of which nobody knows what it holds")
	}
}

// TestOrphans finds what rounds left, and nothing else.
func TestOrphans(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	old := now.Add(-48*time.Hour).Format(roundStamp) + "-aaaa"
	image := func(id, cluster, round string) snapshot.Image {
		return snapshot.Image{ID: snapshot.ImageID(id), Volume: snapshot.Volume{Cluster: cluster, Namespace: "n", Name: "v"}, Round: round}
	}
	v := upkeepView{now: now, inUse: map[snapshot.ImageID]bool{"used": true}}
	got := v.orphans([]snapshot.Image{
		image("orphan", "east", old), image("sealed", "east", old), image("used", "east", old), image("theirs", "west", old),
		image("young", "east", now.Add(-time.Hour).Format(roundStamp)+"-aaaa"), image("by hand", "east", "monday"), image("unnamed", "east", ""),
	}, "east", map[snapshot.ImageID]bool{"sealed": true})
	if len(got) != 1 || got[0].ID != "orphan" {
		t.Error(fmt.Sprint(got))
	}
}

package migrate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/daemon/migrate"
)

func TestNextPrecopy(t *testing.T) {
	t.Parallel()
	limits := migrate.PrecopyLimits{MaxDowntime: 30 * time.Second, MaxRounds: 5}
	took := func(seconds ...float64) []migrate.PrecopyRound {
		var rounds []migrate.PrecopyRound
		for _, s := range seconds {
			rounds = append(rounds, migrate.PrecopyRound{Name: "r", Ended: true, Took: time.Duration(s * float64(time.Second))})
		}
		return rounds
	}
	for name, c := range map[string]struct {
		rounds []migrate.PrecopyRound
		want   migrate.PrecopyActionKind
		says   string
	}{
		"none yet":               {nil, migrate.AnotherRound, ""},
		"under way":              {append(took(600), migrate.PrecopyRound{Name: "move-2"}), migrate.AwaitRound, "move-2"},
		"failed":                 {append(took(600), migrate.PrecopyRound{Name: "move-2", Ended: true, Failed: "disk full"}), migrate.RoundFailed, "round 2, Migration move-2: disk full"},
		"small at once":          {took(20), migrate.EnoughRounds, "maxDowntime is 30s"},
		"a long first":           {took(600), migrate.AnotherRound, ""},
		"shrinks, still long":    {took(600, 300), migrate.AnotherRound, "foreseen to take 2m30s"},
		"foreseen to be short":   {took(600, 100), migrate.EnoughRounds, "foreseen to take 16.7s"},
		"just at the limit":      {took(120, 60), migrate.EnoughRounds, "30s"},
		"stops shrinking":        {took(600, 200, 190), migrate.EnoughRounds, "more rounds do not make it shorter"},
		"grows":                  {took(600, 200, 250), migrate.EnoughRounds, "more rounds do not make it shorter"},
		"bounded":                {took(9000, 7000, 5000, 3000, 2000), migrate.EnoughRounds, "maxRounds is 5"},
		"one second to the last": {took(9000, 7000, 5000, 3000), migrate.AnotherRound, ""},
	} {
		got := migrate.NextPrecopy(c.rounds, limits)
		if got.Kind != c.want || !strings.Contains(got.Message, c.says) {
			t.Errorf("%s: got %s %q, want %s with %q", name, got.Kind, got.Message, c.want, c.says)
		}
	}
}

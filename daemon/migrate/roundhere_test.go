package migrate

import "testing"

func TestSourceOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o    ObservedRoundHere
		want RoundSource
		why  string
	}{
		"the newest, whichever it is":     {ObservedRoundHere{Held: true, Snapshots: true}, FromStore, ""},
		"held":                            {ObservedRoundHere{Named: true, Held: true}, FromVolumes, ""},
		"held, and in snapshots":          {ObservedRoundHere{Named: true, Held: true, Snapshots: true, Missing: []string{"gone"}}, FromVolumes, ""},
		"in snapshots":                    {ObservedRoundHere{Named: true, Snapshots: true}, FromSnapshots, ""},
		"a snapshot is gone":              {ObservedRoundHere{Named: true, Snapshots: true, Missing: []string{"a is gone", "b too"}}, FromStore, "a is gone; b too"},
		"nobody signed what is kept":      {ObservedRoundHere{Named: true, Snapshots: true, Record: "forged"}, FromStore, "forged"},
		"held, and the record is forged":  {ObservedRoundHere{Named: true, Held: true, Record: "forged"}, FromStore, "forged"},
		"nothing of it is here":           {ObservedRoundHere{Named: true}, FromStore, ""},
		"nothing is here but no record":   {ObservedRoundHere{Named: true, Record: "none"}, FromStore, ""},
		"nobody named it, and it is gone": {ObservedRoundHere{}, FromStore, ""},
	} {
		if got, why := SourceOf(c.o); got != c.want || why != c.why {
			t.Errorf("%s: from %s (%q), want %s (%q)", name, got, why, c.want, c.why)
		}
	}
}

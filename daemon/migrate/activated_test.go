package migrate

import (
	"strings"
	"testing"
)

func TestBaseSinceActivation(t *testing.T) {
	t.Parallel()
	kept := []ActivatedSnapshot{{Image: "newer", Handle: "s2", VolumeHandle: "v"}, {Image: "i", Handle: "s1", VolumeHandle: "v"}}
	for name, c := range map[string]struct {
		o         ObservedActivated
		want, why string
	}{
		"kept":            {ObservedActivated{Image: "i", VolumeHandle: "v", Snapshots: kept}, "s1", ""},
		"none":            {ObservedActivated{Image: "i", VolumeHandle: "v"}, "", "no snapshot"},
		"of other rounds": {ObservedActivated{Image: "i", VolumeHandle: "v", Snapshots: kept[:1]}, "", "no snapshot"},
		"remade since":    {ObservedActivated{Image: "i", VolumeHandle: "another", Snapshots: kept}, "", "another volume"},
		"no CSI driver":   {ObservedActivated{Image: "i", Snapshots: []ActivatedSnapshot{{Image: "i", Handle: "s"}}}, "", "another volume"},
		"without handle":  {ObservedActivated{Image: "i", VolumeHandle: "v", Snapshots: []ActivatedSnapshot{{Image: "i", VolumeHandle: "v"}}}, "", "no snapshot"},
		"renamed":         {ObservedActivated{Image: "i", VolumeHandle: "v", Renamed: true, Snapshots: kept}, "", "another namespace"},
	} {
		got, why := BaseSinceActivation(c.o)
		if got != c.want || (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %q (%s), want %q (%s)", name, got, why, c.want, c.why)
		}
	}
}

package cli

import (
	"strings"
	"testing"
	"time"
)

// TestTimeouts: each limit is set by its name, and what is none is refused by name.
func TestTimeouts(t *testing.T) {
	if got, err := parseTimeouts(nil); got != nil || err != nil {
		t.Errorf("none: %+v, %v", got, err)
	}
	got, err := parseTimeouts(map[string]string{"quiesce": "10m", "start": "90s"})
	if err != nil || got.Quiesce.Duration != 10*time.Minute || got.Start.Duration != 90*time.Second || got.Target != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for given, says := range map[string]string{"upload=1h": "exposure, quiesce, snapshots", "quiesce=soon": "such as 10m", "target=-1h": "a second or more"} {
		name, value, _ := strings.Cut(given, "=")
		if _, err := parseTimeouts(map[string]string{name: value}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", given, err)
		}
	}
}

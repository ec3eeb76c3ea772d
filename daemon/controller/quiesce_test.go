package controller

import (
	"testing"
	"time"
)

func TestDowntimeByAnotherClock(t *testing.T) {
	stopped := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := stopped.Add(time.Minute)
	for name, c := range map[string]struct {
		told, want time.Time
		likely     bool
	}{
		"between":           {stopped.Add(7 * time.Second), stopped.Add(7 * time.Second), true},
		"a little ahead":    {now.Add(200 * time.Millisecond), now.Add(200 * time.Millisecond), true},
		"far ahead":         {now.Add(time.Hour), now, false},
		"before the source": {stopped.Add(-time.Second), now, false},
		"of no time":        {time.Unix(0, 0), now, false},
	} {
		if got, likely := likelyReady(stopped, c.told, now); !got.Equal(c.want) || likely != c.likely {
			t.Errorf("%s: %s, likely %t; want %s, likely %t", name, got, likely, c.want, c.likely)
		}
	}
}

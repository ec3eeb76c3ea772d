package migrate_test

import (
	"testing"
	"time"

	"github.com/godwit-io/godwit/daemon/migrate"
)

// TestStanding: what moves is never over, however slowly; what stands is, and time in
// which nobody looked hardly counts.
func TestStanding(t *testing.T) {
	const limit = time.Hour
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	look := func(s migrate.Standing, waits string, at int64, after time.Duration) migrate.Standing {
		now = now.Add(after)
		return s.Next(waits, at, now, limit)
	}
	var s migrate.Standing
	for n := range int64(100) {
		s = look(s, "Quiesce", n, 50*time.Minute)
		if s.Over(limit) || s.Stood != 0 || s.Since != now {
			t.Fatalf("it moves, and: %+v", s)
		}
	}
	s = look(s, "Quiesce", 0, 100*time.Hour)
	if s.Over(limit) || s.Stood != 20*time.Minute || s.Furthest != 99 {
		t.Fatalf("a process that was away ends it: %+v", s)
	}
	for range 9 {
		if s = look(s, "Quiesce", 98, 5*time.Minute); s.Stood < limit+time.Second && s.Over(limit) {
			t.Fatalf("it is over too early: %+v", s)
		}
	}
	if !s.Over(limit) || s.Over(0) {
		t.Errorf("it stands for ever: %+v", s)
	}
	if s = look(s, "Snapshots", 0, time.Minute); s.Stood != 0 {
		t.Errorf("another wait goes on with the time of the one before: %+v", s)
	}
	if next := look(s, "Snapshots", 0, 10*time.Second); next.Worth(s, limit) || !look(s, "Snapshots", 0, time.Minute).Worth(s, limit) {
		t.Errorf("each look is written, or none: %+v", next)
	}
}

// TestWhatHasAnEnd: no clock ends a Migration whose target may have the application.
func TestWhatHasAnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		o    migrate.Observed
		a    migrate.Action
		want migrate.WaitKind
	}{
		"the pair":         {a: migrate.Action{Kind: migrate.Wait, Reason: "PairNotReady"}, want: migrate.WaitUnreachable},
		"its turn":         {a: migrate.Action{Kind: migrate.Wait, Reason: "WaitsForItsTurn"}},
		"pods":             {a: migrate.Action{Kind: migrate.StopSource}, want: migrate.WaitQuiesce},
		"the target to go": {a: migrate.Action{Kind: migrate.BeginTarget}, want: migrate.WaitTarget},
		"the target":       {o: migrate.Observed{Begun: true}, a: migrate.Action{Kind: migrate.PollTarget}},
		"an answer":        {o: migrate.Observed{Begun: true}, a: migrate.Action{Kind: migrate.Wait, Reason: "Observe"}},
		"a late hook":      {o: migrate.Observed{Begun: true}, a: migrate.Action{Kind: migrate.RunHook}},
		"what is left":     {o: migrate.Observed{Ended: true, Failed: true}, a: migrate.Action{Kind: migrate.ClearUp}},
	} {
		if got := migrate.WaitOf(c.o, c.a); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if migrate.StandbyWaits(migrate.ObservedStandby{Activate: true}, migrate.StandbyAction{Kind: migrate.BringForward}) {
		t.Error("a failover has an end by itself")
	}
}

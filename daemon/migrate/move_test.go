package migrate_test

import (
	"strings"
	"testing"

	"github.com/godwit-io/godwit/daemon/migrate"
)

// TestMoveRefusal refuses what two clusters cannot have at once, each by its remedy.
func TestMoveRefusal(t *testing.T) {
	t.Parallel()
	good := migrate.MoveFacts{Answered: true, Quiesces: true}
	with := func(change func(*migrate.MoveFacts)) migrate.MoveFacts {
		f := good
		change(&f)
		return f
	}
	move := migrate.VolumeRule{Action: migrate.MoveVolume}
	for name, c := range map[string]struct {
		rule migrate.VolumeRule
		f    migrate.MoveFacts
		says string
	}{
		"quiesced":            {move, good, ""},
		"used and quiesced":   {move, with(func(f *migrate.MoveFacts) { f.User = "pod a/b has claim c" }), ""},
		"unused":              {move, with(func(f *migrate.MoveFacts) { f.Quiesces = false }), ""},
		"used":                {move, with(func(f *migrate.MoveFacts) { f.Quiesces, f.User = false, "pod a/b has claim c" }), "pod a/b has claim c"},
		"local":               {move, with(func(f *migrate.MoveFacts) { f.Unreachable = "it is here" }), "it is here: use Copy"},
		"nobody answers":      {move, with(func(f *migrate.MoveFacts) { f.Answered = false }), "spec.adminClusterPair"},
		"activates":           {move, with(func(f *migrate.MoveFacts) { f.Activates = true }), "leave activate out"},
		"schedule":            {move, with(func(f *migrate.MoveFacts) { f.Scheduled = true }), "use Copy in a schedule"},
		"another size":        {migrate.VolumeRule{Action: migrate.MoveVolume, SizeBytes: 1}, good, "leave size"},
		"other access modes":  {migrate.VolumeRule{Action: migrate.MoveVolume, AccessModes: []string{"ReadWriteOnce"}}, good, "leave size"},
		"a class of its name": {migrate.VolumeRule{Action: migrate.MoveVolume, TargetClass: "gold"}, good, ""},
	} {
		if got := c.rule.MoveRefusal(c.f); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestMoveIsRetainedFirst seals, and with that tells the target, only after the storage
// of what is handed over is kept.
func TestMoveIsRetainedFirst(t *testing.T) {
	t.Parallel()
	o := migrate.Observed{
		HasFinalizer: true, Admitted: true, AskedTarget: true, Quiesce: true, Stopped: true, Collected: true,
		Pair:    migrate.Pair{Found: true, Ready: true},
		Volumes: []migrate.Volume{{Name: "copied", Cut: true, SnapshotReady: true}, {Name: "moved", Cut: true, SnapshotReady: true, Moved: true}},
	}
	for _, want := range []struct {
		kind  migrate.ActionKind
		after func()
	}{
		{migrate.Upload, func() { o.Volumes[0].Image = "i" }},
		{migrate.RetainVolumes, func() { o.Retained = true }},
		{migrate.SealRound, func() { o.Sealed = true }},
		{migrate.BeginTarget, func() {}},
	} {
		if got := migrate.Next(o); got.Kind != want.kind {
			t.Fatalf("it would %s, want %s", got.Kind, want.kind)
		}
		want.after()
	}
	o.Stopped, o.Sealed, o.Retained = false, false, false
	if got := migrate.Next(o); got.Kind != migrate.StopSource {
		t.Errorf("it would %s before the source is stopped", got.Kind)
	}
}

package v1alpha1

import "testing"

// TestHere tells an application that runs here already from one that waits.
func TestHere(t *testing.T) {
	moved := func() *Standby {
		s := &Standby{}
		s.Status.Phase = StandbyReady
		s.Status.Volumes = []StandbyVolume{{HandedOver: true}, {Moved: true}, {Leaving: true}}
		return s
	}
	for name, c := range map[string]struct {
		change func(*Standby)
		want   bool
	}{
		"moved":         {func(*Standby) {}, true},
		"a stage":       {func(s *Standby) { s.Spec.Stage = true }, false},
		"activated":     {func(s *Standby) { s.Status.Activating = true }, false},
		"another round": {func(s *Standby) { s.Spec.Round = "r2" }, false},
		"under way":     {func(s *Standby) { s.Status.Phase = StandbyVolumes }, false},
		"one held yet":  {func(s *Standby) { s.Status.Volumes[0].HandedOver = false }, false},
		"objects alone": {func(s *Standby) { s.Status.Volumes = nil }, false},
	} {
		s := moved()
		if c.change(s); s.Here() != c.want {
			t.Errorf("%s: here is %v", name, !c.want)
		}
	}
}

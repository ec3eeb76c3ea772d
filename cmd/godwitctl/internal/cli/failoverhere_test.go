package cli

import (
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// TestHere tells an application that runs here already from one that waits.
func TestHere(t *testing.T) {
	moved := func() *api.Standby {
		s := &api.Standby{}
		s.Status.Phase = api.StandbyReady
		s.Status.Volumes = []api.StandbyVolume{{HandedOver: true}, {Moved: true}, {Leaving: true}}
		return s
	}
	for name, c := range map[string]struct {
		change func(*api.Standby)
		want   bool
	}{
		"moved":         {func(*api.Standby) {}, true},
		"a stage":       {func(s *api.Standby) { s.Spec.Stage = true }, false},
		"asked for":     {func(s *api.Standby) { s.Spec.Activation = &api.StandbyActivation{} }, false},
		"under way":     {func(s *api.Standby) { s.Status.Phase = api.StandbyVolumes }, false},
		"one held yet":  {func(s *api.Standby) { s.Status.Volumes[0].HandedOver = false }, false},
		"objects alone": {func(s *api.Standby) { s.Status.Volumes = nil }, false},
	} {
		s := moved()
		if c.change(s); here(s) != c.want {
			t.Errorf("%s: here is %v", name, !c.want)
		}
	}
}

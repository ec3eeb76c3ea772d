package target_test

import (
	"reflect"
	"testing"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// The target says in which of the versions that it is asked about it serves a kind.
func TestServedVersions(t *testing.T) {
	v := newVictim(t)
	a := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}})
	forecast, err := a.target.Preflight(t.Context(), migrate.Preflight{Application: "cms/a", Namespaces: []string{"cms"}, Kinds: []migrate.KindVersions{
		{Group: "autoscaling", Kind: "HorizontalPodAutoscaler", Versions: []string{"v2beta2", "v2", "v1"}},
		{Group: "unheard.example.com", Kind: "Widget", Versions: []string{"v1", "v1beta1"}},
	}})
	want := []migrate.KindVersions{
		{Group: "autoscaling", Kind: "HorizontalPodAutoscaler", Versions: []string{"v2", "v1"}},
		{Group: "unheard.example.com", Kind: "Widget"},
	}
	if err != nil || len(forecast.Problems) > 0 || !reflect.DeepEqual(forecast.Served, want) {
		t.Errorf("%+v, %v", forecast, err)
	}
}

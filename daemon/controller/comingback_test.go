package controller

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// TestComingBack brings back what the source selected, and no more; what is not known of
// that, as of a source of an older version, leaves nothing out.
func TestComingBack(t *testing.T) {
	t.Parallel()
	s := &api.Standby{Spec: api.StandbySpec{Namespaces: []string{"cms"}, IncludeResources: true}}
	all := comingBack(s, "cms", "back")
	if all.ClusterPair != "back" || all.Application != "cms" || !*all.IncludeResources || all.ConflictResolution != api.ConflictOverwrite ||
		len(all.Volumes) > 0 || !equality.Semantic.DeepEqual(all.SelectionOptions, api.SelectionOptions{}) {
		t.Errorf("without a selection: %+v", all)
	}
	s.Spec.IncludeResources = false
	s.Spec.Selection = &api.StandbySelection{
		SelectionOptions: api.SelectionOptions{Selectors: map[string]string{"app": "db"}, ExcludeResourceTypes: []string{"ConfigMap"}},
		SkippedClaims:    []string{"cms/scratch"},
	}
	chosen := comingBack(s, "cms", "back")
	want := []api.VolumeRule{{Name: "cms/scratch", Action: api.VolumeSkip}}
	if *chosen.IncludeResources || !equality.Semantic.DeepEqual(chosen.SelectionOptions, s.Spec.Selection.SelectionOptions) || !equality.Semantic.DeepEqual(chosen.Volumes, want) {
		t.Errorf("with a selection: %+v", chosen)
	}
}

package controller

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// selection tells the target what of the namespaces is the application's, so that what
// comes back from there one day is chosen by the same.
func (x *run) selection(ctx context.Context) ([]byte, error) {
	s := api.StandbySelection{SelectionOptions: x.m.Spec.SelectionOptions}
	none := !isTrue(x.m.Spec.IncludeVolumes, true)
	for _, namespace := range x.namespaces() {
		var list corev1.PersistentVolumeClaimList
		if err := x.Client.List(ctx, &list, client.InNamespace(namespace),
			client.MatchingLabelsSelector{Selector: labels.SelectorFromSet(s.Selectors)}); err != nil {
			return nil, fmt.Errorf("list claims of %s: %w", namespace, err)
		}
		for _, pvc := range list.Items {
			if pvc.DeletionTimestamp.IsZero() && (none || x.leftOut(pvc)) {
				s.SkippedClaims = append(s.SkippedClaims, namespace+"/"+pvc.Name)
			}
		}
	}
	encoded, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode what Migration %s/%s selects: %w", x.m.Namespace, x.m.Name, err)
	}
	return encoded, nil
}

// comingBack is what brings the application of an activated standby back by a pair: all
// that was its source's choice, and what was made of it here since.
func comingBack(s *api.Standby, application, pair string) api.MigrationSpec {
	resources := s.Spec.IncludeResources
	m := api.MigrationSpec{ClusterPair: pair, Namespaces: s.Spec.Namespaces, IncludeResources: &resources}
	m.Application = application
	// What stands there is what the application left behind.
	m.ConflictResolution = api.ConflictOverwrite
	if s.Spec.Selection == nil {
		return m
	}
	m.SelectionOptions = *s.Spec.Selection.SelectionOptions.DeepCopy()
	for _, claim := range s.Spec.Selection.SkippedClaims {
		m.Volumes = append(m.Volumes, api.VolumeRule{Name: claim, Action: api.VolumeSkip})
	}
	return m
}

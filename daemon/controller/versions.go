package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
)

// chooseVersions asks the target in which versions it serves the kinds of the
// objects, where this cluster serves more than one, and notes those that are to be
// read in another than the preferred one. It tells whether that is news.
func (x *run) chooseVersions(ctx context.Context, objects []unstructured.Unstructured) (bool, error) {
	offered, err := workload.Versions(x.Objects.Discovery)
	if err != nil {
		return false, err
	}
	kinds := severalVersions(objects, offered)
	chosen := make(map[string]string)
	if len(kinds) > 0 {
		forecast, err := x.target.Preflight(ctx, migrate.Preflight{Application: x.application(), Namespaces: x.namespaces(), Kinds: kinds})
		if err != nil {
			return false, fmt.Errorf("ask the target which API versions it serves: %w", err)
		}
		for _, served := range forecast.Served {
			gk := schema.GroupKind{Group: served.Group, Kind: served.Kind}
			at := slices.IndexFunc(offered[gk], func(version string) bool { return slices.Contains(served.Versions, version) })
			if at > 0 {
				chosen[gk.String()] = offered[gk][at]
			}
		}
	}
	if maps.Equal(chosen, x.m.Status.ReadVersions) {
		return false, nil
	}
	x.m.Status.ReadVersions = chosen
	return true, nil
}

func severalVersions(objects []unstructured.Unstructured, offered map[schema.GroupKind][]string) []migrate.KindVersions {
	seen := make(map[schema.GroupKind]bool)
	var kinds []migrate.KindVersions
	for i := range objects {
		gk := objects[i].GroupVersionKind().GroupKind()
		if versions := offered[gk]; len(versions) > 1 && !seen[gk] {
			seen[gk] = true
			kinds = append(kinds, migrate.KindVersions{Group: gk.Group, Kind: gk.Kind, Versions: versions})
		}
	}
	return kinds
}

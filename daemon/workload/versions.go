package workload

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// Versions tells in which versions a cluster serves each namespaced kind that holds
// state, the preferred one first. What the cluster cannot say is left out.
func Versions(d Discovery) (map[schema.GroupKind][]string, error) {
	groups, lists, err := d.ServerGroupsAndResources()
	var partly *discovery.ErrGroupDiscoveryFailed
	if err != nil && !errors.As(err, &partly) {
		return nil, fmt.Errorf("ask the cluster which API versions it serves: %w", err)
	}
	byVersion := make(map[string][]kind, len(lists))
	for _, list := range lists {
		if byVersion[list.GroupVersion], err = kindsOf(list); err != nil {
			return nil, err
		}
	}
	out := make(map[schema.GroupKind][]string)
	for _, group := range groups {
		for _, version := range group.Versions {
			for _, k := range byVersion[version.GroupVersion] {
				gk := k.gvk.GroupKind()
				out[gk] = append(out[gk], k.gvk.Version)
			}
		}
	}
	return out, nil
}

// inVersions has kinds read in the versions that are wished, by kind and group.
func inVersions(found []kind, wished map[string]string) []kind {
	for i := range found {
		if version := wished[found[i].gvk.GroupKind().String()]; version != "" {
			found[i].gvk.Version = version
		}
	}
	return found
}

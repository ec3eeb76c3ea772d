package dce

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// Images maps parts of image names. Of all rules only the first that matches an
// image is used, in the order of their sorted keys; it replaces its part wherever
// it comes in the name.
type Images struct {
	origin string
	rules  []imageRule
}

type imageRule struct{ key, from, to string }

// ParseImages reads the ConfigMap, whose every value is old,new.
func ParseImages(cm *unstructured.Unstructured) (*Images, error) {
	out := &Images{origin: "ConfigMap " + cm.GetNamespace() + "/" + cm.GetName()}
	data, _, err := unstructured.NestedStringMap(cm.Object, "data")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", out.origin, err)
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s has no data: add old,new under a key, or delete it", out.origin)
	}
	var all []error
	for _, key := range sorted(data) {
		parts := strings.Split(data[key], ",")
		if len(parts) != 2 || parts[0] == "" {
			all = append(all, fmt.Errorf("%s key %s: %q is not old,new with exactly one comma", out.origin, key, data[key]))
			continue
		}
		out.rules = append(out.rules, imageRule{key: key, from: strings.TrimSpace(parts[0]), to: strings.TrimSpace(parts[1])})
	}
	return out, errors.Join(all...)
}

// Edit renames the images of the object's containers and returns which rules did.
func (m *Images) Edit(obj *unstructured.Unstructured) []string {
	if !m.covers(obj.GroupVersionKind().GroupKind()) {
		return nil
	}
	var edited []string
	for _, container := range shape.Containers(obj) {
		image := shape.Text(container, "image")
		for _, rule := range m.rules {
			if !strings.Contains(image, rule.from) {
				continue
			}
			if changed := strings.ReplaceAll(image, rule.from, rule.to); changed != image {
				container["image"] = changed
				edited = append(edited, m.origin+" key "+rule.key)
			}
			break
		}
	}
	return edited
}

func (m *Images) covers(gk schema.GroupKind) bool {
	switch gk {
	case schema.GroupKind{Kind: "Pod"}, schema.GroupKind{Kind: "ReplicationController"},
		schema.GroupKind{Group: "apps", Kind: "Deployment"}, schema.GroupKind{Group: "apps", Kind: "StatefulSet"},
		schema.GroupKind{Group: "apps", Kind: "DaemonSet"}, schema.GroupKind{Group: "apps", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "batch", Kind: "Job"}, schema.GroupKind{Group: "batch", Kind: "CronJob"}:
		return true
	}
	return false
}

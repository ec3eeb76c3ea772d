// Package shape knows where things stand in unstructured objects: values at
// paths, the pod that a workload makes, and the many names of a kind.
//
// Its words: a Path leads through names and list indices. It reads and writes
// the maps that it is given, and never copies an object.
package shape

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Child returns the map at the path, or nil. It is the map itself, not a copy.
func Child(in map[string]any, path ...string) map[string]any {
	for _, name := range path {
		next, ok := in[name].(map[string]any)
		if !ok {
			return nil
		}
		in = next
	}
	return in
}

// Text returns the string at the path, or "".
func Text(in map[string]any, path ...string) string {
	last := len(path) - 1
	s, ok := Child(in, path[:last]...)[path[last]].(string)
	if !ok {
		return ""
	}
	return s
}

// List returns those items at the path that are maps; they are no copies.
func List(in map[string]any, path ...string) []map[string]any {
	last := len(path) - 1
	items, ok := Child(in, path[:last]...)[path[last]].([]any)
	if !ok {
		return nil
	}
	var out []map[string]any
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// Filter keeps the items at the path that are wanted, and drops the list when
// none is left.
func Filter(in map[string]any, name string, wanted func(map[string]any) bool) {
	items, ok := in[name].([]any)
	if !ok {
		return
	}
	kept := make([]any, 0, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); !ok || wanted(m) {
			kept = append(kept, item)
		}
	}
	if len(kept) == 0 {
		delete(in, name)
		return
	}
	in[name] = kept
}

// PodTemplate returns the map with the metadata and spec of the pods that the
// object makes; of a Pod, the Pod itself; nil for any other kind.
func PodTemplate(obj *unstructured.Unstructured) map[string]any {
	switch obj.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Kind: "Pod"}:
		return obj.Object
	case schema.GroupKind{Group: "batch", Kind: "CronJob"}:
		return Child(obj.Object, "spec", "jobTemplate", "spec", "template")
	case schema.GroupKind{Kind: "ReplicationController"},
		schema.GroupKind{Group: "apps", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"},
		schema.GroupKind{Group: "apps", Kind: "DaemonSet"},
		schema.GroupKind{Group: "apps", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "apps.openshift.io", Kind: "DeploymentConfig"},
		schema.GroupKind{Group: "batch", Kind: "Job"}:
		return Child(obj.Object, "spec", "template")
	}
	return nil
}

// Containers returns the containers of all sorts of the pod that the object is or
// makes.
func Containers(obj *unstructured.Unstructured) []map[string]any {
	spec := Child(PodTemplate(obj), "spec")
	var all []map[string]any
	for _, field := range []string{"initContainers", "containers", "ephemeralContainers"} {
		all = append(all, List(spec, field)...)
	}
	return all
}

// Named tells whether a user's name for a kind means this one: its kind, its
// resource in singular or plural, alone or with the group behind a dot, in any
// case; * is any, and *.apps any of a group.
func Named(gk schema.GroupKind, name string) bool {
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "*" || name == "*.*" {
		return true
	}
	head, group, qualified := strings.Cut(name, ".")
	if qualified && group != strings.ToLower(gk.Group) {
		return false
	}
	plural, singular := meta.UnsafeGuessKindToResource(gk.WithVersion("v1"))
	switch head {
	case "*", strings.ToLower(gk.Kind), plural.Resource, singular.Resource:
		return true
	}
	// English has words that the guess does not know.
	return head == strings.ToLower(gk.Kind)+"s"
}

// NamedAny tells whether one of the names means the kind.
func NamedAny(gk schema.GroupKind, names []string) bool {
	for _, name := range names {
		if Named(gk, name) {
			return true
		}
	}
	return false
}

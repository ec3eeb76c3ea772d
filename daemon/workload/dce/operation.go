package dce

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// operation changes labels or annotations, of the object or of its pod template.
type operation struct {
	origin   string
	kinds    []string
	domain   string
	template bool
	add      map[string]string
	remove   map[string]string
	replace  map[string][2]string
}

func parseOperation(in wireOperation) (operation, []error) {
	out := operation{kinds: in.Kinds, domain: in.Domain, template: in.Scope == "resourceSpec"}
	var all []error
	problem := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if len(in.Kinds) == 0 {
		problem(".kinds is empty: name the kinds to change")
	}
	if in.Domain != "labels" && in.Domain != "annotations" {
		problem(".domain: %q is unknown: use labels or annotations", in.Domain)
	}
	if in.Scope != "" && in.Scope != "resourceSpec" {
		problem(".scope: %q is unknown: use resourceSpec, or leave it out for the object's own metadata", in.Scope)
	}
	o := in.Operation
	if len(o.Add)+len(o.Remove)+len(o.Replace) == 0 {
		problem(".operation is empty: use add, remove or replace")
	}
	out.add, out.remove = texts(o.Add), texts(o.Remove)
	out.replace = make(map[string][2]string)
	for _, key := range sorted(o.Replace) {
		pair := o.Replace[key]
		if len(pair) != 2 {
			problem(".operation.replace.%s has %d items: write [what it is, what it becomes]", key, len(pair))
			continue
		}
		out.replace[key] = [2]string{pair[0], pair[1]}
	}
	for _, key := range sorted(out.add) {
		_, removed := out.remove[key]
		if _, replaced := out.replace[key]; removed || replaced {
			problem(".operation: %s is both added and taken away or replaced, which has no order: use two operations", key)
		}
	}
	return out, all
}

func texts(in map[string]*string) map[string]string {
	out := make(map[string]string, len(in))
	for key, value := range in {
		if value != nil {
			out[key] = *value
			continue
		}
		out[key] = ""
	}
	return out
}

func sorted[V any](in map[string]V) []string {
	keys := make([]string, 0, len(in))
	for key := range in {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// apply adds, removes and replaces, and tells whether anything became different.
// An empty value to remove, or to replace, is any value.
func (o operation) apply(obj *unstructured.Unstructured) bool {
	in := obj.Object
	if o.template {
		if in = shape.PodTemplate(obj); in == nil {
			return false
		}
	}
	metadata := shape.Child(in, "metadata")
	if metadata == nil {
		metadata = make(map[string]any)
	}
	values := shape.Child(metadata, o.domain)
	changed := o.changed(values)
	if same(values, changed) {
		return false
	}
	if len(changed) == 0 {
		delete(metadata, o.domain)
	} else {
		metadata[o.domain] = changed
	}
	in["metadata"] = metadata
	return true
}

func (o operation) changed(values map[string]any) map[string]any {
	out := make(map[string]any, len(values)+len(o.add))
	for key, value := range values {
		out[key] = value
	}
	for key, value := range o.add {
		out[key] = value
	}
	for key, value := range o.remove {
		if there, ok := out[key]; ok && (value == "" || there == value) {
			delete(out, key)
		}
	}
	for key, pair := range o.replace {
		if there, ok := out[key]; ok && (pair[0] == "" || there == pair[0]) {
			out[key] = pair[1]
		}
	}
	return out
}

func same(a, b map[string]any) bool {
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		if other, ok := b[key]; !ok || other != value {
			return false
		}
	}
	return true
}

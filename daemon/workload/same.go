package workload

import (
	"encoding/json"
	"hash/fnv"
	"strconv"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// sameObject tells whether a trial would leave the object as it is.
func sameObject(would, live *unstructured.Unstructured) bool {
	return apiequality.Semantic.DeepEqual(would.Object, live.Object)
}

// hashOf is of what the source wants of the object: its stamps and owner aside.
func hashOf(obj *unstructured.Unstructured) string {
	content := make(map[string]any, len(obj.Object))
	for key, value := range obj.Object {
		content[key] = value
	}
	annotations := make(map[string]string)
	for key, value := range obj.GetAnnotations() {
		if !stampKey(key) && key != AnnotationOwner && key != AnnotationHash {
			annotations[key] = value
		}
	}
	content["metadata"] = map[string]any{
		"name": obj.GetName(), "namespace": obj.GetNamespace(), "labels": obj.GetLabels(), "annotations": annotations,
		"owners": obj.GetOwnerReferences(), "finalizers": obj.GetFinalizers(),
	}
	sum := fnv.New64a()
	// What came from JSON can be written as JSON.
	if err := json.NewEncoder(sum).Encode(content); err != nil {
		return ""
	}
	return strconv.FormatUint(sum.Sum64(), 10)
}

func stampKey(key string) bool {
	switch key {
	case AnnotationMigrationName, AnnotationMigrationNamespace, AnnotationMigrationTime:
		return true
	}
	return false
}

// unchanged tells, without asking the server, that a write would change nothing:
// we wrote the same before, and all of it still stands. False means only that the
// server has to be asked.
func unchanged(patch, live *unstructured.Unstructured, o ApplyOptions) bool {
	annotations := live.GetAnnotations()
	hash := patch.GetAnnotations()[AnnotationHash]
	if hash == "" || annotations[AnnotationHash] != hash || annotations[AnnotationOwner] != o.Owner {
		return false
	}
	ours := false
	for _, entry := range live.GetManagedFields() {
		ours = ours || entry.Manager == o.FieldManager
	}
	if !ours {
		return false
	}
	wanted := withStampsOf(patch, live)
	for key, value := range wanted.Object {
		if key == "metadata" {
			continue
		}
		if !holds(live.Object[key], value) {
			return false
		}
	}
	return holdsText(live.GetLabels(), wanted.GetLabels()) && holdsText(annotations, wanted.GetAnnotations()) &&
		apiequality.Semantic.DeepEqual(ownersIn(live, wanted), wanted.GetOwnerReferences())
}

func ownersIn(live, wanted *unstructured.Unstructured) any {
	if len(wanted.GetOwnerReferences()) == 0 {
		return wanted.GetOwnerReferences()
	}
	return live.GetOwnerReferences()
}

// withStampsOf returns the patch as an earlier run would have stamped it.
func withStampsOf(patch, live *unstructured.Unstructured) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: make(map[string]any, len(patch.Object))}
	for key, value := range patch.Object {
		out.Object[key] = value
	}
	metadata := make(map[string]any)
	for key, value := range shape.Child(patch.Object, "metadata") {
		metadata[key] = value
	}
	out.Object["metadata"] = metadata
	annotations := patch.GetAnnotations()
	for key := range annotations {
		if value, ok := live.GetAnnotations()[key]; ok && stampKey(key) {
			annotations[key] = value
		}
	}
	out.SetAnnotations(annotations)
	return out
}

func holdsText(live, wanted map[string]string) bool {
	for key, value := range wanted {
		if there, ok := live[key]; !ok || there != value {
			return false
		}
	}
	return true
}

// holds tells whether all that is wanted stands there. Lists must be as long, and
// maps of plain values as large: such are often owned as a whole.
func holds(live, wanted any) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		fields, ok := live.(map[string]any)
		if !ok || (len(fields) != len(wanted) && plain(wanted)) {
			return false
		}
		for key, value := range wanted {
			if there, ok := fields[key]; !ok || !holds(there, value) {
				return false
			}
		}
		return true
	case []any:
		items, ok := live.([]any)
		if !ok || len(items) != len(wanted) {
			return false
		}
		for i := range wanted {
			if !holds(items[i], wanted[i]) {
				return false
			}
		}
		return true
	}
	return live == wanted
}

func plain(in map[string]any) bool {
	for _, value := range in {
		switch value.(type) {
		case map[string]any, []any:
			return false
		}
	}
	return true
}

// keepLogins joins the registry logins of both, since the list is applied whole
// and the target's account has its own registry's.
func keepLogins(patch, live *unstructured.Unstructured) {
	const field = "imagePullSecrets"
	var joined []any
	seen := make(map[string]bool)
	for _, login := range append(shape.List(live.Object, field), shape.List(patch.Object, field)...) {
		if name := shape.Text(login, "name"); !seen[name] {
			seen[name] = true
			joined = append(joined, map[string]any{"name": name})
		}
	}
	if len(joined) > 0 {
		patch.Object[field] = joined
	}
}

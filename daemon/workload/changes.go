package workload

import (
	"encoding/json"
	"slices"
	"sort"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// changedSince tells whether somebody else changed the object after base was seen:
// its values differ, and neither we nor the cluster's own controllers account for
// it. A nil base is a record from before a create: nothing of the object is known,
// so any other writer counts.
func changedSince(a Applied, base, live *unstructured.Unstructured) *ChangedError {
	var paths []string
	if base != nil {
		if paths = differences(base, live); len(paths) == 0 {
			return nil
		}
	}
	var others []string
	explained := base == nil
	for _, entry := range live.GetManagedFields() {
		if entry.Subresource == "status" || (base != nil && hasEntry(base, entry)) {
			continue
		}
		if entry.Manager == a.Manager || controlPlane(entry.Manager) {
			explained = true
			continue
		}
		others = append(others, entry.Manager)
	}
	if len(others) == 0 && explained {
		return nil
	}
	if len(paths) == 0 {
		paths = []string{"fields that cannot be told"}
	}
	sort.Strings(others)
	return &ChangedError{Ref: a.Ref, Managers: slices.Compact(others), Paths: paths}
}

// controlPlane names the managers that fill objects in without being asked.
func controlPlane(manager string) bool {
	switch manager {
	case "kube-controller-manager", "kube-scheduler", "kube-apiserver", "kubelet", "cloud-controller-manager",
		"openshift-controller-manager", "cluster-policy-controller":
		return true
	}
	return false
}

// hasEntry tells whether the manager has not written since: its entry has the same
// time, and no new fields. Fewer it may have, as others take fields over.
func hasEntry(obj *unstructured.Unstructured, entry metav1.ManagedFieldsEntry) bool {
	return slices.ContainsFunc(obj.GetManagedFields(), func(old metav1.ManagedFieldsEntry) bool {
		return sameWriter(old, entry) && old.Time.Equal(entry.Time) && within(fieldsOf(entry), fieldsOf(old))
	})
}

func fieldsOf(entry metav1.ManagedFieldsEntry) map[string]any {
	var fields map[string]any
	if entry.FieldsV1 == nil || json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
		// What cannot be read is taken for a field that nobody had.
		return map[string]any{"unreadable": map[string]any{}}
	}
	return fields
}

// within tells whether every field of a is one of b.
func within(a, b map[string]any) bool {
	for name, inner := range a {
		of, ok := b[name]
		if !ok {
			return false
		}
		fields, isMap := inner.(map[string]any)
		if others, areMaps := of.(map[string]any); isMap && areMaps && !within(fields, others) {
			return false
		}
	}
	return true
}

func sameEntry(a, b metav1.ManagedFieldsEntry) bool {
	return sameWriter(a, b) && a.FieldsV1 != nil && b.FieldsV1 != nil && a.FieldsV1.Equal(*b.FieldsV1)
}

func sameWriter(a, b metav1.ManagedFieldsEntry) bool {
	return a.Manager == b.Manager && a.Operation == b.Operation && a.Subresource == b.Subresource
}

// ownersBefore are the owners of before the write, those who came since, and
// whoever owns the status now, which is not ours to say.
func ownersBefore(a Applied, live *unstructured.Unstructured) []metav1.ManagedFieldsEntry {
	var owners []metav1.ManagedFieldsEntry
	for _, entry := range a.Before.GetManagedFields() {
		if entry.Subresource != "status" {
			owners = append(owners, entry)
		}
	}
	for _, entry := range live.GetManagedFields() {
		known := slices.ContainsFunc(owners, func(o metav1.ManagedFieldsEntry) bool { return sameWriter(o, entry) })
		if entry.Subresource == "status" || (!known && entry.Manager != a.Manager) {
			owners = append(owners, entry)
		}
	}
	return owners
}

func sameOwners(a, b []metav1.ManagedFieldsEntry) bool {
	if len(a) != len(b) {
		return false
	}
	for _, entry := range a {
		if !slices.ContainsFunc(b, func(o metav1.ManagedFieldsEntry) bool { return sameEntry(o, entry) }) {
			return false
		}
	}
	return true
}

// differences names the fields in which two states of one object differ, status
// and what a server keeps left aside.
func differences(a, b *unstructured.Unstructured) []string {
	var paths []string
	collectDifferences("", essence(a), essence(b), &paths)
	sort.Strings(paths)
	return paths
}

func essence(obj *unstructured.Unstructured) map[string]any {
	out := make(map[string]any, len(obj.Object))
	for key, value := range obj.Object {
		if key != "metadata" && key != "status" {
			out[key] = value
		}
	}
	for key, in := range map[string]map[string]string{
		"labels": obj.GetLabels(), "annotations": obj.GetAnnotations(),
	} {
		kept := make(map[string]any)
		for name, value := range in {
			if !residue(name) || name == AnnotationOwner {
				kept[name] = value
			}
		}
		out["metadata."+key] = kept
	}
	return out
}

func collectDifferences(path string, a, b map[string]any, paths *[]string) {
	keys := make(map[string]bool, len(a)+len(b))
	for key := range a {
		keys[key] = true
	}
	for key := range b {
		keys[key] = true
	}
	for key := range keys {
		at := key
		if path != "" {
			at = path + "." + key
		}
		before, isMap := a[key].(map[string]any)
		after, areMaps := b[key].(map[string]any)
		if isMap && areMaps {
			collectDifferences(at, before, after, paths)
			continue
		}
		if !apiequality.Semantic.DeepEqual(a[key], b[key]) {
			*paths = append(*paths, at)
		}
	}
}

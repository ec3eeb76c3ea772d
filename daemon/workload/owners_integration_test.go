package workload

import (
	"encoding/json"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

const family = `
---
{apiVersion: GROUP/v1, kind: Widget, metadata: {name: parent, namespace: NS, uid: "1"}}
---
{apiVersion: v1, kind: Secret, metadata: {name: password, namespace: NS, ownerReferences: [{apiVersion: GROUP/v1, kind: Widget, name: parent, uid: "1", controller: true}]}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: lent, namespace: NS, ownerReferences: [{apiVersion: GROUP/v1, kind: Widget, name: parent, uid: "1"}]}}
`

// TestTie gives objects to the owners that they had, by the UIDs of here, and only
// those that the pair itself keeps.
func TestTie(t *testing.T) {
	c := cluster(t, nil)
	define(t, c, "owners.test", "Widget")
	objects, err := Decode([]byte(inNamespace(family, "family", "owners.test")))
	if err != nil {
		t.Fatal(err)
	}
	namespace(t, c, "kin")
	o := options()
	o.Namespaces = map[string]string{"family": "kin"}
	out, err := Transform(objects, o)
	if err != nil {
		t.Fatal(err)
	}
	apply := ApplyOptions{FieldManager: "godwit", Owner: "pair"}
	var records []Applied
	for i := range out.Objects {
		done, err := Apply(t.Context(), c, out.Objects[i].Unstructured, apply)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, done)
	}
	parent, password, lent := find(t, c, RefOf(&out.Objects[0].Unstructured)), RefOf(&out.Objects[1].Unstructured), RefOf(&out.Objects[2].Unstructured)
	// Somebody has the ConfigMap by now.
	annotateLive(t, c, lent, AnnotationOwner, "another")
	for range 2 {
		before := find(t, c, password).GetResourceVersion()
		for i := range out.Objects {
			if err := Tie(t.Context(), c, &out.Objects[i], apply); err != nil {
				t.Fatal(err)
			}
		}
		got := find(t, c, password)
		owner := metav1.GetControllerOf(got)
		if owner == nil || owner.UID != parent.GetUID() || owner.Name != "parent" || len(got.GetOwnerReferences()) != 1 {
			t.Fatalf("the Secret has the owners %v, want the Widget %s", got.GetOwnerReferences(), parent.GetUID())
		}
		if owners := find(t, c, lent).GetOwnerReferences(); len(owners) != 0 {
			t.Errorf("what another keeps was tied to %v", owners)
		}
		if again := Unchanged; before == got.GetResourceVersion() {
			// The second time round: nothing is written, nor by the next run.
			for i := range out.Objects[:2] {
				done, err := Apply(t.Context(), c, out.Objects[i].Unstructured, apply)
				if err != nil || done.Action != again {
					t.Errorf("%s: %s, %v", done.Ref, done.Action, err)
				}
			}
		}
	}
	if owner := metav1.GetControllerOf(find(t, c, password)); owner == nil {
		t.Error("the next run has untied the Secret")
	}
	// A tie is the run's own, and keeps nobody from taking it back.
	for i := len(records) - 1; i >= 0; i-- {
		record := records[i]
		if i == 1 {
			record.After = nil // As after a crash.
		}
		if record.Ref == lent {
			continue
		}
		if err := Undo(t.Context(), c, record, UndoOptions{}); err != nil {
			t.Error(err)
		}
	}
	requireGone(t, c, password)
}

// TestTieToNobody ties nothing to an owner that is gone or another's.
func TestTieToNobody(t *testing.T) {
	c := cluster(t, nil)
	define(t, c, "orphans.test", "Widget")
	namespace(t, c, "orphans")
	objects, err := Decode([]byte(inNamespace(family, "orphans", "orphans.test")))
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Namespaces = nil
	out, err := Transform(objects, o)
	if err != nil {
		t.Fatal(err)
	}
	apply := ApplyOptions{FieldManager: "godwit", Owner: "pair"}
	if _, err := Apply(t.Context(), c, out.Objects[1].Unstructured, apply); err != nil {
		t.Fatal(err)
	}
	untied := func(when string) {
		t.Helper()
		if err := Tie(t.Context(), c, &out.Objects[1], apply); err != nil {
			t.Fatal(err)
		}
		if owners := find(t, c, RefOf(&out.Objects[1].Unstructured)).GetOwnerReferences(); len(owners) != 0 {
			t.Errorf("%s it was tied to %v", when, owners)
		}
	}
	untied("without an owner")
	if _, err := Apply(t.Context(), c, out.Objects[0].Unstructured, ApplyOptions{FieldManager: "godwit", Owner: "another pair"}); err != nil {
		t.Fatal(err)
	}
	untied("with an owner of another pair's")
}

func annotateLive(t *testing.T, c Cluster, ref Ref, key, value string) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
	if err != nil {
		t.Fatal(err)
	}
	resource, err := resourceOf(c, ref)
	if err == nil {
		_, err = resource.Patch(t.Context(), ref.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func requireGone(t *testing.T, c Cluster, ref Ref) {
	t.Helper()
	resource, err := resourceOf(c, ref)
	if err != nil {
		t.Fatal(err)
	}
	var live *unstructured.Unstructured
	if live, err = get(t.Context(), resource, ref.Name); err != nil || live != nil {
		t.Errorf("%s is still there: %v", ref, err)
	}
}

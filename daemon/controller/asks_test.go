package controller

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/godwit-io/godwit/daemon/workload"
)

// noise is text that does not compress.
func noise(r *rand.Rand, n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[r.IntN(64)]
	}
	return string(text)
}

// TestSplit cuts a large application between its namespaces, and within one only
// where it must.
func TestSplit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var text strings.Builder
	for _, name := range []string{"a", "b", "c"} {
		fmt.Fprintf(&text, "---\n{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n", name)
	}
	text.WriteString("---\n{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: urgent}, value: 1}\n")
	sizes := map[string]int{"a": 2, "b": 2, "c": 9}
	for _, name := range []string{"a", "b", "c"} {
		for i := range sizes[name] {
			fmt.Fprintf(&text, "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c%d, namespace: %s}, data: {a: %q}}\n", i, name, noise(r, 1000))
		}
	}
	objects, err := workload.Decode([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int][]string{
		1 << 20: {"a2 b2 c9"},
		5000:    {"a2", "b2", "c4", "c5"},
	} {
		packed, err := splitter{most: most}.split(objects)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range packed {
			if len(p) > most {
				t.Errorf("a question of %d bytes, and %d is the most", len(p), most)
			}
			got = append(got, contentOf(t, p))
		}
		if strings.Join(got, "; ") != strings.Join(want, "; ") {
			t.Errorf("questions of at most %d bytes: %q, want %q", most, got, want)
		}
	}
	if _, err := (splitter{most: 500}).split(objects); err == nil || !strings.Contains(err.Error(), "an object is too large") {
		t.Errorf("one object that is too large: %v", err)
	}
}

// contentOf counts a question's objects by namespace. The four without one have to
// be in each.
func contentOf(t *testing.T, packed []byte) string {
	t.Helper()
	plain, err := workload.Expand(packed)
	if err != nil {
		t.Fatal(err)
	}
	_, objects, err := workload.Unpack(plain)
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, o := range objects {
		counts[o.GetNamespace()]++
	}
	if counts[""] != 4 {
		t.Errorf("%d objects without a namespace are in a question, want all 4", counts[""])
	}
	var all []string
	for _, name := range []string{"a", "b", "c"} {
		if counts[name] > 0 {
			all = append(all, fmt.Sprint(name, counts[name]))
		}
	}
	return strings.Join(all, " ")
}

// TestSplitWithoutNamespaces asks about definitions alone, however many.
func TestSplitWithoutNamespaces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var objects []unstructured.Unstructured
	for i := range 4 {
		objects = append(objects, unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "example.com/v1", "kind": "Large", "metadata": map[string]any{"name": fmt.Sprint("l", i)}, "data": noise(r, 1000),
		}})
	}
	packed, err := splitter{most: 2500}.split(objects)
	if err != nil || len(packed) != 2 {
		t.Fatalf("%d questions: %v", len(packed), err)
	}
}

// TestAddDetails tells once what several answers tell.
func TestAddDetails(t *testing.T) {
	class := workload.Outlook{Ref: workload.Ref{Group: "scheduling.k8s.io", Version: "v1", Kind: "PriorityClass", Name: "urgent"}, Action: workload.Created}
	web := workload.Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "a", Name: "web"}
	api := workload.Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "b", Name: "api"}
	part := func(user workload.Ref) []byte {
		data, err := json.Marshal(workload.Plan{
			Objects:  []workload.Outlook{class, {Ref: user, Action: workload.Created}},
			LeftOut:  []workload.Skipped{{Ref: class.Ref, Rule: "unserved"}},
			Lacks:    []workload.Lack{{Ref: class.Ref, Reason: "NoNode", Message: "m"}},
			Images:   []workload.Image{{Name: "busybox", Known: workload.ImageOnNode, Users: []workload.Ref{user}}},
			Warnings: []string{"w"},
		})
		var details []byte
		if err == nil {
			details, err = workload.Compress(data)
		}
		if err != nil {
			t.Fatal(err)
		}
		return details
	}
	var plan workload.Plan
	for _, user := range []workload.Ref{web, api} {
		if err := addDetails(&plan, part(user)); err != nil {
			t.Fatal(err)
		}
	}
	if len(plan.Objects) != 3 || len(plan.LeftOut) != 1 || len(plan.Lacks) != 1 || len(plan.Warnings) != 1 || len(plan.Images) != 1 || len(plan.Images[0].Users) != 2 {
		t.Errorf("%+v", plan)
	}
}

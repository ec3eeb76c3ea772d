package workload

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/godwit-io/godwit/daemon/workload/convert"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// shownCase is one of the golden cases of the chain.
type shownCase struct {
	name    string
	in      []unstructured.Unstructured
	options TransformOptions
}

// shownCases are all of them, as the tests of the golden files run them.
func shownCases(t *testing.T) []shownCase {
	t.Helper()
	var all []shownCase
	for _, in := range filesLike(t, "testdata/transform/*.in.yaml") {
		for _, starts := range []bool{false, true} {
			o := options()
			o.StartApplications = starts
			all = append(all, shownCase{fmt.Sprintf("%s, starts %v", in, starts), objectsOf(t, in), o})
		}
	}
	for _, in := range filesLike(t, "testdata/edits/*/in.yaml") {
		all = append(all, shownCase{in, objectsOf(t, in), editOptions(t, filepath.Dir(in))})
	}
	o := options()
	o.Namespaces, o.Registrations = nil, registrations()
	return append(all, shownCase{"testdata/hold/in.yaml", objectsOf(t, "testdata/hold/in.yaml"), o})
}

func filesLike(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no files like %s: %v", pattern, err)
	}
	return found
}

// TestEveryStepIsShown leaves each step out of the chain in turn: a golden file
// has to become another.
func TestEveryStepIsShown(t *testing.T) {
	cases := shownCases(t)
	whole := make([]string, len(cases))
	for i, c := range cases {
		out, err := transformBy(chain(), c.in, c.options)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		whole[i] = outcome(t, out)
	}
	for n, left := range chain() {
		steps := slices.Delete(chain(), n, n+1)
		shown := slices.ContainsFunc(cases, func(c shownCase) bool {
			out, err := transformBy(steps, c.in, c.options)
			i := slices.IndexFunc(cases, func(other shownCase) bool { return other.name == c.name })
			return err != nil || outcome(t, out) != whole[i]
		})
		if !shown {
			t.Errorf("the step %q makes no difference to any golden file: add an object that needs it", left.name)
		}
	}
}

// outcome is a report with the stamps.
func outcome(t *testing.T, out Transformed) string {
	t.Helper()
	data, err := Encode(out.Plain())
	if err != nil {
		t.Fatal(err)
	}
	return string(report(t, out)) + string(data)
}

// TestEveryConversionIsShown wants each row of the table of removed API versions
// followed in the golden files, but for those to what is removed too by now, which
// TestAnOlderTarget follows.
func TestEveryConversionIsShown(t *testing.T) {
	shown := make(map[[2]schema.GroupVersionKind]bool)
	for _, c := range shownCases(t) {
		out, err := Transform(c.in, c.options)
		if err != nil {
			t.Fatal(err)
		}
		for i := range out.Objects {
			shown[[2]schema.GroupVersionKind{out.Objects[i].From.GVK(), out.Objects[i].GroupVersionKind()}] = true
		}
	}
	for _, step := range convert.Table() {
		if today(step.To) && !shown[[2]schema.GroupVersionKind{step.From, step.To}] {
			t.Errorf("no golden file shows how %s becomes %s", step.From, step.To.GroupVersion())
		}
	}
}

// TestEveryRegistrationIsShown wants each custom resource that is held without
// being told among the golden files.
func TestEveryRegistrationIsShown(t *testing.T) {
	shown := make(map[schema.GroupKind]bool)
	for _, obj := range objectsOf(t, "testdata/hold/in.yaml") {
		shown[obj.GroupVersionKind().GroupKind()] = true
	}
	for _, r := range builtIns() {
		if kind := (schema.GroupKind{Group: r.Group, Kind: r.Kind}); !shown[kind] {
			t.Errorf("no golden file shows how %s is held", kind)
		}
	}
}

// TestAnOlderTarget brings a version to a target that has not yet the one of today.
func TestAnOlderTarget(t *testing.T) {
	objects, err := Decode([]byte(`{apiVersion: batch/v2alpha1, kind: CronJob, metadata: {name: old, namespace: cms}, spec: {schedule: "@daily"}}`))
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Serves = func(gvk schema.GroupVersionKind) bool { return gvk.GroupVersion().String() == "batch/v1beta1" }
	out := transformed(t, objects, o)
	if got := out[0].GetAPIVersion(); got != "batch/v1beta1" {
		t.Errorf("it became %s", got)
	}
	requireSettled(t, out, o)
}

// TestRulesGolden shows for each rule by which something is left out what it
// leaves out, in the words of the plan.
func TestRulesGolden(t *testing.T) {
	selection := Selection{ExcludeSelectors: map[string]string{"move": "never"}, ExcludeResourceTypes: []string{"unwanted"}}
	var text bytes.Buffer
	told := make(map[string]bool)
	tell := func(what string, r *Rule) {
		if r == nil {
			fmt.Fprintf(&text, "%s moves\n", what)
			return
		}
		told[r.Name] = true
		fmt.Fprintf(&text, "%s: %s: %s\n", what, r.Name, r.Reason)
	}
	for line := range strings.Lines(fileOf(t, "testdata/rules/kinds.txt")) {
		fields := strings.Fields(line)
		k := kind{gvk: schema.FromAPIVersionAndKind(fields[0], fields[1]), resource: strings.ToLower(fields[1]) + "s"}
		tell(strings.TrimSpace(line), leavesOutKind(wishOf(selection), k))
	}
	v := newView(selection, objectsOf(t, "testdata/rules/objects.yaml"))
	for i := range v.objects {
		tell(RefOf(&v.objects[i]).String(), v.leavesOut(i))
	}
	selection.ResourceSelectors = nil
	chosen := newView(selection, objectsOf(t, "testdata/rules/objects.yaml")[:1])
	chosen.selectors = []selector{{kind: schema.GroupKind{Kind: "Service"}}}
	tell("of Services alone, "+RefOf(&chosen.objects[0]).String(), chosen.leavesOut(0))
	golden(t, "testdata/rules/left.txt", text.Bytes())
	for _, r := range Rules() {
		// These are the server's answers, and have tests on a real one.
		if byServer := []string{RuleForbidden, RuleNotServed, RuleClusterScoped}; !told[r.Name] && !slices.Contains(byServer, r.Name) {
			t.Errorf("nothing shows what the rule %s leaves out", r.Name)
		}
	}
}

// TestImagesOfEveryWorkload finds the eight kinds of the document that the golden
// files of images change.
func TestImagesOfEveryWorkload(t *testing.T) {
	shown := make(map[string]bool)
	out, err := Transform(objectsOf(t, "testdata/edits/dce-images/in.yaml"), editOptions(t, "testdata/edits/dce-images"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range out.Objects {
		for _, container := range shape.Containers(&out.Objects[i].Unstructured) {
			if shape.Text(container, "image") == "2.2.2.2:3000/abc:test" {
				shown[out.Objects[i].GetKind()] = true
			}
		}
	}
	for _, kind := range []string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"} {
		if !shown[kind] {
			t.Errorf("no image of a %s is changed", kind)
		}
	}
}

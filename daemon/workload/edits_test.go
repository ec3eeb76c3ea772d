package workload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/godwit-io/godwit/daemon/workload/dce"
)

// today is a cluster that serves no removed version.
func today(gvk schema.GroupVersionKind) bool {
	return gvk.Group != "extensions" && !strings.Contains(gvk.Version, "beta") && !strings.Contains(gvk.Version, "beat") && !strings.Contains(gvk.Version, "alpha")
}

func instructionsOf(t *testing.T, path string) Instructions {
	t.Helper()
	var i Instructions
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return i
	}
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&i); err != nil {
		t.Fatal(err)
	}
	return i
}

// localOf sorts ConfigMaps by their labels, as the target's lists do.
func localOf(t *testing.T, path string) Local {
	t.Helper()
	var local Local
	if _, err := os.Stat(path); err != nil {
		return local
	}
	for _, cm := range objectsOf(t, path) {
		if cm.GetLabels()[dce.LabelPlugin] == dce.LabelValue {
			local.Plugins = append(local.Plugins, cm)
		}
		if cm.GetLabels()[dce.LabelImages] == dce.LabelValue {
			local.Images = append(local.Images, cm)
		}
	}
	return local
}

// editOptions are those of one case's folder.
func editOptions(t *testing.T, dir string) TransformOptions {
	t.Helper()
	o := options()
	o.Instructions = instructionsOf(t, filepath.Join(dir, "instructions.yaml"))
	o.StartApplications = true
	o.Serves = today
	var err error
	if o.Edits, err = ReadEdits(o.Instructions, localOf(t, filepath.Join(dir, "local.yaml"))); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestEditsGolden holds each sort of rule to what it makes of objects, and what is
// told about it.
func TestEditsGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/edits/*/in.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, in := range cases {
		dir := filepath.Dir(in)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			o := editOptions(t, dir)
			out, err := Transform(objectsOf(t, in), o)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(dir, "out.yaml"), report(t, out))
			requireSettled(t, out.Plain(), o)
		})
	}
}

// report is what became of the objects, each below what is told about it.
func report(t *testing.T, out Transformed) []byte {
	t.Helper()
	var text bytes.Buffer
	for _, warning := range out.Warnings {
		fmt.Fprintf(&text, "# warning: %s\n", warning)
	}
	for _, left := range out.LeftOut {
		fmt.Fprintf(&text, "# left out: %s by %s: %s\n", left.Ref, left.Rule, left.Reason)
	}
	for i := range out.Objects {
		for _, by := range out.Objects[i].By {
			fmt.Fprintf(&text, "# by %s\n", by)
		}
		for _, rewritten := range out.Objects[i].Rewritten {
			fmt.Fprintf(&text, "# followed %s\n", rewritten)
		}
		for _, owner := range out.Objects[i].Owners {
			fmt.Fprintf(&text, "# belongs to %s, controller: %v\n", owner.Ref, owner.Controller)
		}
		shown := out.Objects[i].DeepCopy()
		removeAnnotations(shown, AnnotationMigrated, AnnotationMigrationName, AnnotationMigrationNamespace, AnnotationMigrationTime)
		data, err := Encode([]unstructured.Unstructured{*shown})
		if err != nil {
			t.Fatal(err)
		}
		text.Write(data)
	}
	return text.Bytes()
}

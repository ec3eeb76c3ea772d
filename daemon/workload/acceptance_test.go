package workload

import (
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

func fileOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestSpiderpool follows the rules of the document as they stand there, in a
// ConfigMap as its users make it.
func TestSpiderpool(t *testing.T) {
	const dir = "testdata/edits/dce-spiderpool/"
	o := options()
	o.Instructions, o.Serves = Instructions{StartApplications: true}, today
	var err error
	if o.Edits, err = ReadEdits(o.Instructions, Local{Plugins: []unstructured.Unstructured{
		configMap("velero-plugin-for-migration", nil, map[string]string{"velero-plugin-for-migration": fileOf(t, "testdata/acceptance/dce-spiderpool.yaml")}),
	}}); err != nil {
		t.Fatal(err)
	}
	out, err := Transform(objectsOf(t, dir+"objects.yaml"), o)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, dir+"out.yaml", report(t, out))
	requireSettled(t, out.Plain(), o)
}

// TestStorksTransformation follows the ResourceTransformation of a user of stork.
func TestStorksTransformation(t *testing.T) {
	var rule struct {
		Metadata struct{ Name, Namespace string } `json:"metadata"`
		Specs    api.ResourceTransformationSpec   `json:"specs"`
	}
	for _, document := range strings.Split(fileOf(t, "testdata/acceptance/stork-schedule.yaml"), "\n---\n") {
		if strings.Contains(document, "kind: ResourceTransformation") {
			if err := yaml.UnmarshalStrict([]byte(strings.SplitN(document, "\n", 3)[2]), &rule); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := options()
	o.Namespaces = nil
	o.Transformations = []Transformation{{Namespace: rule.Metadata.Namespace, Name: rule.Metadata.Name, Spec: rule.Specs}}
	services, err := Decode([]byte(`
{apiVersion: v1, kind: Service, metadata: {name: blog, namespace: cms, labels: {app: wordpress}}, spec: {type: ClusterIP, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: other, namespace: cms}, spec: {type: ClusterIP, ports: [{port: 80}]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	out, err := Transform(services, o)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"LoadBalancer", "ClusterIP"} {
		if got := shape.Text(out.Objects[i].Object, "spec", "type"); got != want {
			t.Errorf("%s is a %s, want %s", out.Objects[i].GetName(), got, want)
		}
	}
}

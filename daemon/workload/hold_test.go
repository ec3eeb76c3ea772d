package workload

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func registrations() []api.ApplicationResource {
	var engine, fragile api.ApplicationResource
	engine.Group, engine.Version, engine.Kind = "example.com", "v1", "Engine"
	engine.SuspendOptions = api.SuspendOptions{Path: "spec.mode", Type: "string", Value: "Parked"}
	engine.CustomSuspendOptions = []api.SuspendOptions{{Path: "spec.cold.standby", Type: "bool"}}
	fragile.Group, fragile.Version, fragile.Kind = "example.com", "v1", "Fragile"
	fragile.StashStrategy.StashCR = true
	return []api.ApplicationResource{engine, fragile}
}

// TestHoldGolden holds custom resources and autoscalers, and starts them again.
func TestHoldGolden(t *testing.T) {
	in := objectsOf(t, "testdata/hold/in.yaml")
	o := options()
	o.Namespaces, o.Registrations = nil, registrations()
	out, err := Transform(in, o)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata/hold", "held.yaml"), report(t, out))
	held := out.Plain()
	requireSettled(t, held, o)
	o.StartApplications = true
	direct := transformed(t, in, o)
	later := transformed(t, held, o)
	golden(t, filepath.Join("testdata/hold", "started.yaml"), report(t, Transformed{Objects: movedOf(direct)}))
	for i := range later {
		if later[i].GetKind() == "ConfigMap" || later[i].GetName() == "other-spelling" {
			continue // One was put away, the other keeps the label of the hold.
		}
		if !reflect.DeepEqual(later[i].Object, direct[i].Object) {
			t.Errorf("%s: started later it is\n%v\nand at once\n%v", RefOf(&direct[i]), later[i].Object, direct[i].Object)
		}
	}
}

func movedOf(objects []unstructured.Unstructured) []Moved {
	out := make([]Moved, 0, len(objects))
	for _, obj := range objects {
		out = append(out, Moved{Unstructured: obj})
	}
	return out
}

func TestBadRegistrations(t *testing.T) {
	for name, tc := range map[string]struct {
		option api.SuspendOptions
		want   string
	}{
		"path":  {api.SuspendOptions{Path: "spec..x", Type: "int"}, "ApplicationRegistration of Engine.example.com: suspendOptions: path: "},
		"type":  {api.SuspendOptions{Path: "spec.x", Type: "float"}, `type: "float" is unknown`},
		"value": {api.SuspendOptions{Path: "spec.x", Type: "bool", Value: "maybe"}, `value: "maybe" is neither true nor false`},
	} {
		r := registrations()[0]
		r.SuspendOptions = tc.option
		if _, err := ReadEdits(Instructions{Registrations: []api.ApplicationResource{r}}, Local{}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	objects, err := Decode([]byte("{apiVersion: rabbitmq.com/v1beta1, kind: RabbitmqCluster, metadata: {name: r, namespace: cms}, spec: {replicas: many}}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Transform(objects, options()); err == nil || !strings.Contains(err.Error(), "spec.replicas: the field is no int") {
		t.Errorf("got %v", err)
	}
}

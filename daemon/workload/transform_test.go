package workload

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

var update = flag.Bool("update", false, "write the golden files anew")

// options exchange two storage classes and two namespaces, the hardest maps to
// apply twice.
func options() TransformOptions {
	return TransformOptions{
		Instructions: Instructions{
			Namespaces:     map[string]string{"cms": "shop", "shop": "cms"},
			StorageClasses: map[string]string{"fast": "slow", "slow": "fast"},
		},
		MigrationName:      "move",
		MigrationNamespace: "cms",
		Time:               time.Date(2026, 4, 5, 6, 7, 8, 0, time.FixedZone("CEST", 7200)),
		Volumes: map[types.NamespacedName]ClaimVolume{
			{Namespace: "shop", Name: "data"}: {PersistentVolume: "pv-on-the-target"},
		},
	}
}

func objectsOf(t *testing.T, path string) []unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Decode(data)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return objects
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got) {
		t.Errorf("%s differs (-update writes it anew); got:\n%s", path, got)
	}
}

func TestTransformGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/transform/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	for _, input := range inputs {
		for _, mode := range []string{"held", "started"} {
			name := strings.TrimSuffix(filepath.Base(input), ".in.yaml") + "." + mode
			t.Run(name, func(t *testing.T) {
				o := options()
				o.StartApplications = mode == "started"
				in := objectsOf(t, input)
				kept := objectsOf(t, input)
				out := transformed(t, in, o)
				if !reflect.DeepEqual(in, kept) {
					t.Error("Transform changed its argument")
				}
				data, err := Encode(out)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join("testdata/transform", name+".yaml"), data)
				requireSettled(t, out, o)
			})
		}
	}
}

func transformed(t *testing.T, objects []unstructured.Unstructured, o TransformOptions) []unstructured.Unstructured {
	t.Helper()
	out, err := Transform(objects, o)
	if err != nil {
		t.Fatal(err)
	}
	return out.Plain()
}

// requireSettled transforms what was transformed.
func requireSettled(t *testing.T, once []unstructured.Unstructured, o TransformOptions) {
	t.Helper()
	twice := transformed(t, once, o)
	for i := range once {
		if !reflect.DeepEqual(once[i].Object, twice[i].Object) {
			a, _ := Encode(once[i : i+1])
			b, _ := Encode(twice[i : i+1])
			t.Errorf("not idempotent; once:\n%s\ntwice:\n%s", a, b)
		}
	}
}

// TestTransformIsIdempotent mixes the fields of the golden inputs at random.
func TestTransformIsIdempotent(t *testing.T) {
	var seeds []unstructured.Unstructured
	inputs, _ := filepath.Glob("testdata/transform/*.in.yaml")
	for _, input := range inputs {
		seeds = append(seeds, objectsOf(t, input)...)
	}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var objects []unstructured.Unstructured
		for n := range 3 {
			obj := mutate(r, seeds)
			if n > 0 {
				obj.SetName(fmt.Sprintf("%s-%d", obj.GetName(), n))
			}
			objects = append(objects, obj)
		}
		o := options()
		o.StartApplications = r.IntN(2) == 0
		o.SkipServiceUpdate = r.IntN(2) == 0
		if r.IntN(2) == 0 {
			o.Namespaces = map[string]string{"cms": "shop", "shop": "store", "other": "cms"}
			o.StorageClasses = map[string]string{"fast": "slow", "slow": "slower"}
		}
		requireSettled(t, transformed(t, objects, o), o)
		// A start after a hold must give what a start at once gives, but for the
		// label that a hold leaves.
		requireReversible(t, objects, o)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestRulesAreIdempotent has objects that are mixed at random go through each sort
// of users' rules.
func TestRulesAreIdempotent(t *testing.T) {
	for _, in := range filesLike(t, "testdata/edits/*/in.yaml") {
		dir := filepath.Dir(in)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			seeds := objectsOf(t, in)
			fitting := 0
			for seed := range uint64(400) {
				r := rand.New(rand.NewPCG(seed, 2))
				objects := []unstructured.Unstructured{mutate(r, seeds)}
				o := editOptions(t, dir)
				o.StartApplications = r.IntN(2) == 0
				once, err := Transform(objects, o)
				if err != nil {
					continue // A rule that cannot be followed stops the run.
				}
				fitting++
				requireSettled(t, once.Plain(), o)
				requireReversible(t, objects, o)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			if fitting < 100 {
				t.Errorf("the rules fit %d of 400 objects only", fitting)
			}
		})
	}
}

func requireReversible(t *testing.T, objects []unstructured.Unstructured, o TransformOptions) {
	t.Helper()
	o.StartApplications = false
	heldFirst := transformed(t, objects, o)
	o.StartApplications = true
	later, direct := transformed(t, heldFirst, o), transformed(t, objects, o)
	for i := range later {
		a, b := later[i].DeepCopy(), direct[i].DeepCopy()
		for _, obj := range []*unstructured.Unstructured{a, b} {
			dropLabels(shape.Child(obj.Object, "metadata"), AnnotationMigrated)
			if spec := shape.Child(obj.Object, "spec"); spec["replicas"] == nil && setsReplicas(obj) {
				spec["replicas"] = int64(1)
			}
			if spec := shape.Child(obj.Object, "spec"); spec != nil && spec["suspend"] == nil {
				delete(spec, "suspend")
			}
		}
		if !reflect.DeepEqual(a.Object, b.Object) {
			x, _ := Encode([]unstructured.Unstructured{*a})
			y, _ := Encode([]unstructured.Unstructured{*b})
			t.Errorf("start after hold:\n%s\nstart at once:\n%s", x, y)
		}
	}
}

func setsReplicas(obj *unstructured.Unstructured) bool {
	switch obj.GetKind() {
	case "Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "DeploymentConfig":
		return true
	}
	return false
}

// mutate takes one object's kind and grafts parts of others of the same kind, or
// drops parts.
func mutate(r *rand.Rand, seeds []unstructured.Unstructured) unstructured.Unstructured {
	obj := seeds[r.IntN(len(seeds))].DeepCopy()
	if r.IntN(2) == 0 && obj.GetNamespace() != "" {
		obj.SetNamespace([]string{"cms", "shop", "other", "unnamed"}[r.IntN(4)])
	}
	donor := seeds[r.IntN(len(seeds))].DeepCopy()
	if r.IntN(2) == 0 {
		obj.SetAnnotations(donor.GetAnnotations())
	}
	if r.IntN(2) == 0 {
		obj.SetLabels(donor.GetLabels())
	}
	spec := shape.Child(obj.Object, "spec")
	if donor.GetKind() == obj.GetKind() {
		for key, value := range shape.Child(donor.Object, "spec") {
			if r.IntN(2) == 0 {
				spec[key] = value
			}
		}
	}
	for _, key := range []string{"replicas", "suspend", "selector", "ports", "clusterIP", "storageClassName"} {
		if r.IntN(6) == 0 {
			delete(spec, key)
		}
	}
	return *obj
}

func TestTransformNeedsItsStamp(t *testing.T) {
	for name, spoil := range map[string]func(*TransformOptions){
		"name":      func(o *TransformOptions) { o.MigrationName = "" },
		"namespace": func(o *TransformOptions) { o.MigrationNamespace = "" },
		"time":      func(o *TransformOptions) { o.Time = time.Time{} },
	} {
		o := options()
		spoil(&o)
		if _, err := Transform(nil, o); err == nil {
			t.Errorf("no error without the %s", name)
		}
	}
}

// TestTransformOfAnotherRun holds for a failback: the source's objects carry the
// stamp of the run that brought them, and must be mapped all the same.
func TestTransformOfAnotherRun(t *testing.T) {
	in := objectsOf(t, "testdata/transform/objects.in.yaml")
	o := options()
	there := transformed(t, in, o)
	o.Time = o.Time.Add(time.Hour)
	back := transformed(t, there, o)
	for i := range in {
		if in[i].GetNamespace() != back[i].GetNamespace() {
			t.Errorf("%s came back to %s", RefOf(&in[i]), back[i].GetNamespace())
		}
	}
}

func TestTransformKeepsObjectsApart(t *testing.T) {
	objects, err := Decode([]byte(`
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: a}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: b}}
`))
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Namespaces = map[string]string{"a": "c", "b": "c"}
	want := "ConfigMap a/settings and ConfigMap b/settings would both become ConfigMap c/settings"
	if _, err := Transform(objects, o); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}
}

func TestTransformNamesWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct{ document, want string }{
		"replicas": {"{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: cms, annotations: {stork.libopenstorage.org/migrationReplicas: many}}, spec: {replicas: 0}}",
			`transform Deployment.apps cms/web: start or hold: annotation stork.libopenstorage.org/migrationReplicas is "many", not a number of replicas: correct or remove it`},
		"suspend": {"{apiVersion: batch/v1, kind: CronJob, metadata: {name: c, namespace: cms, annotations: {godwit.io/suspend: perhaps}}, spec: {suspend: true}}",
			`annotation godwit.io/suspend is "perhaps", neither true nor false`},
		"daemon set": {"{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d, namespace: cms}}", "no spec.template.spec"},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := Decode([]byte(tc.document))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Transform(objects, options()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

package workload

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

const turnable = `
{apiVersion: apps/v1, kind: Deployment, metadata: {name: front}, spec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: idle}, spec: {replicas: 0, selector: {matchLabels: {a: i}}, template: {metadata: {labels: {a: i}}, spec: {containers: [{name: c, image: i}]}}}}
---
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {replicas: 2, serviceName: db, selector: {matchLabels: {a: d}}, template: {metadata: {labels: {a: d}}, spec: {containers: [{name: c, image: i}]}}}}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}, spec: {selector: {matchLabels: {a: a}}, template: {metadata: {labels: {a: a}}, spec: {nodeSelector: {disk: ssd}, containers: [{name: c, image: i}]}}}}
---
{apiVersion: v1, kind: ReplicationController, metadata: {name: old}, spec: {replicas: 1, selector: {a: o}, template: {metadata: {labels: {a: o}}, spec: {containers: [{name: c, image: i}]}}}}
---
{apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly}, spec: {schedule: "0 1 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}
---
{apiVersion: batch/v1, kind: CronJob, metadata: {name: paused}, spec: {suspend: true, schedule: "0 1 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: bare}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: front}, spec: {minReplicas: 2, maxReplicas: 4, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: front}}}
---
{apiVersion: turn.test/v1, kind: Engine, metadata: {name: engine}, spec: {mode: Fast}}
---
{apiVersion: turn.test/v1, kind: Fragile, metadata: {name: fragile}, spec: {size: 3}}
`

func turnRegistrations() []api.ApplicationResource {
	all := registrations()
	for i := range all {
		all[i].Group = "turn.test"
	}
	return all
}

// heldIn puts the documents into a namespace as a Migration brings them that does
// not start what it brings.
func heldIn(t *testing.T, c Cluster, namespace, documents string) {
	t.Helper()
	put(t, c, "{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+"}}")
	objects, err := Decode([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	for i := range objects {
		objects[i].SetNamespace(namespace)
	}
	o := options()
	o.Namespaces, o.Volumes, o.Registrations = nil, nil, turnRegistrations()
	for _, obj := range transformed(t, objects, o) {
		done, err := Apply(t.Context(), c, obj, ApplyOptions{FieldManager: "godwit", Owner: "pair"})
		if err != nil {
			t.Fatalf("%s: %v: %+v", RefOf(&obj), err, done)
		}
	}
}

func turnedLines(all []Turned) []string {
	var lines []string
	for _, t := range all {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", t.Ref.Kind, t.Ref.Name, t.Setting, t.Value)))
	}
	return lines
}

func remove(t *testing.T, c Cluster, ref Ref) {
	t.Helper()
	resource, err := resourceOf(c, ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := resource.Delete(t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func at(obj *unstructured.Unstructured, path ...string) any {
	value, _, err := unstructured.NestedFieldNoCopy(obj.Object, path...)
	if err != nil {
		return err
	}
	return value
}

func TestTurn(t *testing.T) {
	c := cluster(t, nil)
	define(t, c, "turn.test", "Engine")
	define(t, c, "turn.test", "Fragile")
	heldIn(t, c, "turn", turnable)
	// What no Migration wrote, and what a controller makes of what one wrote.
	own := strings.ReplaceAll(strings.SplitN(turnable, "---", 2)[0], "name: front", "name: own, namespace: turn")
	put(t, c, own+`
---
{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: made, namespace: turn, annotations: {stork.libopenstorage.org/migrated: "true", stork.libopenstorage.org/migrationReplicas: "3"},
 ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: own, controller: true}]}, spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}
`)
	left := func() {
		t.Helper()
		for name, kind := range map[string]string{"own": "Deployment", "made": "ReplicaSet"} {
			obj := find(t, c, Ref{Group: "apps", Version: "v1", Kind: kind, Namespace: "turn", Name: name})
			if want := map[string]int64{"own": 3, "made": 1}[name]; at(obj, "spec", "replicas") != want {
				t.Errorf("%s %s has %v replicas, want %d", kind, name, at(obj, "spec", "replicas"), want)
			}
		}
	}
	turn := func(start bool, want ...string) {
		t.Helper()
		got, err := Turn(t.Context(), c, "turn", turnRegistrations(), start)
		if err != nil {
			t.Fatal(err)
		}
		lines := turnedLines(got)
		slices.Sort(lines)
		slices.Sort(want)
		if !slices.Equal(lines, want) {
			t.Errorf("start %t turned\n%s\nwant\n%s", start, strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
		left()
	}
	field := func(want any, ref Ref, path ...string) {
		t.Helper()
		ref.Namespace = "turn"
		if got := at(find(t, c, ref), path...); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %s is %v, want %v", ref, strings.Join(path, "."), got, want)
		}
	}
	deployment := Ref{Group: "apps", Version: "v1", Kind: "Deployment", Name: "front"}
	paused := Ref{Group: "batch", Version: "v1", Kind: "CronJob", Name: "paused"}
	engine := Ref{Group: "turn.test", Version: "v1", Kind: "Engine", Name: "engine"}

	turn(true, "Fragile fragile stash", "Engine engine fields", "Deployment front replicas 3", "Deployment idle replicas 0", "StatefulSet db replicas 2",
		"DaemonSet agent hold", "ReplicationController old replicas 1", "CronJob nightly suspend false", "CronJob paused suspend true", "Pod bare hold")
	field(3, deployment, "spec", "replicas")
	field(true, paused, "spec", "suspend")
	field("Fast", engine, "spec", "mode")
	field(map[string]any{"disk": "ssd"}, Ref{Group: "apps", Version: "v1", Kind: "DaemonSet", Name: "agent"}, "spec", "template", "spec", "nodeSelector")
	field(3, Ref{Group: "turn.test", Version: "v1", Kind: "Fragile", Name: "fragile"}, "spec", "size")
	turn(true) // Once more changes nothing.

	// What the user chose meanwhile is what the next start gives back.
	edit(t, c, Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "turn", Name: "front"}, "user", `{"spec":{"replicas":5}}`)
	if _, err := Turn(t.Context(), c, "turn", turnRegistrations(), false); err == nil ||
		!strings.Contains(err.Error(), "stop Pod turn/bare: no workload made this pod") || !strings.Contains(err.Error(), "stop Fragile.turn.test turn/fragile: its kind is held by not being there") {
		t.Errorf("got %v", err)
	}
	left()
	field(0, deployment, "spec", "replicas")
	field("Parked", engine, "spec", "mode")
	for _, gone := range []Ref{{Version: "v1", Kind: "Pod", Namespace: "turn", Name: "bare"}, {Group: "turn.test", Version: "v1", Kind: "Fragile", Namespace: "turn", Name: "fragile"}} {
		remove(t, c, gone)
	}
	turn(false)
	turn(true, "Fragile fragile stash", "Engine engine fields", "Deployment front replicas 5", "Deployment idle replicas 0", "StatefulSet db replicas 2",
		"DaemonSet agent hold", "ReplicationController old replicas 1", "CronJob nightly suspend false", "CronJob paused suspend true")
}

// TestTurnTakesNothingFromWhoMayWriteConfigMaps has one make what its writer may not.
func TestTurnTakesNothingFromWhoMayWriteConfigMaps(t *testing.T) {
	c := cluster(t, nil)
	put(t, c, "{apiVersion: v1, kind: Namespace, metadata: {name: unstash}}")
	for name, inner := range map[string]string{
		"elsewhere": `{"apiVersion":"turn.test/v1","kind":"Engine","metadata":{"name":"e","namespace":"default"}}`,
		"rights":    `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"e","namespace":"unstash"}}`,
		"pod":       `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"e","namespace":"unstash"}}`,
	} {
		put(t, c, fmt.Sprintf(`{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, namespace: unstash, labels: {stork.libopenstorage.org/stash-cr: "true"}, annotations: {stork.libopenstorage.org/migrated: "true"}}, data: {cr-runtime-object: '%s'}}`, name, inner))
	}
	got, err := Turn(t.Context(), c, "unstash", turnRegistrations(), true)
	if err == nil || strings.Count(err.Error(), "only custom resources of namespace unstash are started from there") != 3 || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

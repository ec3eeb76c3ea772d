package workload

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

func asGodwit() ApplyOptions {
	return ApplyOptions{Conflicts: Conflicts{Resolution: "Overwrite"}, FieldManager: "godwit", Owner: "cms/prodcluster"}
}

func one(t *testing.T, document string) unstructured.Unstructured {
	t.Helper()
	objects, err := Decode([]byte(document))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	return objects[0]
}

func apply(t *testing.T, c Cluster, obj unstructured.Unstructured, want Action) Applied {
	t.Helper()
	got, err := Apply(t.Context(), c, obj, asGodwit())
	if err != nil {
		t.Fatal(err)
	}
	if got.Action != want {
		t.Fatalf("%s: %s, want %s", got.Ref, got.Action, want)
	}
	// A journal keeps records as JSON.
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var kept Applied
	if err := json.Unmarshal(data, &kept); err != nil {
		t.Fatal(err)
	}
	return kept
}

func undo(t *testing.T, c Cluster, a Applied) {
	t.Helper()
	for range 2 { // the second time it has nothing to do
		if err := Undo(t.Context(), c, a, UndoOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func namespace(t *testing.T, c Cluster, name string) {
	t.Helper()
	put(t, c, "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+"}}")
}

func TestApplyCreatesUpdatesAndRests(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "apply")
	obj := one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: apply, uid: of-the-source, resourceVersion: '7'}, data: {a: '1', b: '1'}}")
	first := apply(t, c, obj, Created)
	if first.Before != nil || first.After.GetAnnotations()[AnnotationOwner] != "cms/prodcluster" {
		t.Errorf("%+v", first)
	}
	apply(t, c, obj, Unchanged)
	obj.Object["data"] = map[string]any{"a": "2"}
	second := apply(t, c, obj, Updated)
	if got := second.After.Object["data"]; !reflect.DeepEqual(got, map[string]any{"a": "2"}) {
		t.Errorf("a field that the source no longer has stays: %v", got)
	}
	undo(t, c, second)
	if got := find(t, c, first.Ref).Object["data"]; !reflect.DeepEqual(got, map[string]any{"a": "1", "b": "1"}) {
		t.Errorf("after the undo: %v", got)
	}
	// The fields that came back are still Godwit's to change.
	undo(t, c, apply(t, c, obj, Updated))
	undo(t, c, first)
	if find(t, c, first.Ref) != nil {
		t.Error("what was created is still there")
	}
}

func TestApplyTakesOverAndGivesBack(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "takeover")
	before := put(t, c, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: takeover, labels: {by: hand}, annotations: {note: mine}}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: "web:1"}]}}
`)[0]
	obj := one(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: takeover, labels: {by: godwit}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: "web:2"}]}}
`)
	done := apply(t, c, obj, Updated)
	if len(differences(before, done.Before)) > 0 {
		t.Error("the record does not hold what stood there")
	}
	// The status moves on; that is nobody's change.
	live := find(t, c, done.Ref)
	live.Object["status"] = map[string]any{"observedGeneration": int64(9)}
	resource, _ := resourceOf(c, done.Ref)
	if _, err := resource.UpdateStatus(t.Context(), live, metav1.UpdateOptions{FieldManager: "kube-controller-manager"}); err != nil {
		t.Fatal(err)
	}
	undo(t, c, done)
	after := find(t, c, done.Ref)
	if paths := differences(before, after); len(paths) > 0 {
		t.Errorf("differs in %v", paths)
	}
	back := false
	for _, entry := range after.GetManagedFields() {
		if entry.Manager == "godwit" {
			t.Errorf("Godwit still owns %s", entry.FieldsV1)
		}
		back = back || sameEntry(entry, before.GetManagedFields()[0])
	}
	if !back {
		t.Errorf("the fields did not go back to their owner: %v", after.GetManagedFields())
	}
}

func TestUndoLeavesWhatOthersChanged(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "others")
	config := func(name, value string) unstructured.Unstructured {
		return one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: "+name+", namespace: others}, data: {a: '"+value+"'}}")
	}
	put(t, c, "{apiVersion: v1, kind: ConfigMap, metadata: {name: updated, namespace: others}, data: {a: '0'}}")
	created, updated := apply(t, c, config("created", "1"), Created), apply(t, c, config("updated", "1"), Updated)
	for _, done := range []Applied{created, updated} {
		edit(t, c, done.Ref, "alice", `{"data":{"b":"hers"}}`)
		err := Undo(t.Context(), c, done, UndoOptions{})
		var changed *ChangedError
		if !errors.As(err, &changed) || !slices.Equal(changed.Managers, []string{"alice"}) || !slices.Equal(changed.Paths, []string{"data.b"}) {
			t.Fatalf("%s: %v", done.Action, err)
		}
		if Retryable(err) {
			t.Error("trying again would not help")
		}
		if err := Undo(t.Context(), c, done, UndoOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	if find(t, c, created.Ref) != nil || !reflect.DeepEqual(find(t, c, updated.Ref).Object["data"], map[string]any{"a": "0"}) {
		t.Error("a forced undo did not undo")
	}
	// What stands there by the same name but is another object is never touched.
	created = apply(t, c, config("replaced", "1"), Created)
	resource, _ := resourceOf(c, created.Ref)
	if err := resource.Delete(t.Context(), "replaced", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	put(t, c, "{apiVersion: v1, kind: ConfigMap, metadata: {name: replaced, namespace: others}}")
	if err := Undo(t.Context(), c, created, UndoOptions{Force: true}); err != nil || find(t, c, created.Ref) == nil {
		t.Errorf("%v", err)
	}
	// What was updated and then deleted by somebody comes back only by force.
	updated = apply(t, c, config("updated", "2"), Updated)
	if err := resource.Delete(t.Context(), "updated", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := Undo(t.Context(), c, updated, UndoOptions{}); err == nil || find(t, c, updated.Ref) != nil {
		t.Errorf("%v", err)
	}
	if err := Undo(t.Context(), c, updated, UndoOptions{Force: true}); err != nil || find(t, c, updated.Ref) == nil {
		t.Errorf("%v", err)
	}
}

// TestApplyRace has somebody else write between the look and the write.
func TestApplyRace(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "race")
	obj := one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: race}, data: {a: ours}}")
	var intents []Action
	o := asGodwit()
	o.Record = func(_ context.Context, intent Applied) error {
		intents = append(intents, intent.Action)
		switch len(intents) {
		case 1:
			put(t, c, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: race}, data: {a: theirs}}")
		case 2:
			edit(t, c, intent.Ref, "alice", `{"data":{"a":"hers"}}`)
		}
		return nil
	}
	done, err := Apply(t.Context(), c, obj, o)
	if err != nil {
		t.Fatal(err)
	}
	if done.Action != Updated || shape.Text(done.Before.Object, "data", "a") != "hers" {
		t.Errorf("%s, before %v", done.Action, done.Before)
	}
	if !slices.Equal(intents, []Action{Created, Updated, Updated}) {
		t.Errorf("intents %v", intents)
	}
	if done, err = Apply(t.Context(), c, obj, o); err != nil || done.Action != Unchanged || len(intents) != 3 {
		t.Errorf("%s with %d records, %v", done.Action, len(intents), err)
	}
}

// TestUndoFromIntent undoes a write whose result was never recorded.
func TestUndoFromIntent(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "intent")
	put(t, c, "{apiVersion: v1, kind: ConfigMap, metadata: {name: old, namespace: intent}, data: {a: '0'}}")
	for _, name := range []string{"new", "old"} {
		obj := one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: "+name+", namespace: intent}, data: {a: '1'}}")
		var intent Applied
		o := asGodwit()
		refuse := errors.New("the journal is full")
		o.Record = func(_ context.Context, i Applied) error { intent = i; return refuse }
		if _, err := Apply(t.Context(), c, obj, o); !errors.Is(err, refuse) {
			t.Fatal(err)
		}
		undo(t, c, intent) // nothing was written
		o.Record = func(_ context.Context, i Applied) error { intent = i; return nil }
		if _, err := Apply(t.Context(), c, obj, o); err != nil {
			t.Fatal(err)
		}
		undo(t, c, intent)
	}
	if find(t, c, Ref{Version: "v1", Kind: "ConfigMap", Namespace: "intent", Name: "new"}) != nil {
		t.Error("what was created is still there")
	}
	if old := find(t, c, Ref{Version: "v1", Kind: "ConfigMap", Namespace: "intent", Name: "old"}); shape.Text(old.Object, "data", "a") != "0" {
		t.Error("what was updated is not as before")
	}
}

func TestApplyRefuses(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "refuse")
	stored := put(t, c, `
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: refuse}, spec: {accessModes: [ReadWriteOnce], storageClassName: a, resources: {requests: {storage: 1Gi}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: refuse}, spec: {ports: [{port: 80}]}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: once, namespace: refuse}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: "a:1"}]}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: refuse}
spec: {serviceName: a, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: "a:1"}]}}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b, namespace: refuse}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: a}}
---
{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: refuse}, immutable: true, data: {a: YQ==}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: refuse}, spec: {containers: [{name: a, image: "a:1"}]}}
`)
	for i, document := range []string{
		"{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: refuse}, spec: {storageClassName: b}}",
		"{apiVersion: v1, kind: Service, metadata: {name: web, namespace: refuse}, spec: {clusterIP: None, ports: [{port: 80}]}}",
		"{apiVersion: batch/v1, kind: Job, metadata: {name: once, namespace: refuse}, spec: {template: {spec: {containers: [{name: a, image: 'a:2'}]}}}}",
		"{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: refuse}, spec: {serviceName: b}}",
		"{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: b, namespace: refuse}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: b}}",
		"{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: refuse}, data: {a: Yg==}}",
		"{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: refuse}, spec: {nodeSelector: {a: b}}}",
	} {
		obj := one(t, document)
		_, err := Apply(t.Context(), c, obj, asGodwit())
		if !errors.Is(err, ErrImmutable) || Retryable(err) ||
			!strings.Contains(err.Error(), obj.GetName()+" -n refuse), or annotate it there") {
			t.Errorf("%s: %v", RefOf(&obj), err)
		}
		if got := find(t, c, RefOf(&obj)); got.GetUID() != stored[i].GetUID() {
			t.Errorf("%s was made anew", RefOf(&obj))
		}
	}
	invalid := one(t, "{apiVersion: v1, kind: Service, metadata: {name: bad, namespace: refuse}, spec: {ports: [{port: 0}]}}")
	if _, err := Apply(t.Context(), c, invalid, asGodwit()); err == nil || errors.Is(err, ErrImmutable) || Retryable(err) {
		t.Errorf("an invalid object: %v", err)
	}
	nowhere := one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: nowhere-yet}}")
	if _, err := Apply(t.Context(), c, nowhere, asGodwit()); !Retryable(err) || !strings.Contains(err.Error(), "apply ConfigMap nowhere-yet/c") {
		t.Errorf("a namespace that is not there yet: %v", err)
	}
	unknown := one(t, "{apiVersion: later.test/v1, kind: Later, metadata: {name: l, namespace: refuse}}")
	if _, err := Apply(t.Context(), c, unknown, asGodwit()); !Retryable(err) {
		t.Errorf("a kind that is not there yet: %v", err)
	}
	define(t, c, "later.test", "Later")
	apply(t, c, unknown, Created)
}

func TestApplyRespects(t *testing.T) {
	c := cluster(t, nil)
	put(t, c, `
{apiVersion: v1, kind: Namespace, metadata: {name: respect}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: kept, namespace: respect, annotations: {godwit.io/skip-resource: "true"}}, data: {a: theirs}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: leaving, namespace: respect, finalizers: [example.com/wait]}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: respect}, imagePullSecrets: [{name: theirs}], secrets: [{name: token}]}
`)
	kept := apply(t, c, one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: kept, namespace: respect}, data: {a: ours}}"), Kept)
	undo(t, c, kept)
	if shape.Text(find(t, c, kept.Ref).Object, "data", "a") != "theirs" {
		t.Error("skip-resource was not respected")
	}
	leaving := one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: leaving, namespace: respect}}")
	resource, _ := resourceOf(c, RefOf(&leaving))
	if err := resource.Delete(t.Context(), "leaving", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(t.Context(), c, leaving, asGodwit()); !errors.Is(err, ErrBeingDeleted) || !Retryable(err) {
		t.Errorf("%v", err)
	}
	account := one(t, "{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: respect}, imagePullSecrets: [{name: ours}, {name: theirs}]}")
	done := apply(t, c, account, Updated)
	if got := shape.List(done.After.Object, "imagePullSecrets"); len(got) != 2 || len(shape.List(done.After.Object, "secrets")) != 1 {
		t.Errorf("logins are not joined: %v", got)
	}
	apply(t, c, account, Unchanged)
	undo(t, c, done)
}

func TestUndoNeverDeletesData(t *testing.T) {
	c := cluster(t, nil)
	ns := apply(t, c, one(t, "{apiVersion: v1, kind: Namespace, metadata: {name: data}}"), Created)
	put(t, c, `
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-data}
spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], storageClassName: a, persistentVolumeReclaimPolicy: Delete, csi: {driver: d, volumeHandle: h}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-root-ca.crt, namespace: data}}
`)
	claim := apply(t, c, one(t, `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: data}
spec: {accessModes: [ReadWriteOnce], storageClassName: a, volumeName: pv-data, resources: {requests: {storage: 1Gi}}}
`), Created)
	for _, o := range []UndoOptions{{}, {Force: true}} {
		if err := Undo(t.Context(), c, claim, o); !errors.Is(err, ErrHoldsData) || !strings.Contains(err.Error(), "pv-data") {
			t.Errorf("a claim whose volume would go: %v", err)
		}
		if err := Undo(t.Context(), c, ns, o); !errors.Is(err, ErrHoldsData) || !strings.Contains(err.Error(), "PersistentVolumeClaim data/data") {
			t.Errorf("a namespace with a claim: %v", err)
		}
	}
	edit(t, c, Ref{Version: "v1", Kind: "PersistentVolume", Name: "pv-data"}, "agent", `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`)
	// The claim's own controllers fill it in; that is nobody's change.
	edit(t, c, claim.Ref, "kube-controller-manager", `{"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes"}}}`)
	undo(t, c, claim)
	undo(t, c, ns)
	if find(t, c, ns.Ref).GetDeletionTimestamp() == nil {
		t.Error("the namespace is not being deleted")
	}
}

// TestMoveAndUndo carries a whole application into another namespace, twice, and
// takes it back.
func TestMoveAndUndo(t *testing.T) {
	var writes atomic.Int32
	c := cluster(t, answering(func(r *http.Request) *http.Response {
		if r.Method != http.MethodGet && !strings.Contains(r.URL.RawQuery, "dryRun") {
			writes.Add(1)
		}
		return nil
	}))
	define(t, c, "move.test", "Widget")
	put(t, c, inNamespace(application+customApplication, "move", "move.test"))
	namespace(t, c, "moved")
	put(t, c, `
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: moved}, data: {a: theirs, b: theirs}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: bystander, namespace: moved}}
`)
	dump := func() string {
		got, err := Collect(t.Context(), c, Selection{Namespaces: []string{"moved"}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Objects {
			// What a server counts up with every write.
			for _, field := range []string{"resourceVersion", "generation"} {
				delete(shape.Child(got.Objects[i].Object, "metadata"), field)
			}
			entries := got.Objects[i].GetManagedFields()
			for j := range entries {
				entries[j].Time = nil
			}
			got.Objects[i].SetManagedFields(entries)
		}
		data, err := Encode(got.Objects)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before := dump()

	collected, err := Collect(t.Context(), c, Selection{Namespaces: []string{"move"}})
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Namespaces = map[string]string{"move": "moved"}
	changed := kept(t, c, transformed(t, collected.Objects, o))
	data, err := Encode(changed)
	if err != nil {
		t.Fatal(err)
	}
	carried, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(changed, carried) {
		t.Fatal("the objects changed on their way")
	}
	var journal []Applied
	run := func(record func(context.Context, Applied) error) (actions map[Action]int) {
		actions = make(map[Action]int)
		for _, wave := range Order(carried) {
			for _, obj := range wave.Objects {
				options := asGodwit()
				options.Record = record
				done, err := Apply(t.Context(), c, obj, options)
				if err != nil {
					t.Fatal(err)
				}
				actions[done.Action]++
				journal = append(journal, done)
			}
		}
		return actions
	}
	if got := run(nil); got[Created] != len(carried)-2 || got[Updated] != 2 {
		t.Fatalf("first run: %v", got)
	}
	if web := find(t, c, Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "moved", Name: "web"}); web == nil ||
		!reflect.DeepEqual(web.Object["spec"].(map[string]any)["replicas"], int64(0)) {
		t.Error("the workload is not held at zero")
	}
	widget := find(t, c, Ref{Group: "move.test", Version: "v1", Kind: "Widget", Namespace: "moved", Name: "parent"})
	if got := shape.Child(widget.Object, "spec")["size"]; got != int64(9007199254740993) {
		t.Errorf("a number changed on its way: %v", got)
	}
	first := journal
	writes.Store(0)
	if got := run(func(context.Context, Applied) error { t.Error("a record of no write"); return nil }); got[Unchanged] != len(carried) {
		t.Fatalf("second run: %v", got)
	}
	if writes.Load() != 0 {
		t.Errorf("a run that changes nothing wrote %d times", writes.Load())
	}
	slices.Reverse(first)
	for _, done := range first {
		undo(t, c, done)
	}
	clearFinalizers(t, c, "moved")
	if after := dump(); after != before {
		t.Errorf("after the undo:\n%s\nbefore the run:\n%s", after, before)
	}
}

// TestStartAfterHold starts on the target what was held there.
func TestStartAfterHold(t *testing.T) {
	c := cluster(t, nil)
	put(t, c, inNamespace(application, "start", ""))
	namespace(t, c, "started")
	collected, err := Collect(t.Context(), c, Selection{Namespaces: []string{"start"}, IncludeOptionalResourceTypes: []string{"Job"}})
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Namespaces = map[string]string{"start": "started"}
	objects := collected.Objects
	for _, o.StartApplications = range []bool{false, true} {
		objects = kept(t, c, transformed(t, objects, o))
		for _, wave := range Order(objects) {
			for _, obj := range wave.Objects {
				if _, err := Apply(t.Context(), c, obj, asGodwit()); err != nil {
					t.Fatal(err)
				}
			}
		}
		run := func(group, kind, name string, path ...string) any {
			obj := find(t, c, Ref{Group: group, Version: "v1", Kind: kind, Namespace: "started", Name: name})
			value, _, _ := unstructured.NestedFieldCopy(obj.Object, path...)
			return value
		}
		for what, pair := range map[string][2]any{
			"Deployment": {run("apps", "Deployment", "web", "spec", "replicas"), map[bool]any{true: int64(2), false: int64(0)}[o.StartApplications]},
			"CronJob":    {run("batch", "CronJob", "nightly", "spec", "suspend"), !o.StartApplications},
			"Job":        {run("batch", "Job", "once", "spec", "suspend"), !o.StartApplications},
			"DaemonSet":  {run("apps", "DaemonSet", "agent", "spec", "template", "spec", "nodeSelector") != nil, !o.StartApplications},
			"Pod":        {run("", "Pod", "bare", "spec", "schedulingGates") != nil, !o.StartApplications},
		} {
			if !reflect.DeepEqual(pair[0], pair[1]) {
				t.Errorf("started %v: %s: got %v, want %v", o.StartApplications, what, pair[0], pair[1])
			}
		}
	}
}

// clearFinalizers does what the claim's controller would do.
func clearFinalizers(t *testing.T, c Cluster, namespace string) {
	t.Helper()
	ref := Ref{Version: "v1", Kind: "PersistentVolumeClaim", Namespace: namespace, Name: "data"}
	if find(t, c, ref) != nil {
		edit(t, c, ref, "kube-controller-manager", `{"metadata":{"finalizers":null}}`)
	}
}

func TestRetryable(t *testing.T) {
	c := cluster(t, func(config *rest.Config) { config.Host = "https://127.0.0.1:1" })
	resource, err := Apply(t.Context(), Cluster{Dynamic: c.Dynamic, Mapper: cluster(t, nil).Mapper},
		one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: default}}"), asGodwit())
	if !Retryable(err) {
		t.Errorf("a server that is down: %v, %v", resource, err)
	}
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInternalServerError} {
		c := cluster(t, answering(func(r *http.Request) *http.Response {
			if r.Method == http.MethodPatch {
				return status(r, code, reasonOf(code))
			}
			return nil
		}))
		_, err := Apply(t.Context(), c, one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: retry, namespace: default}}"), asGodwit())
		if !Retryable(err) {
			t.Errorf("%d: %v", code, err)
		}
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Apply(stopped, cluster(t, nil), one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: retry, namespace: default}}"), asGodwit())
	if err == nil || Retryable(err) {
		t.Errorf("a caller that gave up: %v", err)
	}
}

func reasonOf(code int) metav1.StatusReason {
	switch code {
	case http.StatusTooManyRequests:
		return metav1.StatusReasonTooManyRequests
	case http.StatusServiceUnavailable:
		return metav1.StatusReasonServiceUnavailable
	case http.StatusGatewayTimeout:
		return metav1.StatusReasonTimeout
	}
	return metav1.StatusReasonInternalError
}

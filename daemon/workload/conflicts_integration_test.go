package workload

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

func resolving(r api.ConflictResolution) ApplyOptions {
	return ApplyOptions{FieldManager: "godwit", Owner: "pair", Conflicts: Conflicts{Resolution: r}}
}

// pages are a journal that forgets when the test ends.
type pages struct{ intents, done []Applied }

func (m *pages) Intend(_ context.Context, intents []Applied) error {
	m.intents = append(m.intents, intents...)
	return nil
}

func (m *pages) Done(_ context.Context, done []Applied) error {
	m.done = append(m.done, done...)
	return nil
}

const standing = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NAMESPACE, labels: {team: theirs}}
spec: {clusterIP: None, selector: {app: theirs}, ports: [{port: 80, name: http}]}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: NAMESPACE}, data: {a: theirs, b: theirs}}
`

func coming(t *testing.T, namespace string) (service, settings unstructured.Unstructured) {
	t.Helper()
	service = one(t, strings.ReplaceAll(`
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NAMESPACE, labels: {team: ours}}
spec: {clusterIP: 10.0.0.9, selector: {app: ours}, ports: [{port: 80, name: http}]}
`, "NAMESPACE", namespace))
	settings = one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: "+namespace+"}, data: {a: ours, c: ours}}")
	return service, settings
}

func TestAbortNamesEveryDispute(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "abort")
	put(t, c, strings.ReplaceAll(standing, "NAMESPACE", "abort"))
	service, settings := coming(t, "abort")
	delete(shape.Child(service.Object, "spec"), "clusterIP")
	disputes, err := Disputes(t.Context(), c, []unstructured.Unstructured{service, settings}, resolving(""))
	if err != nil {
		t.Fatal(err)
	}
	if len(disputes) != 2 {
		t.Fatalf("%d disputes: %v", len(disputes), disputes)
	}
	for i, want := range []string{
		"Service abort/web stands on the target with other values in metadata.labels.team (owned by somebody), spec.selector (owned by somebody)",
		"ConfigMap abort/settings stands on the target with other values in data.a (owned by somebody)",
	} {
		if !strings.HasPrefix(disputes[i].Error(), want) {
			t.Errorf("got %v\nwant %s", disputes[i], want)
		}
	}
	_, err = Apply(t.Context(), c, settings, resolving(api.ConflictAbort))
	var dispute *DisputeError
	if !errors.As(err, &dispute) {
		t.Errorf("got %v", err)
	}
	if got := find(t, c, RefOf(&settings)); shape.Text(got.Object, "data", "a") != "theirs" || shape.Text(got.Object, "data", "c") != "" {
		t.Errorf("something was written: %v", got.Object["data"])
	}
}

func TestSkipOverwriteRecreate(t *testing.T) {
	c := cluster(t, nil)
	for _, r := range []api.ConflictResolution{api.ConflictSkip, api.ConflictOverwrite, api.ConflictRecreate} {
		name := strings.ToLower(string(r))
		namespace(t, c, name)
		before := put(t, c, strings.ReplaceAll(standing, "NAMESPACE", name))
		_, settings := coming(t, name)
		got, err := Apply(t.Context(), c, settings, resolving(r))
		if err != nil {
			t.Fatal(err)
		}
		now := find(t, c, RefOf(&settings))
		data := shape.Child(now.Object, "data")
		want := map[api.ConflictResolution]string{
			api.ConflictSkip:      "Skipped a=theirs b=theirs c= kept",
			api.ConflictOverwrite: "Updated a=ours b=theirs c=ours kept",
			api.ConflictRecreate:  "Recreated a=ours b= c=ours anew",
		}[r]
		uid := "anew"
		if now.GetUID() == before[1].GetUID() {
			uid = "kept"
		}
		told := string(got.Action) + " a=" + shape.Text(data, "a") + " b=" + shape.Text(data, "b") + " c=" + shape.Text(data, "c") + " " + uid
		if told != want {
			t.Errorf("%s: got %s, want %s", r, told, want)
		}
		undo(t, c, got)
		back := find(t, c, RefOf(&settings))
		if shape.Text(back.Object, "data", "a") != "theirs" || shape.Text(back.Object, "data", "b") != "theirs" || back.Object["data"].(map[string]any)["c"] != nil {
			t.Errorf("%s: after undo: %v", r, back.Object["data"])
		}
		if len(back.GetManagedFields()) != 1 || back.GetManagedFields()[0].Manager != "somebody" {
			t.Errorf("%s: after undo the fields belong to %v", r, back.GetManagedFields())
		}
	}
}

// TestRecreateWhatCannotBeChanged makes anew what Overwrite must refuse.
func TestRecreateWhatCannotBeChanged(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "immutable")
	put(t, c, strings.ReplaceAll(standing, "NAMESPACE", "immutable"))
	service, _ := coming(t, "immutable")
	if _, err := Apply(t.Context(), c, service, resolving(api.ConflictOverwrite)); !errors.Is(err, ErrImmutable) {
		t.Errorf("overwrite: %v", err)
	}
	got, err := Apply(t.Context(), c, service, resolving(api.ConflictRecreate))
	if err != nil || got.Action != Recreated {
		t.Fatalf("recreate: %s, %v", got.Action, err)
	}
	// Data is never made anew.
	put(t, c, "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: immutable}, spec: {accessModes: [ReadWriteOnce], storageClassName: a, resources: {requests: {storage: 1Gi}}}}")
	claim := one(t, "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, namespace: immutable}, spec: {accessModes: [ReadWriteOnce], storageClassName: b, resources: {requests: {storage: 1Gi}}}}")
	if _, err := Apply(t.Context(), c, claim, resolving(api.ConflictRecreate)); !errors.Is(err, ErrHoldsData) {
		t.Errorf("claim: %v", err)
	}
}

// TestResolutionByKind lets single kinds differ, and shared kinds be.
func TestResolutionByKind(t *testing.T) {
	c := Conflicts{Resolution: api.ConflictOverwrite, ByKind: map[string]api.ConflictResolution{"services": api.ConflictSkip, "deployments.apps": api.ConflictRecreate}}
	for kind, want := range map[Ref]api.ConflictResolution{
		{Kind: "Service"}:                               api.ConflictSkip,
		{Group: "apps", Kind: "Deployment"}:             api.ConflictRecreate,
		{Kind: "ConfigMap"}:                             api.ConflictOverwrite,
		{Group: "storage.k8s.io", Kind: "StorageClass"}: api.ConflictSkip,
	} {
		if got := c.For(kind.GroupKind()); got != want {
			t.Errorf("%s: got %s, want %s", kind, got, want)
		}
	}
	if got := (Conflicts{}).For(Ref{Kind: "Pod"}.GroupKind()); got != api.ConflictAbort {
		t.Errorf("by default: %s", got)
	}
}

// TestOverwriteAdoptsWithoutRestart takes over a running workload: its pods' template
// stays to the letter, so that no controller has anything to do.
func TestOverwriteAdoptsWithoutRestart(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "adopt")
	running := put(t, c, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx, namespace: adopt, labels: {tier: theirs}}
spec: {replicas: 2, selector: {matchLabels: {app: nginx}}, template: {metadata: {labels: {app: nginx}}, spec: {containers: [{name: c, image: "nginx:1"}]}}}
`)[0]
	o := options()
	o.Namespaces, o.StartApplications = nil, true
	source := one(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx, namespace: adopt, labels: {tier: ours}}
spec: {replicas: 2, selector: {matchLabels: {app: nginx}}, template: {metadata: {labels: {app: nginx}}, spec: {containers: [{name: c, image: "nginx:1"}]}}}
`)
	moved := transformed(t, []unstructured.Unstructured{source}, o)[0]
	got, err := Apply(t.Context(), c, moved, resolving(api.ConflictOverwrite))
	if err != nil || got.Action != Updated {
		t.Fatalf("%s, %v", got.Action, err)
	}
	now := find(t, c, RefOf(&moved))
	if now.GetUID() != running.GetUID() || !reflect.DeepEqual(now.Object["spec"], running.Object["spec"]) {
		t.Errorf("the workload is another: %v", now.Object["spec"])
	}
	if now.GetLabels()["tier"] != "ours" || now.GetAnnotations()[AnnotationOwner] != "pair" {
		t.Errorf("not adopted: %v %v", now.GetLabels(), now.GetAnnotations())
	}
}

// TestSecondRunWritesNothing applies an application twice, the second time with a
// later stamp, and counts at the API server.
func TestSecondRunWritesNothing(t *testing.T) {
	var writes, trials atomic.Int32
	c := cluster(t, answering(func(r *http.Request) *http.Response {
		switch {
		case r.Method == http.MethodGet:
		case strings.Contains(r.URL.RawQuery, "dryRun"):
			trials.Add(1)
		default:
			writes.Add(1)
		}
		return nil
	}))
	put(t, c, inNamespace(application, "twice", ""))
	collected, err := Collect(t.Context(), c, Selection{Namespaces: []string{"twice"}})
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Namespaces, o.StartApplications = map[string]string{"twice": "again"}, true
	run := func(j *pages) {
		t.Helper()
		writes.Store(0)
		trials.Store(0)
		for _, wave := range Order(kept(t, c, transformed(t, collected.Objects, o))) {
			outcomes, err := ApplyWave(t.Context(), c, wave.Objects, resolving(api.ConflictAbort), j)
			if err != nil {
				t.Fatal(err)
			}
			for _, outcome := range outcomes {
				if outcome.Err != nil {
					t.Errorf("%s: %v", outcome.Ref, outcome.Err)
				}
			}
		}
	}
	var first, second pages
	run(&first)
	if len(first.intents) == 0 || len(first.intents) != len(first.done) || int(writes.Load()) < len(first.done) {
		t.Fatalf("%d intents, %d done, %d writes", len(first.intents), len(first.done), writes.Load())
	}
	o.Time = o.Time.AddDate(0, 0, 1)
	run(&second)
	if writes.Load() != 0 || len(second.intents) != 0 {
		t.Errorf("the second run wrote %d times: %v", writes.Load(), second.intents)
	}
	t.Logf("first run %d objects; second run %d trials", len(first.done), trials.Load())

	// A field that somebody else takes is in dispute, and is seen without a stamp.
	ref := Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "again", Name: "web"}
	edit(t, c, ref, "kubectl-scale", `{"spec":{"replicas":7}}`)
	disputes, err := Disputes(t.Context(), c, kept(t, c, transformed(t, collected.Objects, o)), resolving(api.ConflictAbort))
	if err != nil || len(disputes) != 1 || !strings.Contains(disputes[0].Error(), "spec.replicas (owned by kubectl-scale)") {
		t.Errorf("%v, %v", disputes, err)
	}

	// What the source no longer has goes, with a record.
	var third pages
	var keep []Ref
	for _, obj := range transformed(t, collected.Objects, o) {
		if obj.GetKind() != "ConfigMap" {
			keep = append(keep, RefOf(&obj))
		}
	}
	put(t, c, "{apiVersion: v1, kind: ConfigMap, metadata: {name: of-somebody-else, namespace: again}}")
	purged, err := Purge(t.Context(), c, keep, PurgeOptions{
		ApplyOptions: resolving(""), Namespaces: []string{"again"}, MigrationName: o.MigrationName, MigrationNamespace: o.MigrationNamespace,
	}, &third)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range purged {
		if p.Ref.Kind != "ConfigMap" || p.Ref.Name == "of-somebody-else" {
			t.Errorf("purged %s", p.Ref)
		}
	}
	if len(purged) == 0 || len(third.intents) != len(purged) {
		t.Fatalf("purged %v, recorded %v", purged, third.intents)
	}
	gone := purged[0]
	if find(t, c, gone.Ref) != nil {
		t.Errorf("%s still stands", gone.Ref)
	}
	undo(t, c, gone)
	if back := find(t, c, gone.Ref); back == nil || len(differences(gone.Before, back)) > 0 {
		t.Errorf("%s did not come back as it was", gone.Ref)
	}
}

// TestSurvey tells everything and writes nothing.
func TestSurvey(t *testing.T) {
	var writes atomic.Int32
	c := cluster(t, answering(func(r *http.Request) *http.Response {
		if r.Method != http.MethodGet && !strings.Contains(r.URL.RawQuery, "dryRun") {
			writes.Add(1)
		}
		return nil
	}))
	namespace(t, c, "survey")
	put(t, c, strings.ReplaceAll(standing, "NAMESPACE", "survey"))
	_, settings := coming(t, "survey")
	var moved []Moved
	for _, obj := range []unstructured.Unstructured{
		settings,
		one(t, "{apiVersion: v1, kind: Secret, metadata: {name: fresh, namespace: survey}, stringData: {a: b}}"),
		one(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: elsewhere, namespace: not-there-yet}}"),
		one(t, "{apiVersion: v1, kind: Service, metadata: {name: broken, namespace: not-there-yet}, spec: {ports: [{port: eighty}]}}"),
		one(t, "{apiVersion: unheard.test/v1, kind: Widget, metadata: {name: w, namespace: survey}}"),
	} {
		moved = append(moved, Moved{Unstructured: obj, From: RefOf(&obj), By: []string{"spec.overrides[0]"}})
	}
	writes.Store(0)
	outlooks, err := Survey(t.Context(), c, moved, SurveyOptions{ApplyOptions: resolving(api.ConflictOverwrite), TrialNamespace: metav1.NamespaceDefault})
	if err != nil {
		t.Fatal(err)
	}
	if writes.Load() != 0 {
		t.Errorf("the survey wrote %d times", writes.Load())
	}
	want := []string{"Updated", "Created", "Created", "problem: ", "problem: "}
	for i, o := range outlooks {
		got := string(o.Action)
		if o.Problem != "" {
			got = "problem: "
		}
		if got != want[i] {
			t.Errorf("%s: got %s %s, want %s", o.Ref, got, o.Problem, want[i])
		}
	}
	if len(outlooks[0].Changes) != 2 || outlooks[0].Changes[0] != (Change{Path: "data.a", Old: "theirs", New: "ours"}) {
		t.Errorf("changes: %v", outlooks[0].Changes)
	}
	if !strings.Contains(outlooks[3].Problem, "eighty") && !strings.Contains(outlooks[3].Problem, "port") {
		t.Errorf("problem: %s", outlooks[3].Problem)
	}
	if !strings.Contains(outlooks[4].Problem, "does not serve Widget unheard.test/v1") {
		t.Errorf("problem: %s", outlooks[4].Problem)
	}
}

// TestUndoAllLeavesWhatOthersChanged takes a whole run back but for what somebody
// else changed since, which it tells.
func TestUndoAllLeavesWhatOthersChanged(t *testing.T) {
	c := cluster(t, nil)
	put(t, c, inNamespace(application, "undoall", ""))
	collected, err := Collect(t.Context(), c, Selection{Namespaces: []string{"undoall"}})
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Namespaces = map[string]string{"undoall": "undone"}
	var j pages
	for _, wave := range Order(kept(t, c, transformed(t, collected.Objects, o))) {
		if _, err := ApplyWave(t.Context(), c, wave.Objects, resolving(""), &j); err != nil {
			t.Fatal(err)
		}
	}
	changed := Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "undone", Name: "web"}
	edit(t, c, changed, "kubectl-edit", `{"spec":{"paused":true}}`)
	var records []Applied
	for _, a := range j.done {
		if a.Ref.Kind != "PersistentVolumeClaim" { // no controller is there to let go of it
			records = append(records, a)
		}
	}
	left, err := UndoAll(t.Context(), c, records, UndoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, l := range left {
		told = append(told, l.Error())
	}
	all := strings.Join(told, "\n")
	if !strings.Contains(all, "Deployment.apps undone/web was changed in spec.paused since it was applied by kubectl-edit: it is left as it is") {
		t.Errorf("told: %s", all)
	}
	// The namespace holds what is left, so it stays too.
	if !strings.Contains(all, "the namespace holds") || len(left) != 2 {
		t.Errorf("%d are left: %s", len(left), all)
	}
	for _, a := range records {
		obj := find(t, c, a.Ref)
		stays := a.Ref.Kind == "Namespace" || a.Ref == changed
		if stays != (obj != nil && obj.GetDeletionTimestamp() == nil) {
			t.Errorf("%s: stays: %v", a.Ref, obj != nil)
		}
	}
}

// TestUndoKeepsDefinitionsWithObjects never deletes a definition under objects of
// others.
func TestUndoKeepsDefinitionsWithObjects(t *testing.T) {
	c := cluster(t, nil)
	define(t, c, "kept.test", "Widget")
	ref := Ref{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition", Name: "widgets.kept.test"}
	definition := find(t, c, ref)
	put(t, c, "{apiVersion: kept.test/v1, kind: Widget, metadata: {name: theirs, namespace: default}}")
	record := Applied{Ref: ref, Action: Created, Manager: "somebody", After: definition}
	if err := Undo(t.Context(), c, record, UndoOptions{Force: true}); !errors.Is(err, ErrHoldsData) || !strings.Contains(err.Error(), "default/theirs") {
		t.Errorf("got %v", err)
	}
}

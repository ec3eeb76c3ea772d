package target

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
)

func state(name, value string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"value": value}}}
	u.SetName(name)
	return u
}

func record(name string, action workload.Action, before, after string) workload.Applied {
	a := workload.Applied{Ref: workload.Ref{Version: "v1", Kind: "ConfigMap", Namespace: "cms", Name: name}, Action: action}
	if before != "" {
		a.Before = state(name, before)
	}
	if after != "" {
		a.After = state(name, after)
	}
	return a
}

func valueOf(u *unstructured.Unstructured) string {
	if u == nil {
		return ""
	}
	value, _, _ := unstructured.NestedString(u.Object, "data", "value")
	return value
}

// TestJournalKeepsTheFirstState writes over many rounds and crashes: what stood
// there before the first of them is what is put back.
func TestJournalKeepsTheFirstState(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).Build()
	s := &api.Standby{ObjectMeta: metav1.ObjectMeta{Name: "cms-move", UID: "one"}}
	x := &run{Agent: &Agent{Client: c, Live: c, Namespace: "godwit-system"}, s: s}
	ctx := t.Context()
	for round := range 100 {
		j, err := x.openJournal(ctx) // Each time as after a crash.
		if err != nil {
			t.Fatal(err)
		}
		was, is := fmt.Sprint(round), fmt.Sprint(round+1)
		intent, done := record("settings", workload.Updated, was, ""), record("settings", workload.Updated, was, is)
		if err := j.Intend(ctx, []workload.Applied{intent}); err != nil {
			t.Fatal(err)
		}
		if round == 50 { // One more object, and a crash before it is known to be done.
			if err := j.Intend(ctx, []workload.Applied{record("late", workload.Created, "", "")}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := j.Done(ctx, []workload.Applied{done}); err != nil {
			t.Fatal(err)
		}
	}
	records, err := x.loadUndo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 2 || records[0].Ref.Name != "settings" || valueOf(records[0].Before) != "0" || valueOf(records[0].After) != "100" || records[1].Ref.Name != "late" {
		t.Errorf("%+v", records)
	}
	var secrets corev1.SecretList
	if err := c.List(ctx, &secrets); err != nil || len(secrets.Items) > journalEntries+2 {
		t.Errorf("%d Secrets, %v", len(secrets.Items), err)
	}
	// Another Standby's journal is no business of this one.
	other := &run{Agent: x.Agent, s: &api.Standby{ObjectMeta: metav1.ObjectMeta{Name: "cms-move", UID: "two"}}}
	if records, err := other.loadUndo(ctx); err != nil || len(records) != 0 {
		t.Errorf("%v, %v", records, err)
	}
	if err := x.deleteUndo(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.List(ctx, &secrets); err != nil || len(secrets.Items) != 0 {
		t.Errorf("%d Secrets are left, %v", len(secrets.Items), err)
	}
}

// TestJournalHoldsLargeRuns splits what no Secret could hold.
func TestJournalHoldsLargeRuns(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).Build()
	x := &run{Agent: &Agent{Client: c, Live: c, Namespace: "godwit-system"}, s: &api.Standby{ObjectMeta: metav1.ObjectMeta{Name: "large", UID: "one"}}}
	j, err := x.openJournal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var intents []workload.Applied
	for i := range 40 {
		noise := make([]byte, 0, 200<<10)
		for n := uint64(i + 1); len(noise) < cap(noise)-16; n = n*6364136223846793005 + 1442695040888963407 {
			noise = fmt.Appendf(noise, "%016x", n)
		}
		intents = append(intents, record(fmt.Sprintf("c%02d", i), workload.Updated, string(noise), ""))
	}
	if err := j.Intend(t.Context(), intents); err != nil {
		t.Fatal(err)
	}
	var secrets corev1.SecretList
	if err := c.List(t.Context(), &secrets); err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets.Items {
		if n := len(s.Data["applied.json.gz"]); n > 1<<20 {
			t.Errorf("Secret %s holds %d bytes", s.Name, n)
		}
	}
	records, err := x.loadUndo(t.Context())
	if err != nil || len(records) != 40 || len(secrets.Items) < 4 {
		t.Errorf("%d records in %d Secrets, %v", len(records), len(secrets.Items), err)
	}
}

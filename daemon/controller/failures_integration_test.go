package controller_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// failurePage is made of what the test below sees: GODWIT_WRITE_DOCS=1 writes it.
const failurePage = "../../docs/failures.md"

// failure is one thing that goes wrong, and how the user goes on after it.
type failure struct {
	name string
	do   func(r *rig, m *api.Migration)
	// needs is the first stage at which it can happen.
	needs string
	goOn  string
}

func failures() []failure {
	return []failure{
		{"it is cancelled", func(r *rig, m *api.Migration) { r.cancel(m) }, admitted, "start another Migration; rounds staged before still count"},
		{"it is deleted", func(r *rig, m *api.Migration) { r.must(r.client.Delete(r.t.Context(), m)) }, admitted, "start another Migration"},
		{"the target does not answer for a while", func(r *rig, _ *api.Migration) { r.target.deaf(6) }, admitted, "nothing to do: it goes on by itself"},
		{"a node gives a transfer up", func(r *rig, m *api.Migration) { r.giveUp(m.Name) }, snapshotted, "mend what the message names, then start another Migration"},
		{"the target gives the round up", func(r *rig, _ *api.Migration) { r.target.phase = migrate.TargetFailed }, begun, "mend what the message names, then start another Migration"},
	}
}

// deaf lets that many calls go unanswered.
func (t *target) deaf(calls int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unanswered = calls
}

// giveUp fails the Migration's transfers, also those that are yet to come.
func (r *rig) giveUp(name string) {
	r.t.Helper()
	for range 6 {
		for _, t := range r.transfersOf(r.get(name)) {
			t.Status.Phase, t.Status.Message = api.TransferFailed, "given up after 10 attempts, since it gets no further: the disk does not answer"
			r.must(r.client.Status().Update(r.t.Context(), &t))
			return
		}
		r.step(name)
	}
}

// TestEachFailureAtEachStage injects each failure at each stage of a quiesced
// Migration, and holds what comes of it against the page that users read.
func TestEachFailureAtEachStage(t *testing.T) {
	stages := []string{admitted, checked, stopping, "Quiesced", snapshotted, sealed, begun}
	cells := map[string]string{}
	var mu sync.Mutex
	t.Run("cells", func(t *testing.T) {
		for n, f := range failures() {
			reached := false
			for _, stage := range stages {
				reached = reached || stage == f.needs
				if !reached || f.needs == snapshotted && stage != snapshotted {
					continue
				}
				t.Run(fmt.Sprintf("%d-%s", n, stage), func(t *testing.T) {
					cell := outcomeOf(t, f, stage)
					mu.Lock()
					defer mu.Unlock()
					cells[f.name+"|"+stage] = cell
				})
			}
		}
	})
	if t.Failed() {
		return
	}
	page := failureTable(stages, cells)
	if os.Getenv("GODWIT_WRITE_DOCS") != "" {
		if err := os.WriteFile(filepath.Clean(failurePage), page, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := os.ReadFile(failurePage); err != nil || !bytes.Equal(there, page) {
		t.Errorf("docs/failures.md does not say what happens (%v): run this test with GODWIT_WRITE_DOCS=1; it should say:\n%s", err, page)
	}
}

// outcomeOf says in words what comes of one failure at one stage.
func outcomeOf(t *testing.T, f failure, stage string) string {
	t.Helper()
	r := newRig(t)
	r.claim("data")
	r.must(r.client.Delete(t.Context(), r.workloads("data"), client.GracePeriodSeconds(0)))
	before := r.state()
	r.target.phase = migrate.TargetVolumes
	r.target.firstReady = r.now
	r.migration("move", quiesced)
	var play []func()
	if f.needs != snapshotted {
		play = append(play, r.carryOut("move"))
	}
	f.do(r, r.until("move", stage, is(stage), play...))
	if r.target.phase == migrate.TargetVolumes {
		r.target.phase = migrate.TargetReady
	}
	seen := ""
	for range 60 {
		_, err := r.migrations.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: r.ns, Name: "move"}})
		var m api.Migration
		if got := r.client.Get(t.Context(), types.NamespacedName{Namespace: r.ns, Name: "move"}, &m); apierrors.IsNotFound(got) {
			return "it is gone; " + r.sides(before)
		}
		if err == nil && f.needs != snapshotted {
			r.carryOut("move")()
		}
		if reason := ready(&m).Reason; reason == "TargetUnreachable" {
			seen = "it waits (`TargetUnreachable`), then "
		}
		if restored := !strings.Contains(fmt.Sprint(m.Status.Quiesced), "false}"); ended(&m) && (m.Status.Status == api.MigrationStatusSuccessful || restored) {
			m = *r.get("move")
			return fmt.Sprintf("%s`%s` (`%s`); %s", seen, m.Status.Status, ready(&m).Reason, r.sides(before))
		}
	}
	t.Fatalf("it comes to no end: %+v", r.get("move").Status)
	return ""
}

// sides says how both clusters are.
func (r *rig) sides(before map[string]string) string {
	r.t.Helper()
	source, there := "the source is stopped", "the target has the application"
	if fmt.Sprint(r.state()) == fmt.Sprint(before) {
		source = "the source runs as before"
	}
	if len(r.target.rounds) == 0 {
		there = "the target has nothing of it"
	}
	if left := r.storage.left(); len(left) > 0 {
		r.t.Errorf("left: %v", left)
	}
	return source + ", " + there
}

func failureTable(stages []string, cells map[string]string) []byte {
	var b bytes.Buffer
	b.WriteString("# What happens when something fails\n\nEach failure at each stage of a Migration with `quiesce`, as the tests see it: this page is written by them (daemon/controller, `TestEachFailureAtEachStage`), and they fail where it is not so. A stage is named by the condition that was reached. Every process may be killed at any of them: all state is in objects and in the repository, and the next process goes on.\n")
	for _, f := range failures() {
		fmt.Fprintf(&b, "\n## When %s\nHow to go on: %s.\n\n| at | what happens, and what is seen |\n| --- | --- |\n", f.name, f.goOn)
		for _, stage := range stages {
			if cell := cells[f.name+"|"+stage]; cell != "" {
				fmt.Fprintf(&b, "| %s | %s |\n", stage, cell)
			}
		}
	}
	return b.Bytes()
}

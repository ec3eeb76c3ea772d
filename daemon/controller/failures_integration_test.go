package controller_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// failurePage is made of what the test below sees: GODWIT_WRITE_DOCS=1 writes it.
const failurePage = "../../docs/failures.md"

// failure is one thing that goes wrong, and how the user goes on after it.
type failure struct {
	name string
	do   func(r *rig, m *api.Migration)
	// needs is the first stage at which it can happen; only, the one.
	needs, only string
	goOn        string
	// stands lets time pass in which nothing gets further.
	stands bool
}

func failures() []failure {
	const wait, mend = "nothing to do: it goes on by itself", "mend what the message names, then start another Migration"
	return []failure{
		{name: "it is cancelled", do: func(r *rig, m *api.Migration) { r.cancel(m) }, needs: admitted, goOn: "start another Migration; rounds staged before still count"},
		{name: "it is deleted", do: func(r *rig, m *api.Migration) { r.must(r.client.Delete(r.t.Context(), m)) }, needs: admitted, goOn: "start another Migration"},
		{name: "the controller is killed before it can write down what it did", do: func(r *rig, _ *api.Migration) { r.killed() }, needs: admitted, goOn: wait},
		{name: "the target does not answer for a while", do: func(r *rig, _ *api.Migration) { r.target.deaf(6) }, needs: admitted, goOn: wait},
		{name: "the target does not answer for longer than spec.timeouts.unreachable", do: func(r *rig, _ *api.Migration) { r.target.deaf(10) }, needs: admitted, only: admitted,
			goOn: mend + "; a target that was told of the round, from Sealed on, is waited for without end, since it may have started the application", stands: true},
		{name: "a pod of the source does not end within spec.timeouts.quiesce", do: func(r *rig, _ *api.Migration) { r.pod("stays", "data") }, needs: stopping, only: stopping, goOn: mend, stands: true},
		{name: "a snapshot does not get ready within spec.timeouts.snapshots", do: func(r *rig, _ *api.Migration) { r.storage.ready = false }, needs: "Quiesced", only: "Quiesced", goOn: mend, stands: true},
		{name: "no node gets a volume within spec.timeouts.exposure", do: func(r *rig, _ *api.Migration) { r.storage.waiting = "no node has room for the pod" }, needs: snapshotted, only: snapshotted, goOn: mend, stands: true},
		{name: "a node gives a transfer up", do: func(r *rig, m *api.Migration) { r.giveUp(m.Name) }, needs: snapshotted, only: snapshotted, goOn: mend},
		{name: "the target gives the round up, also after spec.timeouts.target", do: func(r *rig, _ *api.Migration) { r.target.phase = migrate.TargetFailed }, needs: begun, goOn: mend},
	}
}

// killed loses what the next reconciliation writes down, but not what it does.
func (r *rig) killed() {
	whole := r.client
	lost := false
	r.migrations.Client = interceptor.NewClient(r.watching(), interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if _, is := o.(*api.Migration); is && !lost {
				lost = true
				r.migrations.Client = whole
				return errors.New("the process was killed here")
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
}

// watching is the rig's client as an interceptor wants it.
func (r *rig) watching() client.WithWatch {
	r.t.Helper()
	c, err := client.NewWithWatch(server, client.Options{Scheme: r.client.Scheme()})
	r.must(err)
	return c
}

// pod makes one that has the claim, and that nothing ends.
func (r *rig) pod(name, claim string) {
	r.t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	r.must(r.client.Create(r.t.Context(), p))
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
				if !reached || f.only != "" && stage != f.only {
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
	r.migration("move", minutes)
	var play []func()
	if f.only != snapshotted {
		play = append(play, r.carryOut("move"))
	}
	f.do(r, r.until("move", stage, is(stage), play...))
	if r.target.phase == migrate.TargetVolumes {
		r.target.phase = migrate.TargetReady
	}
	seen := ""
	for range 60 {
		if f.stands {
			r.now = r.now.Add(20 * time.Second)
		}
		_, err := r.migrations.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: r.ns, Name: "move"}})
		var m api.Migration
		if got := r.client.Get(t.Context(), types.NamespacedName{Namespace: r.ns, Name: "move"}, &m); apierrors.IsNotFound(got) {
			return "it is gone; " + r.sides(before)
		}
		if err == nil && f.only != snapshotted {
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

package controller_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/rule"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// machine is a Shell whose containers are this machine itself: the scripts run
// in a real shell.
type machine struct {
	mu  sync.Mutex
	out error
}

func (m *machine) Run(ctx context.Context, _ rule.Place, argv []string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out != nil {
		return "", m.out
	}
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

// ruled is a rig whose application writes to log what its rules do to it.
type ruled struct {
	*rig
	log   string
	shell *machine
}

func newRuled(t *testing.T) *ruled {
	t.Helper()
	r := &ruled{rig: newRig(t), log: filepath.Join(t.TempDir(), "log"), shell: &machine{}}
	r.migrations.Commands = rule.Runner{Shell: r.shell, Now: func() time.Time { return r.now }, Limit: time.Minute}
	r.migrations.CommandLimit = time.Minute
	r.claim("data")
	r.pod("db")
	return r
}

// pod makes a running pod that has the claim.
func (r *ruled) pod(name string) {
	r.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name, Labels: map[string]string{"app": name}}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	r.must(r.client.Create(r.t.Context(), pod))
	pod.Status.Phase = corev1.PodRunning
	r.must(r.client.Status().Update(r.t.Context(), pod))
}

func (r *ruled) rule(name string, actions ...api.RuleAction) {
	r.t.Helper()
	o := &api.Rule{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name}}
	o.Rules = []api.RuleItem{{PodSelector: map[string]string{"app": "db"}, Actions: actions}}
	r.must(r.client.Create(r.t.Context(), o))
}

// rules makes a rule that freezes and one that thaws, and gives the spec of both.
func (r *ruled) rules() func(*api.MigrationSpec) {
	r.t.Helper()
	r.rule("freeze", api.RuleAction{Type: api.RuleActionCommand, Background: true, Value: r.say("locked") + "; ${WAIT_CMD}; " + r.say("unlocked")})
	r.rule("thaw", api.RuleAction{Type: api.RuleActionCommand, Value: r.say("thawed")})
	return func(s *api.MigrationSpec) { s.PreExecRule, s.PostExecRule = "freeze", "thaw" }
}

func (r *ruled) say(word string) string { return fmt.Sprintf("echo %s >>'%s'", word, r.log) }

func (r *ruled) said() string {
	text, err := os.ReadFile(r.log)
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// patiently steps until done, with time for commands to run.
func (r *ruled) patiently(name, what string, done func(*api.Migration) bool, play ...func()) *api.Migration {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		// What cannot be done is told in the status; a test looks there.
		_, _ = r.migrations.Reconcile(r.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: r.ns, Name: name}})
		for _, p := range play {
			p()
		}
		if m := r.get(name); done(m) {
			return m
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.t.Fatalf("Migration %s never got to %s: %+v", name, what, r.get(name).Status)
	return nil
}

// noneLeft sees that nothing of the commands is left in the pod.
func (r *ruled) noneLeft(m *api.Migration) {
	r.t.Helper()
	if m.Status.Rules == nil {
		r.t.Fatal("the status tells of no rules")
	}
	for _, task := range append(m.Status.Rules.PreExec, m.Status.Rules.PostExec...) {
		if _, err := os.Stat("/tmp/.godwit-" + task.ID); !os.IsNotExist(err) {
			r.t.Errorf("command %q leaves its folder: %v", task.Command, err)
		}
	}
}

// watched is a storage that notes what the application had done when it was asked
// for a snapshot.
type watched struct {
	*storage
	r    *ruled
	when []string
}

func (w *watched) EnsureTogether(ctx context.Context, q []csi.SnapshotRequest) ([]csi.Member, error) {
	w.when = append(w.when, w.r.said())
	return w.storage.EnsureTogether(ctx, q)
}

// TestRulesHoldForTheSnapshots cuts the snapshots late: all the while the
// application is held, and not a moment longer.
func TestRulesHoldForTheSnapshots(t *testing.T) {
	r := newRuled(t)
	w := &watched{storage: r.storage, r: r}
	r.migrations.Snapshots = w
	r.storage.cut, r.storage.ready = false, false
	r.migration("move", r.rules())
	r.patiently("move", "its snapshot", func(*api.Migration) bool { return len(w.when) > 5 })
	m := r.get("move")
	if m.Status.Stage != api.MigrationStageVolumes || !is("PreExecRule")(m) || is("HoldReleased")(m) {
		t.Errorf("with the snapshot asked for it is at %s: %+v", m.Status.Stage, m.Status.Conditions)
	}
	r.storage.cut = true
	r.patiently("move", "its objects", is(snapshotted))
	if said := r.said(); said != "locked unlocked thawed" {
		t.Errorf("once the snapshot was cut the application said %q", said)
	}
	for i, said := range w.when[:6] {
		if said != "locked" {
			t.Errorf("snapshot asked for, time %d: %q", i, said)
		}
	}
	r.storage.ready = true
	m = r.patiently("move", "its end", ended, r.carryOut("move"))
	if m.Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("it ended as %s: %+v", m.Status.Status, m.Status.Conditions)
	}
	r.noneLeft(m)
}

// TestRulesOutliveKills: whoever runs the rules is killed time and again before it could
// write down what it did. No command runs twice for that, and none is left.
func TestRulesOutliveKills(t *testing.T) {
	r := newRuled(t)
	r.migration("move", r.rules())
	kills := 0
	m := r.patiently("move", "its end", ended, r.carryOut("move"), func() {
		if kills++; kills%2 == 0 {
			r.killed()
		}
	})
	if said := r.said(); m.Status.Status != api.MigrationStatusSuccessful || said != "locked unlocked thawed" {
		t.Errorf("it ended as %s, and the application said %q: %+v", m.Status.Status, said, m.Status.Conditions)
	}
	r.noneLeft(m)
}

// TestRuleStage shows stork's stage while the commands before the snapshots run.
func TestRuleStage(t *testing.T) {
	r := newRuled(t)
	gate := r.log + ".gate"
	r.rule("slow", api.RuleAction{Type: api.RuleActionCommand, Value: "until [ -e '" + gate + "' ]; do sleep 0.05; done"})
	r.migration("move", func(s *api.MigrationSpec) { s.PreExecRule = "slow" })
	m := r.patiently("move", "its rule", func(m *api.Migration) bool {
		ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
		return ready != nil && ready.Reason == "PreExecRule"
	})
	ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
	if m.Status.Stage != api.MigrationStagePreExecRule || m.Status.Status != api.MigrationStatusInProgress || !strings.Contains(ready.Message, "0 of 1, waiting for pods "+r.ns+"/db") {
		t.Errorf("it is %s/%s: %s", m.Status.Stage, m.Status.Status, ready.Message)
	}
	r.must(os.WriteFile(gate, nil, 0o600))
	r.noneLeft(r.patiently("move", "its end", ended, r.carryOut("move")))
}

// TestRulesThatFail end the Migration, say why, and leave nothing held.
func TestRulesThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		pre, post string
		says      string
		said      string
	}{
		"before":       {"exit 3", "", "before the snapshots: command in pod NS/db: it ended with exit code 3", "locked unlocked thawed"},
		"after":        {"true", "echo why; exit 4", "after the snapshots: command in pod NS/db: it ended with exit code 4: why", "locked unlocked"},
		"no such pods": {"", "", "matches no running pod, and yet pod NS/db has claim data", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuled(t)
			spec := func(s *api.MigrationSpec) { s.PreExecRule, s.PostExecRule = "pre", "post" }
			if c.pre == "" {
				o := &api.Rule{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "pre"}}
				o.Rules = []api.RuleItem{{PodSelector: map[string]string{"app": "other"}, Actions: []api.RuleAction{{Type: "command", Value: "true"}}}}
				r.must(r.client.Create(t.Context(), o))
			} else {
				r.rule("pre", api.RuleAction{Type: "command", Background: true, Value: r.say("locked") + "; ${WAIT_CMD}; " + r.say("unlocked")}, api.RuleAction{Type: "command", Value: c.pre})
			}
			post := c.post
			if post == "" {
				post = r.say("thawed")
			}
			r.rule("post", api.RuleAction{Type: "command", Value: post})
			r.migration("move", spec)
			m := r.patiently("move", "its end", ended, r.carryOut("move"))
			ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
			if want := strings.ReplaceAll(c.says, "NS", r.ns); m.Status.Status != api.MigrationStatusFailed || !strings.Contains(ready.Message, want) {
				t.Errorf("it ended as %s: %s, want %s", m.Status.Status, ready.Message, want)
			}
			if said := r.said(); said != c.said {
				t.Errorf("the application said %q, want %q", said, c.said)
			}
			if c.pre != "" {
				r.noneLeft(m)
			}
			if left := r.left(m); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestRulesAlwaysEnd cancels and deletes it while the application
// is held, with a controller that forgot each of its last writes: the lock is let
// go and the rule after the snapshots thaws.
func TestRulesAlwaysEnd(t *testing.T) {
	for _, how := range []string{"cancel", "delete"} {
		for _, lost := range []bool{false, true} {
			t.Run(how+map[bool]string{true: "-lost"}[lost], func(t *testing.T) {
				r := newRuled(t)
				r.storage.cut, r.storage.ready = false, false
				r.migration("move", r.rules())
				held := r.patiently("move", "its hold", func(*api.Migration) bool { return r.said() == "locked" })
				if lost {
					before := held.DeepCopy()
					held.Status.Rules.PreExec[0].State, held.Status.Rules.PreExec[0].Started = api.RuleTaskPlanned, nil
					r.must(r.client.Status().Patch(t.Context(), held, client.MergeFrom(before)))
				}
				if how == "cancel" {
					r.cancel(held)
					held = r.patiently("move", "its end", ended)
				} else {
					r.must(r.client.Delete(t.Context(), held))
					for range 200 {
						_, _ = r.migrations.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(held)})
						if err := r.client.Get(t.Context(), client.ObjectKeyFromObject(held), held.DeepCopy()); err != nil {
							break
						}
						time.Sleep(20 * time.Millisecond)
					}
				}
				if said := r.said(); said != "locked unlocked thawed" {
					t.Errorf("the application said %q", said)
				}
				r.noneLeft(held)
				if left := r.left(held); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		}
	}
}

// TestPodsThatDoNotAnswer keep a cancelled Migration only as long as their
// commands may hold anything.
func TestPodsThatDoNotAnswer(t *testing.T) {
	r := newRuled(t)
	r.storage.cut, r.storage.ready = false, false
	r.migration("move", r.rules())
	m := r.patiently("move", "its hold", func(*api.Migration) bool { return r.said() == "locked" })
	t.Cleanup(func() {
		for _, task := range m.Status.Rules.PreExec {
			r.must(os.WriteFile("/tmp/.godwit-"+task.ID+"/release", nil, 0o600))
		}
	})
	r.shell.out = context.DeadlineExceeded
	r.cancel(m)
	r.patiently("move", "its cancellation", func(m *api.Migration) bool { return m.Status.Status == api.MigrationStatusCancelled })
	for range 3 {
		_, _ = r.migrations.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(m)})
	}
	if is(released)(r.get("move")) {
		t.Fatal("it was let go with a command that may hold the application")
	}
	r.now = r.now.Add(3 * time.Minute)
	r.patiently("move", "its end", ended)
}

// TestRulesHoldForALiveRead keeps the application still until a volume without
// snapshots is read to its end.
func TestRulesHoldForALiveRead(t *testing.T) {
	r := newRuled(t)
	r.migrations.Snapshots = plain{r.storage}
	r.migration("move", r.rules())
	m := r.patiently("move", "its transfer", func(m *api.Migration) bool { return len(r.transfersOf(m)) == 1 })
	if said := r.said(); said != "locked" || is("HoldReleased")(m) {
		t.Errorf("while the volume is read live the application said %q", said)
	}
	m = r.patiently("move", "its end", ended, r.carryOut("move"))
	if said := r.said(); said != "locked unlocked thawed" || m.Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("it ended as %s, and the application said %q", m.Status.Status, said)
	}
}

// plain is a storage without snapshots.
type plain struct{ *storage }

func (plain) Capability(context.Context, *corev1.PersistentVolumeClaim) (csi.Capability, error) {
	return csi.Capability{Driver: "d", Reason: "no VolumeSnapshotClass names driver d"}, nil
}

func (p plain) EnsureExposure(_ context.Context, r csi.ExposureRequest) (csi.Mounted, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := csi.Mounted{Ready: true, Node: p.node, PodUID: "pod", PersistentVolume: "pv-" + r.Name, Mode: r.Mode}
	p.exposures[string(r.Owner.UID)] = m
	return m, nil
}

// TestRulesHaveToBeEnabled refuses what this installation may not do.
func TestRulesHaveToBeEnabled(t *testing.T) {
	r := newRuled(t)
	r.migrations.Commands = nil
	r.migration("move", r.rules())
	m := r.patiently("move", "its end", ended)
	ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
	if m.Status.Status != api.MigrationStatusFailed || !strings.Contains(ready.Message, "rules.enabled=true") || r.said() != "" {
		t.Errorf("it ended as %s: %s", m.Status.Status, ready.Message)
	}
}

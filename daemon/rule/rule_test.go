package rule_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/rule"
)

// machine is a Shell whose containers are this machine itself.
type machine struct {
	gone map[string]bool
	fail error
}

func (m *machine) Run(ctx context.Context, p rule.Place, argv []string) (string, error) {
	if m.fail != nil {
		return "", m.fail
	}
	if m.gone[p.UID] {
		return "", rule.ErrPodGone
	}
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

func pod(name string, labels map[string]string, containers ...string) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: name, UID: types.UID("uid-" + name), Labels: labels}}
	p.Status.Phase = corev1.PodRunning
	for _, c := range append([]string{"main"}, containers...) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
	}
	return p
}

func aRule(items ...api.RuleItem) *api.Rule {
	return &api.Rule{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "quiet"}, Rules: items}
}

func item(app string, actions ...api.RuleAction) api.RuleItem {
	return api.RuleItem{PodSelector: map[string]string{"app": app}, Actions: actions}
}

func command(value string) api.RuleAction { return api.RuleAction{Type: "command", Value: value} }

func background(value string) api.RuleAction {
	return api.RuleAction{Type: "command", Value: value, Background: true}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule  *api.Rule
		phase rule.Phase
		says  string
	}{
		"no selector":          {aRule(api.RuleItem{Actions: []api.RuleAction{command("true")}}), rule.PreExec, "rules[0].podSelector is empty"},
		"another type":         {aRule(item("a", api.RuleAction{Type: "exec", Value: "x"})), rule.PreExec, "the only type is command"},
		"empty":                {aRule(item("a", command("true"), command(" "))), rule.PreExec, "rules[0].actions[1].value is empty"},
		"background after":     {aRule(item("a", background("${WAIT_CMD}"))), rule.PostExec, "background actions are not supported for post exec rules"},
		"never waits":          {aRule(item("a", background("sleep 1"))), rule.PreExec, "has no ${WAIT_CMD}"},
		"waits, not behind":    {aRule(item("a", command("${WAIT_CMD}"))), rule.PreExec, "set background: true"},
		"good":                 {aRule(item("a", command("true"), background("x; ${WAIT_CMD}"))), rule.PreExec, ""},
		"good after snapshots": {aRule(item("a", command("true"))), rule.PostExec, ""},
	} {
		err := rule.Check(c.rule, c.phase)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	ended := pod("ended", map[string]string{"app": "db"})
	ended.Status.Phase = corev1.PodSucceeded
	pods := []corev1.Pod{pod("db-1", map[string]string{"app": "db"}, "side"), pod("db-0", map[string]string{"app": "db"}), ended, pod("web", map[string]string{"app": "web"})}
	single := background("${WAIT_CMD}")
	single.RunInSinglePod = true
	tasks, unmatched, err := rule.Plan(aRule(item("db", command("one"), single), item("none", command("x")), item("web", command("two"))), rule.PreExec, pods, "run")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	ids := map[string]bool{}
	for _, task := range tasks {
		got = append(got, fmt.Sprintf("%d:%s/%s", task.Step, task.Pod, task.Container))
		ids[task.ID] = true
	}
	if fmt.Sprint(got) != "[0:db-0/main 0:db-1/main 1:db-0/main 2:web/main]" || len(ids) != 4 || fmt.Sprint(unmatched) != "[app=none]" {
		t.Errorf("planned %v with %d ids, unmatched %v", got, len(ids), unmatched)
	}
	again, _, _ := rule.Plan(aRule(item("db", command("one"))), rule.PreExec, pods, "run")
	if again[0].ID != tasks[0].ID {
		t.Error("the same task has another id when planned again")
	}
	other, _, _ := rule.Plan(aRule(item("db", command("one"))), rule.PreExec, pods, "another run")
	if other[0].ID == tasks[0].ID {
		t.Error("tasks of two runs share an id")
	}
	missing := item("db", command("x"))
	missing.Container = "side"
	if _, _, err := rule.Plan(aRule(missing), rule.PreExec, pods, "run"); err == nil || !strings.Contains(err.Error(), "db-0 has no container side") {
		t.Errorf("a container that is not there: %v", err)
	}
}

// play is a rule carried out on this machine.
type play struct {
	t      *testing.T
	shell  *machine
	runner rule.Runner
	tasks  []api.RuleTask
	now    time.Time
}

func newPlay(t *testing.T, items ...api.RuleItem) *play {
	t.Helper()
	p := &play{t: t, shell: &machine{gone: map[string]bool{}}, now: time.Now()}
	p.runner = rule.Runner{Shell: p.shell, Now: func() time.Time { return p.now }, Limit: time.Minute}
	var err error
	p.tasks, _, err = rule.Plan(aRule(items...), rule.PreExec, []corev1.Pod{pod("a", map[string]string{"app": "a"}), pod("b", map[string]string{"app": "b"})}, t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.shell.fail, p.shell.gone = nil, nil
		if err := p.runner.Clear(context.WithoutCancel(t.Context()), p.tasks); err != nil {
			t.Error(err)
		}
		for _, task := range p.tasks {
			if _, err := os.Stat("/tmp/.godwit-" + task.ID); !os.IsNotExist(err) {
				t.Errorf("task %s leaves its folder: %v", task.ID, err)
			}
		}
	})
	return p
}

func (p *play) through() *api.RuleTask {
	p.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := p.runner.Advance(p.t.Context(), p.tasks); err != nil {
			p.t.Fatal(err)
		}
		if through, failed := rule.Through(p.tasks); through || failed != nil {
			return failed
		}
		select {
		case <-p.t.Context().Done():
			p.t.Fatal("never through")
		case <-tick.C:
		}
	}
}

func (p *play) release() {
	p.t.Helper()
	for {
		through, err := p.runner.Release(p.t.Context(), p.tasks)
		if err != nil {
			p.t.Fatal(err)
		}
		if through {
			return
		}
		select {
		case <-p.t.Context().Done():
			p.t.Fatal("never released")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestOneAfterAnother(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	say := func(w string) string { return fmt.Sprintf("echo %s >>'%s'; echo said %[1]s", w, log) }
	p := newPlay(t, item("a", command(say("first")), background(say("hold")+" && ${WAIT_CMD} && "+say("freed"))), item("b", command(say("last"))))
	if failed := p.through(); failed != nil {
		t.Fatal(failed.Message)
	}
	told, err := os.ReadFile(log)
	if err != nil || string(told) != "first\nhold\nlast\n" {
		t.Fatalf("before the snapshots: %q %v", told, err)
	}
	if p.tasks[0].Message != "said first" || p.tasks[1].State != api.RuleTaskWaiting {
		t.Errorf("tasks: %+v", p.tasks)
	}
	p.release()
	if told, _ = os.ReadFile(log); string(told) != "first\nhold\nlast\nfreed\n" || p.tasks[1].State != api.RuleTaskDone {
		t.Errorf("after the release: %q, %+v", told, p.tasks[1])
	}
}

// A controller that was killed between a start and its record starts the task
// again: the command must run once all the same.
func TestStartedTwiceRunsOnce(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	p := newPlay(t, item("a", command("echo x >>'"+log+"'")))
	before := p.tasks[0]
	for range 3 {
		p.tasks[0] = before
		if failed := p.through(); failed != nil {
			t.Fatal(failed.Message)
		}
	}
	if told, _ := os.ReadFile(log); string(told) != "x\n" {
		t.Errorf("the command ran %d times", strings.Count(string(told), "x"))
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		action api.RuleAction
		says   string
	}{
		"exit code":      {command("echo why; exit 3"), "exit code 3: why"},
		"never waits":    {background("true || ${WAIT_CMD}"), "ended before the snapshots, without waiting"},
		"no such tool":   {command("nosuchtool"), "exit code 127"},
		"quotes survive": {command(`printf '%s' "it's \"$0\" & done"; exit 1`), `it's "sh" & done`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlay(t, item("a", c.action), item("b", command("true")))
			failed := p.through()
			if failed == nil || !strings.Contains(failed.Message, c.says) || !strings.Contains(failed.Message, "cms/a") {
				t.Fatalf("failed: %+v, want %q", failed, c.says)
			}
			if p.tasks[1].State != api.RuleTaskPlanned {
				t.Errorf("the next step went on: %+v", p.tasks[1])
			}
		})
	}
}

func TestTooLong(t *testing.T) {
	t.Parallel()
	p := newPlay(t, item("a", command("exec sleep 600")))
	if err := p.runner.Advance(t.Context(), p.tasks); err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(2 * time.Minute)
	failed := p.through()
	if failed == nil || !strings.Contains(failed.Message, "did not end within 1m0s") {
		t.Fatalf("%+v", failed)
	}
	pid, err := os.ReadFile("/tmp/.godwit-" + failed.ID + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); os.IsNotExist(err) {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the command runs on")
		case <-tick.C:
		}
	}
}

func TestTheHoldIsLost(t *testing.T) {
	t.Parallel()
	t.Run("nobody releases", func(t *testing.T) {
		t.Parallel()
		p := newPlay(t, item("a", background("${WAIT_CMD}; true")))
		p.runner.Limit = time.Second
		if failed := p.through(); failed != nil {
			t.Fatal(failed.Message)
		}
		expired := "/tmp/.godwit-" + p.tasks[0].ID + "/expired"
		for _, err := os.Stat(expired); err != nil; _, err = os.Stat(expired) {
			select {
			case <-t.Context().Done():
				t.Fatal("it waits for ever")
			case <-time.After(50 * time.Millisecond):
			}
		}
		p.release()
		if p.tasks[0].State != api.RuleTaskFailed || !strings.Contains(p.tasks[0].Message, "may not be consistent") {
			t.Errorf("%+v", p.tasks[0])
		}
	})
	t.Run("the command dies", func(t *testing.T) {
		t.Parallel()
		p := newPlay(t, item("a", background("${WAIT_CMD}; exit 7")))
		if failed := p.through(); failed != nil {
			t.Fatal(failed.Message)
		}
		p.release()
		if p.tasks[0].State != api.RuleTaskFailed || !strings.Contains(p.tasks[0].Message, "exit code 7") {
			t.Errorf("%+v", p.tasks[0])
		}
	})
	t.Run("the pod goes", func(t *testing.T) {
		t.Parallel()
		p := newPlay(t, item("a", background("${WAIT_CMD}")))
		if failed := p.through(); failed != nil {
			t.Fatal(failed.Message)
		}
		p.shell.gone["uid-a"] = true
		p.release()
		if p.tasks[0].State != api.RuleTaskFailed || !strings.Contains(p.tasks[0].Message, "deleted or replaced") {
			t.Errorf("%+v", p.tasks[0])
		}
		p.shell.gone = nil
		if _, err := p.runner.Shell.Run(t.Context(), rule.Place{}, []string{"touch", "/tmp/.godwit-" + p.tasks[0].ID + "/release"}); err != nil {
			t.Error(err)
		}
	})
	t.Run("the container is restarted", func(t *testing.T) {
		t.Parallel()
		p := newPlay(t, item("a", background("${WAIT_CMD}")))
		if failed := p.through(); failed != nil {
			t.Fatal(failed.Message)
		}
		if err := os.RemoveAll("/tmp/.godwit-" + p.tasks[0].ID + "/started"); err != nil {
			t.Fatal(err)
		}
		p.release()
		if p.tasks[0].State != api.RuleTaskFailed || !strings.Contains(p.tasks[0].Message, "restarted") {
			t.Errorf("%+v", p.tasks[0])
		}
		if err := os.WriteFile("/tmp/.godwit-"+p.tasks[0].ID+"/release", nil, 0o600); err != nil {
			t.Error(err)
		}
	})
}

func TestAContainerThatDoesNotAnswerIsTriedAgain(t *testing.T) {
	t.Parallel()
	p := newPlay(t, item("a", command("true")))
	p.shell.fail = context.DeadlineExceeded
	if err := p.runner.Advance(t.Context(), p.tasks); err == nil || p.tasks[0].State != api.RuleTaskPlanned {
		t.Fatalf("%v, %+v", err, p.tasks[0])
	}
	p.shell.fail = nil
	if failed := p.through(); failed != nil {
		t.Error(failed.Message)
	}
}

package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/hook"
)

// hooked is a rig that may run hooks, and whose Jobs the test carries out.
type hooked struct {
	*rig
	order []string
	fails map[string]bool
}

func newHooked(t *testing.T) *hooked {
	t.Helper()
	h := &hooked{rig: newRig(t), fails: map[string]bool{}}
	h.claim("data")
	h.migrations.Hooks = &hook.Runner{Client: h.client, Live: h.client, PlaybookImage: "runner"}
	return h
}

func (h *hooked) jobs() []batchv1.Job {
	h.t.Helper()
	var list batchv1.JobList
	h.must(h.client.List(h.t.Context(), &list, client.InNamespace(h.ns), client.HasLabels{hook.LabelRound}))
	return list.Items
}

// work plays the Job controller: every hook ends at once, as the test says.
func (h *hooked) work() {
	for _, job := range h.jobs() {
		if job.Status.Succeeded+job.Status.Failed > 0 || !job.DeletionTimestamp.IsZero() {
			continue
		}
		name := job.Annotations["godwit.io/hook"]
		name = name[strings.LastIndex(name, " ")+1:]
		h.order = append(h.order, name)
		now := metav1.NewTime(time.Now().Truncate(time.Second))
		job.Status.StartTime = &now
		ends := []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete}
		if h.fails[name] {
			ends = []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobFailed}
			job.Status.Failed = 1
		} else {
			job.Status.Succeeded, job.Status.CompletionTime = 1, &now
		}
		for _, c := range ends {
			job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: c, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded", Message: "it failed too often", LastTransitionTime: now})
		}
		h.must(h.client.Status().Update(h.t.Context(), &job))
	}
}

func a(name string, phase api.HookPhase, change func(*api.Hook)) api.Hook {
	h := api.Hook{Name: name, Phase: phase, Image: "i", Command: []string{"true"}}
	if change != nil {
		change(&h)
	}
	return h
}

func with(hooks ...api.Hook) func(*api.MigrationSpec) {
	return func(s *api.MigrationSpec) { s.Hooks = hooks }
}

// TestHooksInOrder runs several per phase on both clusters, each once, with the
// controller's last write lost after each.
func TestHooksInOrder(t *testing.T) {
	h := newHooked(t)
	playbook := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: h.ns, Name: "books"}, Data: map[string]string{"playbook.yml": "- hosts: localhost"}}
	h.must(h.client.Create(t.Context(), playbook))
	h.migration("move", with(
		a("after", api.HookPostRestore, nil), a("two", api.HookPreBackup, nil), a("three", api.HookPreBackup, nil),
		a("four", api.HookPostBackup, func(k *api.Hook) { k.Image, k.Command = "", nil; k.Playbook = &api.HookPlaybook{ConfigMap: "books"} }),
		a("before", api.HookPreRestore, nil), a("here", api.HookPostRestore, func(k *api.Hook) { k.Cluster = api.HookSource }),
	))
	var seen []string
	watch := func() {
		m := h.get("move")
		for _, s := range m.Status.Hooks {
			if !slices.Contains(seen, s.Name) {
				seen = append(seen, s.Name)
			}
		}
		// Whoever is killed here has lost what it wrote last.
		for i := range m.Status.Hooks {
			if s := &m.Status.Hooks[i]; s.State == api.HookRunning && s.Started != nil {
				before := m.DeepCopy()
				s.State, s.Started, s.Job = api.HookPending, nil, ""
				h.must(h.client.Status().Patch(t.Context(), m, client.MergeFrom(before)))
			}
		}
		if slices.Contains(seen, "four") && !is(sealed)(m) || slices.Contains(seen, "after") && !is(begun)(m) || is(begun)(m) && !slices.Contains(seen, "before") {
			t.Errorf("with %v a hook ran in another phase", seen)
		}
	}
	m := h.until("move", "its end", ended, watch, h.work, h.carryOut("move"))
	if m.Status.Status != api.MigrationStatusSuccessful {
		t.Fatalf("it ended as %s: %+v", m.Status.Status, m.Status.Conditions)
	}
	if got := fmt.Sprint(seen); got != "[two three four before after here]" {
		t.Errorf("the hooks ran as %s", got)
	}
	if got := fmt.Sprint(h.order); got != "[two three four here]" {
		t.Errorf("on the source ran %s", got)
	}
	for _, s := range m.Status.Hooks {
		on := map[bool]api.HookCluster{true: api.HookTarget, false: api.HookSource}[s.Name == "before" || s.Name == "after"]
		if s.State != api.HookSucceeded || s.Cluster != on || s.Namespace != h.ns {
			t.Errorf("hook %+v", s)
		}
	}
	if log := m.Status.Hooks[3].Log; log != "log of before" {
		t.Errorf("the log that is kept: %q", log)
	}
	h.nothingLeft(m)
}

func (h *hooked) nothingLeft(m *api.Migration) {
	h.t.Helper()
	var configs corev1.ConfigMapList
	h.must(h.client.List(h.t.Context(), &configs, client.InNamespace(h.ns), client.HasLabels{hook.LabelRound}))
	if left := h.left(m); len(h.jobs())+len(configs.Items)+len(left)+len(h.target.ran) > 0 {
		h.t.Errorf("left: %d Jobs, %d ConfigMaps, %v, on the target %v", len(h.jobs()), len(configs.Items), left, h.target.ran)
	}
}

// TestPlaybookJob sees what the Job of a playbook is made of.
func TestPlaybookJob(t *testing.T) {
	h := newHooked(t)
	playbook := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: h.ns, Name: "books"}, Data: map[string]string{"site.yml": "- hosts: localhost"}}
	h.must(h.client.Create(t.Context(), playbook))
	three, user, group := int32(3), int64(1001), int64(0)
	h.migration("move", with(a("play", api.HookPreBackup, func(k *api.Hook) {
		k.Image, k.Command, k.ServiceAccountName, k.BackoffLimit = "", nil, "robot", &three
		k.Deadline = &metav1.Duration{Duration: 90 * time.Second}
		k.Playbook = &api.HookPlaybook{ConfigMap: "books", Key: "site.yml"}
		k.SecurityContext = &api.HookSecurityContext{RunAsUser: &user, RunAsGroup: &group}
	})))
	m := h.until("move", "its Job", func(*api.Migration) bool { return len(h.jobs()) == 1 })
	job := h.jobs()[0]
	pod := job.Spec.Template.Spec
	c := pod.Containers[0]
	if *job.Spec.BackoffLimit != 3 || *job.Spec.ActiveDeadlineSeconds != 90 || pod.ServiceAccountName != "robot" || c.Image != "runner" ||
		fmt.Sprint(c.Command) != "[ansible-playbook /godwit/hook/site.yml]" || c.VolumeMounts[0].MountPath != "/godwit/hook" || pod.Volumes[0].ConfigMap.Name != job.Name {
		t.Errorf("the Job is %+v", job.Spec)
	}
	if s := pod.SecurityContext; *s.RunAsUser != user || *s.RunAsGroup != group || s.FSGroup != nil || !*s.RunAsNonRoot {
		t.Errorf("it runs as %+v", s)
	}
	var files corev1.ConfigMap
	h.must(h.client.Get(t.Context(), client.ObjectKeyFromObject(&job), &files))
	if files.Data["site.yml"] != playbook.Data["site.yml"] {
		t.Errorf("its files are %v", files.Data)
	}
	h.cancel(m)
	h.nothingLeft(h.until("move", "its end", ended))
}

// TestHooksThatFail abort, or do not; and what is handed over stays so.
func TestHooksThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		phase   api.HookPhase
		onFail  api.HookFailure
		status  api.MigrationStatusType
		begun   int
		message string
	}{
		"abort":    {api.HookPreBackup, api.HookAbort, api.MigrationStatusFailed, 0, "hook first (PreBackup): BackoffLimitExceeded: it failed too often"},
		"continue": {api.HookPreBackup, api.HookContinue, api.MigrationStatusSuccessful, 1, "the application is on the target"},
		"sealed":   {api.HookPostBackup, api.HookAbort, api.MigrationStatusFailed, 0, "hook first (PostBackup)"},
		"late":     {api.HookPostRestore, api.HookAbort, api.MigrationStatusPartialSuccess, 1, "the application is on the target, but hook first (PostRestore) failed"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHooked(t)
			h.fails["first"] = true
			h.migration("move", with(
				a("first", c.phase, func(k *api.Hook) { k.OnFailure, k.Cluster = c.onFail, api.HookSource }),
				a("second", c.phase, func(k *api.Hook) { k.Cluster = api.HookSource }),
			))
			m := h.until("move", "its end", ended, h.work, h.carryOut("move"))
			ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
			if m.Status.Status != c.status || !strings.Contains(ready.Message, c.message) || len(h.target.begun) != c.begun {
				t.Errorf("it ended as %s, %d rounds on the target: %s", m.Status.Status, len(h.target.begun), ready.Message)
			}
			if second := slices.Contains(h.order, "second"); second != (c.onFail == api.HookContinue) {
				t.Errorf("the next hook ran: %t", second)
			}
			h.nothingLeft(m)
		})
	}
}

// TestHooksThatCannotRun are refused before anything is done.
func TestHooksThatCannotRun(t *testing.T) {
	for name, c := range map[string]struct {
		hook api.Hook
		says string
	}{
		"foreign":    {a("x", api.HookPreBackup, func(k *api.Hook) { k.Namespace = "kube-system" }), "may not run in namespace kube-system"},
		"home":       {a("x", api.HookPreBackup, func(k *api.Hook) { k.Namespace = home }), "may not run in namespace " + home},
		"no-book":    {a("x", api.HookPreBackup, func(k *api.Hook) { k.Playbook = &api.HookPlaybook{ConfigMap: "none"} }), "there is no ConfigMap"},
		"old-target": {a("x", api.HookPostRestore, func(k *api.Hook) { k.SecurityContext = &api.HookSecurityContext{} }), "knows no users of hooks"},
		"stage-run":  {a("x", api.HookPostRestore, func(k *api.Hook) { k.Cluster = api.HookSource }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHooked(t)
			h.migration("move", func(s *api.MigrationSpec) {
				yes := c.says == ""
				s.Hooks, s.Stage = []api.Hook{c.hook}, &yes
			})
			m := h.until("move", "its end", ended, h.carryOut("move"))
			ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
			if (m.Status.Status == api.MigrationStatusSuccessful) != (c.says == "") || !strings.Contains(ready.Message, c.says) || len(m.Status.Hooks) > 0 {
				t.Errorf("it ended as %s: %s, %+v", m.Status.Status, ready.Message, m.Status.Hooks)
			}
		})
	}
	h := newHooked(t)
	h.migrations.Hooks = nil
	h.migration("move", with(a("x", api.HookPreBackup, nil)))
	m := h.until("move", "its end", ended)
	if ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady); !strings.Contains(ready.Message, "hooks.enabled=true") {
		t.Errorf("not enabled: %s", ready.Message)
	}
	root := int64(0)
	for says, hook := range map[string]api.Hook{
		"name an image, or a playbook":      {Name: "x", Phase: api.HookPreBackup},
		"a hook's pod does not run as root": a("x", api.HookPreBackup, func(k *api.Hook) { k.SecurityContext = &api.HookSecurityContext{RunAsUser: &root} }),
	} {
		bad := &api.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: h.ns, Name: "bad"}}
		bad.Spec = api.MigrationSpec{ClusterPair: "west", Namespaces: []string{h.ns}}
		bad.Spec.Hooks = []api.Hook{hook}
		if err := h.client.Create(t.Context(), bad); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("not refused with %q: %v", says, err)
		}
	}
}

// TestAJobThatIsDeletedIsNotMadeAgain holds that a hook runs once.
func TestAJobThatIsDeletedIsNotMadeAgain(t *testing.T) {
	h := newHooked(t)
	h.migration("move", with(a("x", api.HookPreBackup, nil)))
	h.until("move", "its Job", func(m *api.Migration) bool { return len(m.Status.Hooks) == 1 && m.Status.Hooks[0].Started != nil })
	job := h.jobs()[0]
	h.must(h.client.Delete(t.Context(), &job, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	m := h.until("move", "its end", ended)
	if s := m.Status.Hooks[0]; s.State != api.HookFailed || !strings.Contains(s.Message, "was deleted while it ran") || m.Status.Status != api.MigrationStatusFailed {
		t.Errorf("it ended as %s: %+v", m.Status.Status, s)
	}
}

package target_test

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/hook"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// TestHooksOnTheTarget runs hooks of a source over the wire: only where this
// cluster lets it, only in the pair's namespaces, once, and all are taken away.
func TestHooksOnTheTarget(t *testing.T) {
	v := newVictim(t)
	a := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}})
	h := migrate.Hook{
		RoundRef: migrate.RoundRef{Application: "cms/app", Round: "r1", Namespaces: []string{"cms"}},
		Name:     "warm", Phase: migrate.PreRestore, Namespace: "cms", ServiceAccount: "default",
		Image: "i", Command: []string{"true"}, Files: map[string]string{"playbook.yml": "- hosts: localhost"},
		BackoffLimit: 2, Deadline: time.Minute,
	}
	forecast, err := a.target.Preflight(t.Context(), migrate.Preflight{Application: "cms/app", Namespaces: []string{"cms"}, Hooks: []migrate.Hook{h}})
	if err != nil || len(forecast.Problems) != 1 || !strings.Contains(forecast.Problems[0].Message, "hooks.enabled=true") {
		t.Errorf("not enabled: %+v, %v", forecast, err)
	}
	if r, err := a.target.Hook(t.Context(), h); err != nil || !r.Done || r.OK || len(v.jobs(t)) > 0 {
		t.Errorf("not enabled: %+v, %v", r, err)
	}
	v.agent.Hooks = &hook.Runner{Client: v.client, Live: v.client}
	for range 2 {
		if r, err := a.target.Hook(t.Context(), h); err != nil || r.Done || r.Job == "" {
			t.Fatalf("it was not started: %+v, %v", r, err)
		}
	}
	jobs := v.jobs(t)
	if len(jobs) != 1 || jobs[0].Namespace != "cms" || *jobs[0].Spec.BackoffLimit != 2 || *jobs[0].Spec.ActiveDeadlineSeconds != 60 {
		t.Fatalf("Jobs: %+v", jobs)
	}
	foreign, own := h, h
	foreign.Namespace, own.Namespace = "shop", home
	for _, bad := range []migrate.Hook{foreign, own} {
		if r, err := a.target.Hook(t.Context(), bad); err == nil && (!r.Done || r.OK) {
			t.Errorf("a hook in namespace %s: %+v", bad.Namespace, r)
		}
	}
	faceless := h
	faceless.Name, faceless.Image = "faceless", ""
	if r, err := a.target.Hook(t.Context(), faceless); err != nil || !r.Done || r.OK || !strings.Contains(r.Message, "names no image") {
		t.Errorf("without an image: %+v, %v", r, err)
	}
	root, zero := h, int64(0)
	root.Name, root.User = "root", &migrate.HookUser{User: &zero}
	if r, err := a.target.Hook(t.Context(), root); err != nil || !r.Done || r.OK || !strings.Contains(r.Message, "does not run as root") {
		t.Errorf("as root: %+v, %v", r, err)
	}
	// Another pair, with a round of the same name, has nothing to do with it.
	other := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}})
	if r, err := other.target.Hook(t.Context(), migrate.Hook{RoundRef: h.RoundRef, Drop: true}); err != nil || !r.Done {
		t.Errorf("another's drop: %+v, %v", r, err)
	}
	if len(v.jobs(t)) != 1 {
		t.Fatalf("after all that there are %d Jobs", len(v.jobs(t)))
	}
	for range 3 {
		if r, err := a.target.Hook(t.Context(), migrate.Hook{RoundRef: h.RoundRef, Drop: true}); err != nil {
			t.Fatal(err)
		} else if r.Done {
			break
		}
	}
	if left := v.jobs(t); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
	h.Started = true
	if r, err := a.target.Hook(t.Context(), h); err != nil || !r.Done || r.OK || !strings.Contains(r.Message, "was deleted while it ran") {
		t.Errorf("after its Job was deleted: %+v, %v", r, err)
	}
}

func (v *victim) jobs(t *testing.T) []batchv1.Job {
	t.Helper()
	var list batchv1.JobList
	if err := v.client.List(t.Context(), &list, client.HasLabels{hook.LabelRound}); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

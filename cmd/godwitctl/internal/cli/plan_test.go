package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
)

// TestLastRounds takes of each volume the newest good round.
func TestLastRounds(t *testing.T) {
	at := func(minute int, rung string, changed int64) api.MigrationVolumeInfo {
		taken := metav1.NewTime(time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC))
		v := api.MigrationVolumeInfo{Namespace: "cms", PersistentVolumeClaim: "data", Volume: "pv-1"}
		v.Taken, v.Rung, v.BytesChanged, v.BytesUploaded = &taken, rung, changed, changed/2
		return v
	}
	other := at(9, "Delta", 9)
	other.Volume = "pv-of-a-claim-of-that-name-before"
	var earlier []api.Migration
	for name, v := range map[string]api.MigrationVolumeInfo{"a": at(1, "Allocated", 1000), "b": at(3, "Delta", 20), "c": at(2, "Delta", 30), "d": other} {
		m := api.Migration{ObjectMeta: metav1.ObjectMeta{Name: name}}
		m.Status.Volumes = []api.MigrationVolumeInfo{v}
		earlier = append(earlier, m)
	}
	volumes := []api.MigrationVolumeInfo{
		{Namespace: "cms", PersistentVolumeClaim: "data", Volume: "pv-1", BytesTotal: 1 << 20}, {Namespace: "cms", PersistentVolumeClaim: "new", Volume: "pv-2"},
	}
	last := lastRounds(earlier, volumes)
	if got := last["cms/data"]; len(last) != 1 || got.Migration != "b" || got.Rung != "Delta" || got.BytesChanged != 20 || got.BytesUploaded != 10 {
		t.Errorf("%+v", last)
	}
	lines := strings.Join(volumeLines(planned{Volumes: volumes, LastRounds: last}), "\n")
	if !strings.Contains(lines, "its last round, of 02 Jan 26 03:03 UTC by Migration b: 20 B had changed, 10 B were sent (Delta)") || strings.Count(lines, "last round") != 1 {
		t.Error(lines)
	}
}

// TestPolicies takes PropagationPolicies as their users wrote them.
func TestPolicies(t *testing.T) {
	for file, want := range map[string]struct {
		selectors int
		preserve  bool
	}{"karmada-app.yaml": {2, true}, "karmada-deployments.yaml": {1, false}} {
		doc, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		m, err := migrationOfPolicy(doc, "member1", "shop")
		if err != nil || m == nil {
			t.Fatalf("%s: %v", file, err)
		}
		s := m.Spec
		if s.ClusterPair != "member1" || s.Namespaces[0] != "shop" || s.ConflictResolution != api.ConflictOverwrite || len(s.ResourceSelectors) != want.selectors ||
			*s.PreserveResourcesOnDeletion != want.preserve || *s.IncludeVolumes || s.ResourceSelectors[0].Kind != "Deployment" {
			t.Errorf("%s: %+v", file, s)
		}
		if _, err := migrationOfPolicy(doc, "", "shop"); err == nil || !strings.Contains(err.Error(), "--clusterPair") {
			t.Errorf("%s without a pair: %v", file, err)
		}
	}
}

// answer plays the controller: it ends every dry run with a plan.
func (c *cluster) answer(t *testing.T, plan workload.Plan, problems []string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var list api.MigrationList
			if c.client.List(ctx, &list) != nil {
				continue
			}
			for i := range list.Items {
				m := &list.Items[i]
				if m.Spec.DryRun == nil || !*m.Spec.DryRun || m.Status.Stage == api.MigrationStageFinal {
					continue
				}
				data, err := json.Marshal(plan)
				if err == nil {
					data, err = workload.Compress(data)
				}
				if err != nil {
					t.Error(err)
				}
				m.Status.Stage, m.Status.Status = api.MigrationStageFinal, api.MigrationStatusSuccessful
				m.Status.Plan = &api.MigrationPlan{Problems: problems, Details: data}
				m.Status.Volumes = []api.MigrationVolumeInfo{{Namespace: "cms", PersistentVolumeClaim: "data", BytesTotal: 1 << 30, Method: api.MethodBlock, MethodReason: "it has snapshots"}}
				_ = c.client.Status().Update(ctx, m)
			}
		}
	}()
	return func() { cancel(); <-done }
}

func TestPlan(t *testing.T) {
	c := newCluster(t)
	c.installKinds(t)
	c.create(t, &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod"}})
	file := filepath.Join(t.TempDir(), "m.yaml")
	manifest := "apiVersion: godwit.io/v1alpha1\nkind: Migration\nmetadata: {name: move, namespace: default}\nspec: {clusterPair: prod, namespaces: [default]}\n"
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	web := workload.Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "shop", Name: "web"}
	plan := workload.Plan{
		Objects: []workload.Outlook{
			{Ref: web, From: workload.Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "cms", Name: "web"}, Action: workload.Updated,
				Changes: []workload.Change{{Path: "spec.replicas", Old: 1, New: 2}}, By: []string{"spec.overrides[0]"}},
			{Ref: workload.Ref{Version: "v1", Kind: "Service", Namespace: "shop", Name: "web"}, Action: workload.Created},
		},
		LeftOut:  []workload.Skipped{{Ref: workload.Ref{Version: "v1", Kind: "Event"}, Rule: "events", Reason: "tells what happened in this cluster"}},
		Warnings: []string{"a rule does nothing"},
		Lacks: []workload.Lack{
			{Ref: web, Reason: "NoNode", Message: "Deployment.apps shop/web: there is no node here"},
			{Ref: web, Reason: "PodsRefused", Message: "told among the problems", Fails: true},
		},
		Images: []workload.Image{{Name: "a", Known: workload.ImageOnNode}, {Name: "b", Known: workload.ImageUnknown}},
	}
	stop := c.answer(t, plan, nil)
	got := c.good(t, "plan -f "+file)
	for _, want := range []string{
		"Migration default/move", "volume cms/data", "(it has snapshots)", "~ Deployment.apps shop/web (from Deployment.apps cms/web)",
		"- spec.replicas: 1", "+ spec.replicas: 2", "changed by spec.overrides[0]", "+ Service shop/web",
		"the target lacks: Deployment.apps shop/web: there is no node here",
		"2 images: 1 on nodes of the target, 0 of registries that its nodes pulled from, 1 of which nothing is known there",
		"left out by rule events (1): tells what happened in this cluster", "warning: a rule does nothing",
		"Plan: 1 to create, 1 to change, 0 to make anew, 0 unchanged, 0 to leave, 0 refused; 1 volumes of",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the plan lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "told among the problems") {
		t.Errorf("a lack that fails the run is told twice:\n%s", got)
	}
	var plans []planned
	if err := json.Unmarshal([]byte(c.good(t, "plan -o json -f "+file)), &plans); err != nil || len(plans) != 1 || len(plans[0].Objects) != 2 {
		t.Errorf("%v: %+v", err, plans)
	}
	stop()
	stop = c.answer(t, plan, []string{"Service shop/web is in dispute"})
	defer stop()
	if got := c.run(t, "plan -f "+file); got.code != 1 || !strings.Contains(got.out, "problem: Service shop/web is in dispute") || !strings.Contains(got.err, "this would fail") {
		t.Errorf("code %d: %s%s", got.code, got.out, got.err)
	}
	if got := c.run(t, "plan -n default -c prod -f testdata/karmada-app.yaml --timeout 20s"); !strings.Contains(got.out, "Migration default/nginx-pp") {
		t.Errorf("%s%s", got.out, got.err)
	}
	c.good(t, "create migration adopt -n default -c prod --namespaces default --includeVolumes=false --policy testdata/karmada-app.yaml")
	var adopt api.Migration
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "adopt"}, &adopt); err != nil || len(adopt.Spec.ResourceSelectors) != 2 || adopt.Spec.ConflictResolution != api.ConflictOverwrite {
		t.Errorf("%v: %+v", err, adopt.Spec)
	}
	if err := c.client.Delete(t.Context(), &adopt); err != nil {
		t.Error(err)
	}
	var left api.MigrationList
	if err := c.client.List(t.Context(), &left, client.InNamespace("default")); err != nil || len(left.Items) != 0 {
		t.Errorf("%d Migrations are left: %v", len(left.Items), err)
	}
}

package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/test/scenario"
)

// harbour is what karmada-app.yaml names, and what only karmada-deployments.yaml
// selects, and what neither does.
const harbour = `
{apiVersion: v1, kind: Service, metadata: {name: nginx-svc, namespace: harbour}, spec: {selector: {app: nginx}, ports: [{port: 80}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx, namespace: harbour, labels: {from: FROM}}
spec:
  replicas: 2
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: "sandbox.local/busybox:1", imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other, namespace: harbour, labels: {from: FROM}}
spec:
  replicas: 1
  selector: {matchLabels: {app: other}}
  template:
    metadata: {labels: {app: other}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: "sandbox.local/busybox:1", imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}]}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: harbour, labels: {from: FROM}}}
`

// TestKarmada takes over what runs on the target already, as PropagationPolicies of
// Karmada select it: no pod is restarted, and nothing else is touched.
func TestKarmada(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.App{Namespace: "harbour"}
	must(t, g.StartOver(ctx, app))
	t.Cleanup(func() {
		if err := g.StartOver(context.WithoutCancel(ctx), app); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		must(t, c.EnsureNamespace(ctx, "harbour"))
		must(t, c.Apply(ctx, []byte(strings.ReplaceAll(harbour, "FROM", c.Name))))
	}
	for _, workload := range []string{"deployment/nginx", "deployment/other"} {
		must(t, g.Target.Rollout(ctx, "harbour", workload))
	}
	must(t, g.Pair(ctx, "harbour", "member1"))
	pods := podsOf(ctx, t, g.Target, "harbour", "app in (nginx, other)")
	if n := len(strings.Fields(pods)); n != 6 {
		t.Fatalf("the target has not three pods with their restarts: %s", pods)
	}
	for _, policy := range []struct {
		file  string
		takes []string
	}{
		{"karmada-app", []string{"Deployment nginx", "Service nginx-svc"}},
		{"karmada-deployments", []string{"Deployment nginx", "Deployment other"}},
	} {
		_, err := g.Godwitctl(ctx, g.Source, "-n", "harbour", "create", "migration", policy.file, "-c", "member1", "--namespaces", "harbour",
			"--includeVolumes=false", "--startApplications", "--policy", "testdata/"+policy.file+".yaml")
		must(t, err)
		m, err := g.AwaitSuccess(ctx, "harbour", policy.file, scenario.Long)
		must(t, err)
		var took []string
		for _, r := range m.Status.Resources {
			if r.Kind != "Namespace" {
				took = append(took, r.Kind+" "+r.Name)
			}
		}
		slices.Sort(took)
		if !slices.Equal(took, policy.takes) {
			t.Errorf("%s took %v, want %v", policy.file, took, policy.takes)
		}
		if now := podsOf(ctx, t, g.Target, "harbour", "app in (nginx, other)"); now != pods {
			t.Errorf("%s restarted pods: %s, was %s", policy.file, now, pods)
		}
		// The adopted ones are the source's now, what no policy has selected yet is not.
		other := g.Target.Name
		if slices.Contains(policy.takes, "Deployment other") {
			other = g.Source.Name
		}
		requireFrom(ctx, t, g.Target, g.Source.Name, other, g.Target.Name)
		// It goes back with its Migration, unless the policy preserves it.
		must(t, g.DeleteMigration(ctx, "harbour", policy.file))
		must(t, g.AwaitNothingLeftOf(ctx, "harbour", scenario.Soon))
		requireFrom(ctx, t, g.Target, g.Source.Name, g.Target.Name, g.Target.Name)
		if now := podsOf(ctx, t, g.Target, "harbour", "app in (nginx, other)"); now != pods {
			t.Errorf("pods are %s after %s is gone, and were %s", now, policy.file, pods)
		}
	}
}

// requireFrom sees by their labels whose the two Deployments and the ConfigMap are.
func requireFrom(ctx context.Context, t *testing.T, c scenario.Cluster, wanted ...string) {
	t.Helper()
	labels, err := c.Kubectl(ctx, "-n", "harbour", "get", "deployment/nginx", "deployment/other", "configmap/settings", "-o", "jsonpath={.items[*].metadata.labels.from}")
	must(t, err)
	if want := strings.Join(wanted, " "); labels != want {
		t.Errorf("the objects are from %q, want %q", labels, want)
	}
}

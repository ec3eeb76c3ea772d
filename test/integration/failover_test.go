package integration

import (
	"context"
	"strings"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

const counter = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: counter, namespace: asked}
spec: {replicas: 2, selector: {matchLabels: {app: c}}, template: {metadata: {labels: {app: c}}, spec: {containers: [{name: c, image: nowhere.example.com/counter}]}}}
---
apiVersion: godwit.io/v1alpha1
kind: MigrationSchedule
metadata: {name: dr, namespace: asked}
spec:
  continuous: true
  minIntervalSeconds: 1
  template: {spec: {clusterPair: west, namespaces: [asked], includeVolumes: false, excludeResourceTypes: [ServiceAccount]}}
`

// TestFailoverAskedOnTheTarget moves an application without volumes by what is asked
// on its target only: there, and back.
func TestFailoverAskedOnTheTarget(t *testing.T) {
	g, ctx := besideOthers(t)
	const ns = "asked"
	must(t, g.Source.EnsureNamespace(ctx, ns))
	must(t, g.Pair(ctx, ns, "west"))
	must(t, g.Source.Apply(ctx, []byte(counter)))
	t.Cleanup(func() { forget(context.WithoutCancel(ctx), t, g, ns, "dr") })
	goodRun(ctx, t, g, ns, "dr", "")
	replicas := func(c scenario.Cluster, want string) {
		t.Helper()
		got, err := c.Kubectl(ctx, "-n", ns, "get", "deployment/counter", "-o", "jsonpath={.spec.replicas}")
		must(t, err)
		if got != want {
			t.Errorf("cluster %s runs %s replicas, want %s", c.Name, got, want)
		}
	}
	said, err := g.Godwitctl(ctx, g.Target, "perform", "failover", "-m", "dr", "-n", ns)
	t.Log(said)
	must(t, err)
	for _, want := range []string{"The source is asked to stop asked/asked", "Started failover for MigrationSchedule asked/dr", "completed successfully"} {
		if !strings.Contains(said, want) {
			t.Errorf("nobody is told %q", want)
		}
	}
	replicas(g.Source, "0")
	replicas(g.Target, "2")
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		all, err := scenario.Get[api.ActionList](ctx, c, "-n", ns, "actions.godwit.io")
		must(t, err)
		if len(all.Items) != 1 {
			t.Fatalf("cluster %s has %d Actions", c.Name, len(all.Items))
		}
		a := all.Items[0]
		if a.Status.Status != api.ActionStatusSuccessful || a.Status.Summary == nil || len(a.Status.Summary.FailoverSummary) != 1 || a.Status.Activating {
			t.Errorf("the Action of cluster %s: %+v", c.Name, a.Status)
		}
	}
	listed, err := g.Godwitctl(ctx, g.Target, "get", "failover", "-n", ns)
	must(t, err)
	if !strings.Contains(listed, "Scaled up Apps in : 1/1 namespaces") {
		t.Errorf("it is listed as\n%s", listed)
	}
	s, err := scenario.Get[api.MigrationSchedule](ctx, g.Source, "-n", ns, "migrationschedule", "dr")
	must(t, err)
	if s.Spec.Suspend == nil || !*s.Spec.Suspend {
		t.Error("the source's schedule runs on")
	}
	again, err := g.Godwitctl(ctx, g.Target, "perform", "failover", "-m", "asked/asked")
	if err != nil || strings.Contains(again, "Started") {
		t.Errorf("once more: %v\n%s", err, again)
	}

	said, err = g.Godwitctl(ctx, g.Target, "perform", "failback", "-m", "asked/asked")
	t.Log(said)
	must(t, err)
	replicas(g.Source, "2")
	replicas(g.Target, "0")
}

// TestFailoverAskedByAOneWayPair says where to run it, and does it without the source
// when told so.
func TestFailoverAskedByAOneWayPair(t *testing.T) {
	g, ctx := besideOthers(t)
	const ns = "oneway"
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		must(t, c.EnsureNamespace(ctx, ns))
		must(t, g.EnsureLocation(ctx, c, ns, g.Store))
	}
	printed, err := g.Godwitctl(ctx, g.Target, "-n", ns, "generate", "clusterpair", "west", "-s", "mode=OneTimeMigration")
	must(t, err)
	must(t, g.Source.Apply(ctx, []byte(printed)))
	must(t, g.AwaitPair(ctx, ns, "west", scenario.Soon))
	must(t, g.Source.Apply(ctx, []byte(strings.NewReplacer("namespace: asked", "namespace: "+ns, "namespaces: [asked]", "namespaces: ["+ns+"]").Replace(counter))))
	t.Cleanup(func() { forget(context.WithoutCancel(ctx), t, g, ns, "dr") })
	goodRun(ctx, t, g, ns, "dr", "")
	said, err := g.Godwitctl(ctx, g.Target, "perform", "failover", "-m", "dr", "-n", ns)
	if err == nil || !strings.Contains(err.Error()+said, "run it on the source (perform failover -m dr -n "+ns+")") {
		t.Errorf("got %v\n%s", err, said)
	}
	said, err = g.Godwitctl(ctx, g.Target, "perform", "failover", "-m", "dr", "-n", ns, "--skip-source-operations")
	t.Log(said)
	must(t, err)
	got, err := g.Target.Kubectl(ctx, "-n", ns, "get", "deployment/counter", "-o", "jsonpath={.spec.replicas}")
	must(t, err)
	if got != "2" {
		t.Errorf("the target runs %s replicas, want 2", got)
	}
}

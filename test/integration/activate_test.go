package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

const lights = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: lamp, namespace: lights}
spec: {replicas: 3, selector: {matchLabels: {app: lamp}}, template: {metadata: {labels: {app: lamp}}, spec: {containers: [{name: c, image: nowhere.example.com/lamp}]}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: dusk, namespace: lights}
spec: {schedule: "0 1 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: nowhere.example.com/lamp}]}}}}}
---
apiVersion: godwit.io/v1alpha1
kind: MigrationSchedule
metadata: {name: nightly, namespace: lights}
spec:
  continuous: true
  minIntervalSeconds: 1
  autoSuspend: true
  template: {spec: {clusterPair: west, namespaces: [lights], includeVolumes: false, stage: false, excludeResourceTypes: [ServiceAccount]}}
`

// TestActivate has a schedule bring an application again and again without starting
// it, starts it on the target, sees that the schedule keeps its hands off from then
// on, and stops it again for the schedule to go on.
func TestActivate(t *testing.T) {
	g, ctx := besideOthers(t)
	must(t, g.Source.EnsureNamespace(ctx, "lights"))
	must(t, g.Pair(ctx, "lights", "west"))
	must(t, g.Source.Apply(ctx, []byte(lights)))
	t.Cleanup(func() { forget(context.WithoutCancel(ctx), t, g, "lights", "nightly") })
	first := goodRun(ctx, t, g, "lights", "nightly", "")
	lamp := func(want string) {
		t.Helper()
		got, err := g.Target.Kubectl(ctx, "-n", "lights", "get", "deployment/lamp", "cronjob/dusk", "-o", "jsonpath={.items[*].spec.replicas} {.items[*].spec.suspend}")
		must(t, err)
		if got = strings.Join(strings.Fields(got), " "); got != want {
			t.Errorf("the target has %q, want %q", got, want)
		}
	}
	lamp("0 true")
	there, err := scenario.Get[api.MigrationSchedule](ctx, g.Target, "-n", "lights", "migrationschedule", "nightly")
	must(t, err)
	if !there.IsCopy() || there.Spec.Suspend == nil || !*there.Spec.Suspend || there.Spec.Template.Spec.ClusterPair != "west" {
		t.Errorf("the target's copy is %+v", there)
	}

	said, err := g.Godwitctl(ctx, g.Target, "activate", "migration", "-n", "lights")
	must(t, err)
	if want := "Setting the ApplicationActivated status in the MigrationSchedule lights/nightly to true\nUpdated replicas for deployment lights/lamp to 3\nUpdated suspend option for cronjob lights/dusk to false\n"; !sameLines(said, want) {
		t.Errorf("activate said\n%s\nwant\n%s", said, want)
	}
	must(t, scenario.Await(ctx, scenario.Soon, "the schedule to suspend itself", func(ctx context.Context) (bool, string, error) {
		s, err := scenario.Get[api.MigrationSchedule](ctx, g.Source, "-n", "lights", "migrationschedule", "nightly")
		return s.Spec.Suspend != nil && *s.Spec.Suspend, "it runs on", err
	}))
	lamp("3 false")

	_, err = g.Godwitctl(ctx, g.Target, "deactivate", "migration", "-n", "lights")
	must(t, err)
	lamp("0 true")
	_, err = g.Godwitctl(ctx, g.Source, "resume", "migrationschedule", "nightly", "-n", "lights")
	must(t, err)
	goodRun(ctx, t, g, "lights", "nightly", goodRun(ctx, t, g, "lights", "nightly", first))
	lamp("0 true")
	// No run of the copy was made.
	runs, err := g.Target.Kubectl(ctx, "-n", "lights", "get", "migrations.godwit.io", "-o", "name")
	must(t, err)
	if runs != "" {
		t.Errorf("the copy made runs on the target: %s", runs)
	}
}

func sameLines(a, b string) bool {
	count := map[string]int{}
	for line := range strings.Lines(a) {
		count[line]++
	}
	for line := range strings.Lines(b) {
		count[line]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// goodRun waits for a good run of the schedule after the one that is named.
func goodRun(ctx context.Context, t *testing.T, g *scenario.Ground, namespace, schedule, after string) string {
	t.Helper()
	name := ""
	must(t, scenario.Await(ctx, scenario.Soon, "a good run after "+after, func(ctx context.Context) (bool, string, error) {
		s, err := scenario.Get[api.MigrationSchedule](ctx, g.Source, "-n", namespace, "migrationschedule", schedule)
		if s.Status.LastSuccess != nil {
			name = s.Status.LastSuccess.Name
		}
		return name != "" && name != after, "", err
	}))
	return name
}

// forget leaves nothing of a schedule and its standby on the clusters.
func forget(ctx context.Context, t *testing.T, g *scenario.Ground, namespace, schedule string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := g.Source.Kubectl(ctx, "-n", namespace, "delete", "migrationschedule", schedule, "--cascade=foreground", "--ignore-not-found", "--timeout=60s")
	must(t, err)
	dropStandbies(ctx, t, namespace, g.Target, g.Source)
}

func dropStandbies(ctx context.Context, t *testing.T, namespace string, clusters ...scenario.Cluster) {
	t.Helper()
	for _, c := range clusters {
		standbies, err := scenario.Standbies(ctx, c, namespace)
		must(t, err)
		for _, s := range standbies {
			_, err := c.Kubectl(ctx, "-n", scenario.Namespace, "delete", "standbies.godwit.io", s.Name, "--timeout=60s")
			must(t, err)
		}
	}
}

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestFailover replicates an application round after round, drills it, loses the
// source's Godwit, brings the application up on the target, and has the source come back:
// it is refused, and suspends itself.
func TestFailover(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Vault("failover", 8)
	must(t, g.StartPaired(ctx, app, "west"))
	_, err := g.Godwitctl(ctx, g.Source, "create", "migrationschedule", "dr", "-n", app.Namespace, "-c", "west", "--namespaces", app.Namespace,
		"--continuous", "--min-interval-seconds", "5")
	must(t, err)
	t.Cleanup(func() { afterFailover(context.WithoutCancel(ctx), t, g, app.Namespace) })
	first := awaitRun(ctx, t, g, app.Namespace, "")
	_, err = g.Source.Script(ctx, app.Namespace, "deployment/vault", "dd if=/dev/urandom of=/data/later bs=1024 count=300 2>/dev/null && sync")
	must(t, err)
	// The run that is under way may be of the moment before: the one after is not.
	awaitRun(ctx, t, g, app.Namespace, awaitRun(ctx, t, g, app.Namespace, first))

	drillUnderReplication(ctx, t, g, app.Namespace)

	suspend := func(verb string) {
		_, err := g.Godwitctl(ctx, g.Source, verb, "migrationschedule", "dr", "-n", app.Namespace)
		must(t, err)
	}
	// Its rounds would only slow down those that it waits for.
	suspend("suspend")
	ctx = alone(t)
	suspend("resume")
	t.Cleanup(func() {
		_, err := g.Source.Kubectl(context.WithoutCancel(ctx), "-n", scenario.Namespace, "scale", "deployment/godwit-controller", "--replicas=1")
		must(t, err)
	})
	_, err = g.Source.Kubectl(ctx, "-n", scenario.Namespace, "scale", "deployment/godwit-controller", "--replicas=0")
	must(t, err)
	// As long as it ends, it may still take the wish to fail over.
	_, err = g.Source.Kubectl(ctx, "-n", scenario.Namespace, "wait", "--for=delete", "pods", "-l", "app.kubernetes.io/component=controller", "--timeout=90s")
	must(t, err)
	listedWithoutTheSource(ctx, t, g)
	started := time.Now()
	said, err := g.Godwitctl(ctx, g.Target, "perform", "failover", "-m", app.Namespace+"/"+app.Namespace)
	t.Log(said)
	must(t, err)
	t.Logf("the application was handed over and applied within %v", time.Since(started).Round(100*time.Millisecond))
	if !strings.Contains(said, "what was written on the source since its snapshots is not in it") {
		t.Error("nobody is told what is lost")
	}
	must(t, g.AwaitRunning(ctx, g.Target, app))
	finding, err := g.VerifyTree(ctx, app.Data())
	must(t, err)
	t.Log(finding)

	_, err = g.Source.Kubectl(ctx, "-n", scenario.Namespace, "scale", "deployment/godwit-controller", "--replicas=1")
	must(t, err)
	must(t, scenario.Await(ctx, scenario.Long, "the source's schedule to suspend itself", func(ctx context.Context) (bool, string, error) {
		s, err := scenario.Get[api.MigrationSchedule](ctx, g.Source, "-n", app.Namespace, "migrationschedule", "dr")
		suspended := s.Spec.Suspend != nil && *s.Spec.Suspend
		return suspended, scenarioReady(s), err
	}))
	// What runs on the target was not touched.
	must(t, g.AwaitRunning(ctx, g.Target, app))
	_, err = g.VerifyTree(ctx, app.Data())
	must(t, err)
}

func scenarioReady(s api.MigrationSchedule) string {
	for _, c := range s.Status.Conditions {
		if c.Type == api.ConditionReady {
			return c.Reason + ": " + c.Message
		}
	}
	return "no status yet"
}

// awaitRun waits for a good run of the schedule after the one that is named, and
// returns its name.
func awaitRun(ctx context.Context, t *testing.T, g *scenario.Ground, namespace, after string) string {
	t.Helper()
	name := ""
	must(t, scenario.Await(ctx, scenario.Long, "a good run after "+after, func(ctx context.Context) (bool, string, error) {
		s, err := scenario.Get[api.MigrationSchedule](ctx, g.Source, "-n", namespace, "migrationschedule", "dr")
		if s.Status.LastSuccess != nil {
			name = s.Status.LastSuccess.Name
		}
		return name != "" && name != after, scenarioReady(s), err
	}))
	return name
}

// afterFailover leaves nothing of the story on the clusters.
func afterFailover(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string) {
	ctx, cancel := context.WithTimeout(ctx, scenario.Long)
	defer cancel()
	for _, do := range []struct {
		in   scenario.Cluster
		args []string
	}{
		{g.Source, []string{"-n", namespace, "delete", "migrationschedule", "dr", "--ignore-not-found", "--cascade=foreground", "--timeout=120s"}},
		{g.Target, []string{"-n", scenario.Namespace, "delete", "drill", namespace + "-drill", "--ignore-not-found", "--timeout=60s"}},
	} {
		if out, err := do.in.Kubectl(ctx, do.args...); err != nil {
			t.Errorf("tidy up: %v: %s", err, out)
		}
	}
	for _, c := range []scenario.Cluster{g.Target, g.Source} {
		dropStandbys(ctx, t, c, namespace)
	}
	// What a failback overwrote is kept until somebody says otherwise.
	_, err := g.Source.Kubectl(ctx, "-n", namespace, "delete", "volumesnapshots", "--all", "--timeout=60s")
	must(t, err)
	must(t, g.AwaitNothingLeftOf(ctx, namespace+"*", scenario.Soon))
}

// dropStandbys deletes those that the namespace's applications have in the cluster.
func dropStandbys(ctx context.Context, t *testing.T, c scenario.Cluster, namespace string) {
	t.Helper()
	standbies, err := scenario.Standbies(ctx, c, namespace)
	must(t, err)
	for _, s := range standbies {
		_, err := c.Kubectl(ctx, "-n", scenario.Namespace, "delete", "standbies.godwit.io", s.Name, "--timeout=60s")
		must(t, err)
	}
}

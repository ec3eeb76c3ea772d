package e2e

import (
	"context"
	"fmt"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestStagedThenMoved stages an application three times while it runs, and then
// moves it: each round moves what changed, into the same standby volume, and what
// runs on the target in the end has everything.
func TestStagedThenMoved(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Vault("staged", 64)
	must(t, g.StartPaired(ctx, app, "west"))
	volume := ""
	for round := range 3 {
		addFile(ctx, t, g, app, round)
		m := stage(ctx, t, g, app, fmt.Sprintf("stage-%d", round))
		v, standby := m.Status.Volumes[0], theStandby(ctx, t, g, app.Namespace)
		t.Logf("round %d: read %d by %s, changed %d, uploaded %d; written on the target %d", round, v.BytesRead, v.Rung, v.BytesChanged, v.BytesUploaded, v.BytesWritten)
		if round > 0 && (v.Base == "" || v.BytesWritten > 16<<20 || standby.Status.Volumes[0].Volume != volume) {
			t.Errorf("round %d did not bring the same volume forward by what changed: %+v", round, v)
		}
		volume = standby.Status.Volumes[0].Volume
		if standby.Status.Round != m.Status.Round || standby.Status.Phase != api.StandbyReady {
			t.Errorf("the standby is at %+v", standby.Status)
		}
		snapshots, err := g.Source.Kubectl(ctx, "-n", app.Namespace, "get", "volumesnapshots", "--no-headers", "-o", "name")
		must(t, err)
		if n := countLines(snapshots); n != 1 {
			t.Errorf("after round %d there are %d snapshots: %s", round, n, snapshots)
		}
	}
	must(t, g.AwaitRunning(ctx, g.Source, app))
	addFile(ctx, t, g, app, 3)
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "move", "west", app.Namespace))))
	_, err := g.AwaitSuccess(ctx, app.Namespace, "move", scenario.Long)
	must(t, err)
	must(t, g.AwaitRunning(ctx, g.Target, app))
	finding, err := g.VerifyTree(ctx, app.Data())
	must(t, err)
	t.Log(finding)
	for _, name := range []string{"stage-0", "stage-1", "stage-2", "move"} {
		must(t, g.DeleteMigration(ctx, app.Namespace, name))
	}
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
}

func addFile(ctx context.Context, t *testing.T, g *scenario.Ground, app scenario.App, round int) {
	t.Helper()
	_, err := g.Source.Kubectl(ctx, "-n", app.Namespace, "exec", "deployment/vault", "--", "sh", "-c",
		fmt.Sprintf("head -c 3000000 /dev/urandom > /data/round-%d && sync", round))
	must(t, err)
}

func stage(ctx context.Context, t *testing.T, g *scenario.Ground, app scenario.App, name string) api.Migration {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, name, "west", app.Namespace)+"  stage: true\n")))
	m, err := g.AwaitSuccess(ctx, app.Namespace, name, scenario.Long)
	must(t, err)
	_, err = g.Source.Kubectl(ctx, "-n", app.Namespace, "wait", "migrations.godwit.io/"+name, "--for=condition=Complete", "--timeout=10s")
	must(t, err)
	_, err = g.Source.Kubectl(ctx, "-n", app.Namespace, "wait", "migrations.godwit.io/"+name, "--for=condition=Released", "--timeout=60s")
	must(t, err)
	return m
}

func theStandby(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string) api.Standby {
	t.Helper()
	all, err := scenario.Standbies(ctx, g.Target, namespace)
	must(t, err)
	if len(all) != 1 {
		t.Fatalf("there are %d standbies", len(all))
	}
	return all[0]
}

func countLines(text string) int {
	n := 0
	for _, c := range text {
		if c == '\n' {
			n++
		}
	}
	return n
}

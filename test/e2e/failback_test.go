package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestFailback moves an application away with its source stopped, writes on the new
// side, and brings it back: what was written on either side before each move is
// there, and what goes back is what changed.
func TestFailback(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Vault("failback", 48)
	must(t, g.StartPaired(ctx, app, "west"))
	_, err := g.Godwitctl(ctx, g.Source, "create", "migrationschedule", "dr", "-n", app.Namespace, "-c", "west", "--namespaces", app.Namespace,
		"--continuous", "--min-interval-seconds", "5")
	must(t, err)
	t.Cleanup(func() { afterFailover(context.WithoutCancel(ctx), t, g, app.Namespace) })
	awaitRun(ctx, t, g, app.Namespace, "")
	eras := &eras{t: t, app: app}
	eras.write(ctx, g.Source, "first")
	said, err := g.Godwitctl(ctx, g.Source, "perform", "failover", "-m", "dr", "-n", app.Namespace)
	t.Log(said)
	must(t, err)
	must(t, g.AwaitRunning(ctx, g.Target, app))
	eras.are(ctx, g.Target, "first")
	eras.write(ctx, g.Target, "second")

	started := time.Now()
	said, err = g.Godwitctl(ctx, g.Target, "perform", "failback", "-m", app.Namespace+"/"+app.Namespace)
	t.Log(said)
	must(t, err)
	t.Logf("failed back within %v", time.Since(started).Round(100*time.Millisecond))
	must(t, g.AwaitRunning(ctx, g.Source, app))
	eras.are(ctx, g.Source, "first second")
	byDifference(ctx, t, g, app.Namespace)
	eras.write(ctx, g.Source, "third")
	eras.are(ctx, g.Source, "first second third")
}

// byDifference sees that all went back, and less than the application has.
func byDifference(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string) {
	t.Helper()
	all, err := scenario.Get[api.MigrationList](ctx, g.Target, "-n", namespace, "migrations.godwit.io")
	must(t, err)
	if len(all.Items) != 2 {
		t.Fatalf("%d Migrations went back, want one while it ran, and the last", len(all.Items))
	}
	const most = 16 << 20
	for _, m := range all.Items {
		cameBack(t, m)
		for _, v := range m.Status.Volumes {
			t.Logf("%s: volume of %d bytes: %d read, %d changed, %d uploaded, %d written", m.Name, v.BytesTotal, v.BytesRead, v.BytesChanged, v.BytesUploaded, v.BytesWritten)
			if v.BytesChanged > most || v.BytesUploaded > most || v.BytesWritten > most {
				t.Errorf("%s moved more than what changed", m.Name)
			}
		}
	}
}

// cameBack sees that nothing of what went back was left out.
func cameBack(t *testing.T, m api.Migration) {
	t.Helper()
	for _, r := range m.Status.Resources {
		if r.Status != api.MigrationStatusSuccessful {
			t.Errorf("%s: %s %s/%s did not come back: %s", m.Name, r.Kind, r.Namespace, r.Name, r.Reason)
		}
	}
	if m.Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("%s: %s", m.Name, scenario.Describe(m))
	}
	// A round that only stages applies nothing; the last one brings the Deployment,
	// the Service and the claim at the least.
	if strings.Contains(m.Name, "-lastmile-") && len(m.Status.Resources) < 3 {
		t.Errorf("%s brought back %d objects only: %+v", m.Name, len(m.Status.Resources), m.Status.Resources)
	}
}

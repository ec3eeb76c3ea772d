package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestCancelled cancels Migrations that have stopped the source, in the middle of
// the upload and in the middle of the restore: within ten seconds no transfer is
// left, the source runs as before, and nothing is left on either side. The last
// Migration is let go on, and tells its downtime.
func TestCancelled(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Vault("cancelled", 400)
	must(t, g.StartPaired(ctx, app, "west"))
	for i, at := range []scenario.Cluster{g.Source, g.Target} {
		name := fmt.Sprintf("cancelled-%d", i)
		must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, name, "west", app.Namespace)+"  quiesce: true\n")))
		must(t, scenario.Await(ctx, scenario.Long, "a transfer in cluster "+at.Name, func(ctx context.Context) (bool, string, error) {
			return transferring(ctx, at, app.Namespace)
		}))
		replicas, err := g.Source.Kubectl(ctx, "-n", app.Namespace, "get", "deployment", "vault", "-o", "jsonpath={.spec.replicas}")
		must(t, err)
		if replicas != "0" {
			t.Errorf("the source was not stopped: it has %s replicas", replicas)
		}
		_, err = g.Godwitctl(ctx, g.Source, "-n", app.Namespace, "cancel", "migration", name)
		must(t, err)
		began := time.Now()
		for _, c := range []scenario.Cluster{g.Source, g.Target} {
			must(t, scenario.Await(ctx, 10*time.Second, "the transfers of cluster "+c.Name+" to end", func(ctx context.Context) (bool, string, error) {
				busy, seen, err := transferring(ctx, c, app.Namespace)
				return !busy, seen, err
			}))
		}
		t.Logf("cancelled in cluster %s: no byte moves after %s", at.Name, time.Since(began).Round(time.Millisecond))
		m, err := g.AwaitMigration(ctx, app.Namespace, name, scenario.Soon)
		must(t, err)
		if m.Status.Status != api.MigrationStatusCancelled {
			t.Errorf("it ended otherwise: %s", scenario.Describe(m))
		}
		must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
		must(t, g.AwaitRunning(ctx, g.Source, app))
	}
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "moved", "west", app.Namespace)+"  quiesce: true\n")))
	m, err := g.AwaitSuccess(ctx, app.Namespace, "moved", scenario.Long)
	must(t, err)
	if m.Status.Downtime == nil {
		t.Fatal("nobody is told for how long it was down")
	}
	t.Logf("downtime %s", m.Status.Downtime.Duration)
	must(t, g.AwaitRunning(ctx, g.Target, app))
	for _, name := range []string{"cancelled-0", "cancelled-1", "moved"} {
		must(t, g.DeleteMigration(ctx, app.Namespace, name))
	}
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
}

// transferring tells whether bytes of the namespace's volumes move in the cluster.
func transferring(ctx context.Context, c scenario.Cluster, namespace string) (bool, string, error) {
	all, err := scenario.Transfers(ctx, c, namespace)
	running := slices.ContainsFunc(all, func(t api.VolumeTransfer) bool { return t.Status.Phase == api.TransferRunning })
	return running, fmt.Sprint(len(all), " transfers"), err
}

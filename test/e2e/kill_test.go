package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestKilled kills every process of Godwit that takes part in a Migration, each
// at a random moment of its own part.
func TestKilled(t *testing.T) {
	g, ctx := ground(t)
	app := scenario.Vault("killed", 300)
	must(t, g.StartOver(ctx, app))
	must(t, g.Start(ctx, app))
	must(t, g.Pair(ctx, app.Namespace, "west"))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const name = "killed"
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, name, "west", app.Namespace))))
	kills := []kill{
		{cluster: g.Source, process: "controller", after: time.Duration(random.IntN(3000)) * time.Millisecond, when: admitted(app.Namespace, name)},
		{cluster: g.Source, process: "node", after: time.Duration(random.IntN(500)) * time.Millisecond, when: running(g.Source)},
		{cluster: g.Target, process: "node", after: time.Duration(random.IntN(500)) * time.Millisecond, when: running(g.Target)},
		{cluster: g.Target, process: "controller", after: time.Duration(random.IntN(3000)) * time.Millisecond, when: standing},
	}
	var wg sync.WaitGroup
	for _, k := range kills {
		wg.Go(func() {
			if err := k.strike(ctx, g); err != nil {
				t.Errorf("kill %s of %s: %v", k.process, k.cluster.Name, err)
			}
		})
	}
	m, err := g.AwaitMigration(ctx, app.Namespace, name, 5*time.Minute)
	wg.Wait()
	must(t, err)
	if m.Status.Status != api.MigrationStatusSuccessful {
		t.Fatalf("the Migration ended otherwise: %s", scenario.Describe(m))
	}
	must(t, g.AwaitRunning(ctx, g.Target, app))
	finding, err := g.VerifyTree(ctx, app.Data())
	must(t, err)
	t.Log(finding)
	must(t, g.DeleteMigration(ctx, app.Namespace, name))
	must(t, g.AwaitNothingLeft(ctx, time.Minute))
}

// kill ends one process of Godwit some time after its part has begun.
type kill struct {
	cluster scenario.Cluster
	process string
	after   time.Duration
	when    func(context.Context, scenario.Cluster) (bool, string, error)
}

func (k kill) strike(ctx context.Context, g *scenario.Ground) error {
	err := scenario.Await(ctx, 3*time.Minute, k.process+"'s part to begin", func(ctx context.Context) (bool, string, error) {
		return k.when(ctx, k.cluster)
	})
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(k.after):
	}
	return g.Kill(ctx, k.cluster, "godwitd "+k.process)
}

func admitted(namespace, name string) func(context.Context, scenario.Cluster) (bool, string, error) {
	return func(ctx context.Context, c scenario.Cluster) (bool, string, error) {
		m, err := scenario.Get[api.Migration](ctx, c, "-n", namespace, "migrations.godwit.io", name)
		return len(m.Status.Volumes) > 0, string(m.Status.Stage), err
	}
}

func running(scenario.Cluster) func(context.Context, scenario.Cluster) (bool, string, error) {
	return func(ctx context.Context, c scenario.Cluster) (bool, string, error) {
		l, err := scenario.Get[api.VolumeTransferList](ctx, c, "-n", scenario.Namespace, "volumetransfers.godwit.io")
		return len(l.Items) > 0 && l.Items[0].Status.Phase == api.TransferRunning, fmt.Sprint(len(l.Items)), err
	}
}

func standing(ctx context.Context, c scenario.Cluster) (bool, string, error) {
	l, err := scenario.Get[api.StandbyList](ctx, c, "-n", scenario.Namespace, "standbies.godwit.io")
	return len(l.Items) > 0, fmt.Sprint(len(l.Items)), err
}

// migration is what a user would apply.
func migration(namespace, name, pair string, namespaces ...string) string {
	return fmt.Sprintf(`apiVersion: godwit.io/v1alpha1
kind: Migration
metadata: {name: %s, namespace: %s}
spec:
  clusterPair: %s
  startApplications: true
  namespaces: [%s]
`, name, namespace, pair, strings.Join(namespaces, ", "))
}

package e2e

import (
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestKilled kills every process of Godwit that takes part in a Migration, each
// at a random moment of its own part.
func TestKilled(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Vault("killed", 300)
	must(t, g.StartPaired(ctx, app, "west"))
	siege := scenario.Siege{
		Namespace: app.Namespace, Migration: "killed", Pair: "west", Phases: []api.TransferPhase{api.TransferRunning},
		Controllers: 3 * time.Second, Nodes: 500 * time.Millisecond, Seed: uint64(time.Now().UnixNano()),
	}
	t.Logf("seed %d", siege.Seed)
	ctx = alone(t)
	must(t, g.Besiege(ctx, siege))
	must(t, g.AwaitRunning(ctx, g.Target, app))
	finding, err := g.VerifyTree(ctx, app.Data())
	must(t, err)
	t.Log(finding)
	must(t, g.DeleteMigration(ctx, app.Namespace, siege.Migration))
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, time.Minute))
}

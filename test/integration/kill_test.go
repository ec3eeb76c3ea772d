package integration

import (
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestKilled kills every process of Godwit that takes part in a Migration, each
// at a random moment of its own part.
func TestKilled(t *testing.T) {
	g, ctx := ground(t)
	app := scenario.Archive("killed")
	must(t, g.Start(ctx, app))
	must(t, g.Fill(ctx, app))
	must(t, g.Pair(ctx, app.Namespace, "west"))
	siege := scenario.Siege{
		Namespace: app.Namespace, Migration: "killed", Pair: "west", Phases: []api.TransferPhase{api.TransferRunning, api.TransferSucceeded, api.TransferFailed},
		Controllers: 2 * time.Second, Nodes: 300 * time.Millisecond, Seed: uint64(time.Now().UnixNano()),
	}
	t.Logf("seed %d", siege.Seed)
	must(t, g.Besiege(ctx, siege))
	must(t, g.AwaitRunning(ctx, g.Target, app))
	findings, err := g.VerifyArchive(ctx, app)
	for _, f := range findings {
		t.Log(f)
	}
	must(t, err)
	must(t, g.DeleteMigration(ctx, app.Namespace, siege.Migration))
	must(t, g.AwaitNothingLeft(ctx, scenario.Soon))
}

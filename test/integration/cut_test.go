package integration

import (
	"context"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestCutNetwork cuts the network between the clusters while volumes are uploaded, until
// the source says that it cannot tell the target, and mends it: the Migration goes on by itself, and
// says what it was that it tried again.
func TestCutNetwork(t *testing.T) {
	g, ctx := ground(t)
	app := scenario.Archive("cut")
	must(t, g.Start(ctx, app))
	must(t, g.Fill(ctx, app))
	wire, err := g.Wire(ctx)
	must(t, err)
	must(t, g.Pair(ctx, app.Namespace, "west", "--endpoint", wire.Address))
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "cut", "west", app.Namespace))))
	says := func(what string, seen func(api.Migration) bool) {
		t.Helper()
		must(t, scenario.Await(ctx, scenario.Long, what, func(ctx context.Context) (bool, string, error) {
			m, err := g.Migration(ctx, app.Namespace, "cut")
			return seen(m), scenario.Describe(m), err
		}))
	}
	says("the snapshots", func(m api.Migration) bool { return meta.IsStatusConditionTrue(m.Status.Conditions, "Snapshotted") })
	// The pair knows the target's own address too, and would go around the wire.
	must(t, g.StopBeside(ctx, g.Target, "godwitd controller"))
	start := sync.OnceFunc(func() { must(t, g.StartBeside(context.WithoutCancel(ctx), g.Target, "godwitd controller")) })
	t.Cleanup(start)
	wire.Cut()
	// Either finds out first, the Migration or its pair.
	says("the target to be unreachable", func(m api.Migration) bool {
		ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
		return ready != nil && (ready.Reason == "TargetUnreachable" || ready.Reason == "PairNotReady" && strings.Contains(ready.Message, "cannot reach"))
	})
	wire.Mend()
	start()
	m, err := g.AwaitSuccess(ctx, app.Namespace, "cut", scenario.Long)
	must(t, err)
	if len(m.Status.Retries) == 0 || m.Status.Retries[0].Reason == "" {
		t.Errorf("it does not say what it tried again: %+v", m.Status.Retries)
	}
	must(t, g.AwaitRunning(ctx, g.Target, app))
	findings, err := g.VerifyArchive(ctx, app)
	for _, f := range findings {
		t.Log(f)
	}
	must(t, err)
	must(t, g.DeleteMigration(ctx, app.Namespace, "cut"))
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
}

package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestFlippedInTheStore flips bits of what is stored before the target reads it: the
// Migration fails and names the volume and the blob, nothing of it is on the target, and
// the source runs again.
func TestFlippedInTheStore(t *testing.T) {
	g, ctx := ground(t)
	app := begunToFlip(ctx, t, g, "flipped")
	must(t, g.StopBeside(ctx, g.Target, "godwitd node"))
	start := sync.OnceFunc(func() { must(t, g.StartBeside(context.WithoutCancel(ctx), g.Target, "godwitd node")) })
	t.Cleanup(start)
	before := time.Now()
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "flipped", "west", app.Namespace)+"  quiesce: true\n")))
	must(t, scenario.Await(ctx, scenario.Long, "the target to be told", func(ctx context.Context) (bool, string, error) {
		m, err := g.Migration(ctx, app.Namespace, "flipped")
		return meta.IsStatusConditionTrue(m.Status.Conditions, "Begun"), scenario.Describe(m), err
	}))
	packs, err := g.FlipStored(before)
	must(t, err)
	if packs == 0 {
		t.Fatal("nothing was stored")
	}
	start()
	isRefused(ctx, t, g, app, "flipped", "blob p")
}

// TestFlippedOnTheDevice keeps one byte of the target's volume wrong: it is found by
// reading the volume again.
func TestFlippedOnTheDevice(t *testing.T) {
	g, ctx := ground(t)
	app := begunToFlip(ctx, t, g, "worn")
	spoiling, stop := context.WithCancel(ctx)
	defer stop()
	spoiled := make(chan error, 1)
	go func() { spoiled <- g.SpoilLedgers(spoiling, g.Target) }()
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "worn", "west", app.Namespace)+"  quiesce: true\n  verify: Full\n")))
	const chunk = 128 << 10
	isRefused(ctx, t, g, app, "worn", fmt.Sprintf("%d bytes at %d: ", chunk, scenario.SpoiledAt/chunk*chunk))
	stop()
	must(t, <-spoiled)
}

func begunToFlip(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string) scenario.App {
	t.Helper()
	app := scenario.Archive(namespace)
	must(t, g.Start(ctx, app))
	must(t, g.Fill(ctx, app))
	must(t, g.Pair(ctx, app.Namespace, "west"))
	return app
}

// isRefused sees that a Migration failed for what it read, and says so, and that the
// application is where it was.
func isRefused(ctx context.Context, t *testing.T, g *scenario.Ground, app scenario.App, name, words string) {
	t.Helper()
	m, err := g.AwaitMigration(ctx, app.Namespace, name, scenario.Long)
	must(t, err)
	t.Log(scenario.Describe(m))
	ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
	if m.Status.Status != api.MigrationStatusFailed || ready == nil || !strings.Contains(ready.Message, words) || !strings.Contains(ready.Message, "claim "+app.Namespace+"/") {
		t.Errorf("it does not fail, or does not say where: want %q", words)
	}
	must(t, g.AwaitRunning(ctx, g.Source, app))
	left, err := g.Target.Kubectl(ctx, "-n", app.Namespace, "get", "deployments,statefulsets,pods,persistentvolumeclaims", "-o", "name")
	must(t, err)
	if strings.TrimSpace(left) != "" {
		t.Errorf("on the target there is %s", left)
	}
	must(t, g.DeleteMigration(ctx, app.Namespace, name))
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
}

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestSharedRepository sends one application to two targets by way of one repository:
// what was stored for the first is not stored again for the second, either of them can
// bring it up, and only one of them does.
func TestSharedRepository(t *testing.T) {
	g, ctx := ground(t)
	app := scenario.Archive("shared")
	must(t, g.Start(ctx, app))
	must(t, g.Fill(ctx, app))
	must(t, g.Pair(ctx, app.Namespace, "west"))
	// It is there until all that this story made is cleared away.
	south, err := g.AddTarget(context.WithoutCancel(ctx), "south")
	must(t, err)
	must(t, scenario.AddKinds(ctx, south.Target))
	must(t, south.Pair(ctx, app.Namespace, "south", "-s", "repositoryof=west"))
	t.Cleanup(func() { leaveShared(context.WithoutCancel(ctx), t, g, south, app.Namespace) })

	first := stageTo(ctx, t, g, app.Namespace, "west")
	second := stageTo(ctx, t, g, app.Namespace, "south")
	// Several volumes are stored in the same packs, which are counted for one of them.
	if a, b := uploaded(t, first), uploaded(t, second); a < 20<<20 || b*100 > a {
		t.Errorf("%d bytes were stored for the first target, and %d more for the second", a, b)
	}

	told, err := g.Godwitctl(ctx, south.Target, "perform", "failover", "-m", app.Namespace+"/"+app.Namespace, "--skip-source-operations")
	t.Log(told)
	must(t, err)
	must(t, south.AwaitRunning(ctx, south.Target, app))
	findings, err := south.VerifyArchive(ctx, app)
	for _, f := range findings {
		t.Log(f)
	}
	must(t, err)
	told, err = g.Godwitctl(ctx, g.Target, "perform", "failover", "-m", app.Namespace+"/"+app.Namespace, "--skip-source-operations")
	if err == nil || !strings.Contains(err.Error(), "the application was activated on another cluster") {
		t.Errorf("a second target brought it up too: %v\n%s", err, told)
	}
	t.Log(told, err)
	// The wish does not stay, to come true when the other cluster gives it back.
	must(t, scenario.Await(ctx, scenario.Soon, "the wish to be taken back", func(ctx context.Context) (bool, string, error) {
		all, err := scenario.Standbies(ctx, g.Target, app.Namespace)
		return len(all) == 1 && all[0].Spec.Activation == nil && all[0].Status.Phase == api.StandbyReady, fmt.Sprintf("%+v", all), err
	}))

	// The source is superseded for both.
	must(t, g.Source.Apply(ctx, []byte(staged(app.Namespace, "late", "west"))))
	must(t, scenario.Await(ctx, scenario.Long, "the source to see that it is superseded", func(ctx context.Context) (bool, string, error) {
		m, err := scenario.Get[api.Migration](ctx, g.Source, "-n", app.Namespace, "migrations.godwit.io", "late")
		said := ""
		for _, c := range m.Status.Conditions {
			if c.Type == api.ConditionReady {
				said = c.Reason
			}
		}
		return said == api.ReasonSuperseded, said, err
	}))

	told, err = g.Godwitctl(ctx, g.Target, "perform", "failover", "-m", app.Namespace+"/"+app.Namespace, "--take-over")
	t.Log(told)
	must(t, err)
	must(t, g.AwaitRunning(ctx, g.Target, app))
	_, err = g.VerifyArchive(ctx, app)
	must(t, err)
}

func uploaded(t *testing.T, m api.Migration) (bytes int64) {
	t.Helper()
	for _, v := range m.Status.Volumes {
		t.Logf("%s: %s read %d and stored %d bytes, by %s", m.Name, v.PersistentVolumeClaim, v.BytesRead, v.BytesUploaded, v.Rung)
		bytes += v.BytesUploaded
	}
	return bytes
}

// stageTo brings a target up to date.
func stageTo(ctx context.Context, t *testing.T, g *scenario.Ground, namespace, pair string) api.Migration {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(staged(namespace, "to-"+pair, pair))))
	m, err := g.AwaitSuccess(ctx, namespace, "to-"+pair, scenario.Long)
	must(t, err)
	return m
}

func leaveShared(ctx context.Context, t *testing.T, g, south *scenario.Ground, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	_, err := g.Source.Kubectl(ctx, "-n", namespace, "delete", "migrations.godwit.io", "--all", "--timeout=60s")
	must(t, err)
	dropStandbies(ctx, t, namespace, g.Target, south.Target)
}

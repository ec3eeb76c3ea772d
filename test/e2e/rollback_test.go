package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestRollback moves an application by rounds while it runs, writes on the target, and
// takes all back: refused as long as something would be lost, then with what was written
// there, and, moved once more, without it.
func TestRollback(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Vault("goesback", 48)
	must(t, g.StartPaired(ctx, app, "west"))
	t.Cleanup(func() { afterRollback(context.WithoutCancel(ctx), t, g, app.Namespace) })
	eras := &eras{t: t, app: app}
	eras.write(ctx, g.Source, "first")
	movedByRounds(ctx, t, g, app, "move")
	eras.are(ctx, g.Target, "first")
	eras.write(ctx, g.Target, "second")
	_, err := g.Target.Kubectl(ctx, "-n", app.Namespace, "create", "configmap", "stays")
	must(t, err)

	rollBack := func(name string, flags ...string) (string, error) {
		return g.Godwitctl(ctx, g.Source, append([]string{"rollback", "migration", name, "-n", app.Namespace}, flags...)...)
	}
	said, err := rollBack("move")
	t.Log(said, err)
	if err == nil || !strings.Contains(err.Error(), "bringTargetWrites") {
		t.Fatalf("it is not refused, or no way out is told: %v", err)
	}
	eras.are(ctx, g.Target, "first second")

	started := time.Now()
	said, err = rollBack("move", "--bring-target-writes")
	t.Log(said)
	must(t, err)
	t.Logf("back with what was written there within %v", time.Since(started).Round(100*time.Millisecond))
	must(t, g.AwaitRunning(ctx, g.Source, app))
	eras.are(ctx, g.Source, "first second")
	came, err := g.Source.Kubectl(ctx, "-n", app.Namespace, "get", "configmap", "stays", "--ignore-not-found", "-o", "name")
	must(t, err)
	if came != "" {
		t.Error("with it came what the Migration had left out")
	}
	tookBack(ctx, t, g, app.Namespace, "move")
	must(t, g.DeleteMigration(ctx, app.Namespace, "move"))

	eras.write(ctx, g.Source, "third")
	movedByRounds(ctx, t, g, app, "again")
	eras.are(ctx, g.Target, "first second third")
	eras.write(ctx, g.Target, "fourth")
	said, err = rollBack("again", "--drop-target-writes")
	t.Log(said)
	must(t, err)
	must(t, g.AwaitRunning(ctx, g.Source, app))
	eras.are(ctx, g.Source, "first second third")
	tookBack(ctx, t, g, app.Namespace, "again")
	must(t, g.DeleteMigration(ctx, app.Namespace, "again"))
}

// eras are what an application wrote, one after the other.
type eras struct {
	t   *testing.T
	app scenario.App
}

func (e *eras) write(ctx context.Context, c scenario.Cluster, era string) {
	e.t.Helper()
	_, err := c.Script(ctx, e.app.Namespace, "deployment/vault", "echo "+era+" >> /data/eras && sync")
	must(e.t, err)
}

func (e *eras) are(ctx context.Context, c scenario.Cluster, want string) {
	e.t.Helper()
	out, err := c.Script(ctx, e.app.Namespace, "deployment/vault", "tr '\\n' ' ' < /data/eras")
	must(e.t, err)
	if strings.TrimSpace(string(out)) != want {
		e.t.Fatalf("in cluster %s the application has %q, want %q", c.Name, out, want)
	}
}

// movedByRounds moves it with rounds while it runs, and reads all of its volume again.
func movedByRounds(ctx context.Context, t *testing.T, g *scenario.Ground, app scenario.App, name string) {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, name, "west", app.Namespace)+"  precopy: {}\n  verify: Full\n  excludeResourceTypes: [ConfigMap]\n")))
	m, err := g.AwaitSuccess(ctx, app.Namespace, name, scenario.Long)
	must(t, err)
	must(t, g.AwaitRunning(ctx, g.Target, app))
	if len(m.Status.Precopy) == 0 || m.Status.Precopy[0].Status != api.MigrationStatusSuccessful || len(m.Status.Quiesced) == 0 {
		t.Errorf("%s had no round while the application ran: %+v, %+v", name, m.Status.Precopy, m.Status.Quiesced)
	}
	if v := m.Status.Volumes[0]; v.Base == "" && v.BytesUploaded > 16<<20 {
		t.Errorf("%s: the last round is no difference: %+v", name, v)
	}
	t.Logf("%s: %d rounds while it ran; downtime %v", name, len(m.Status.Precopy), m.Status.Downtime)
}

// tookBack sees that nothing of the round runs on the target, or could.
func tookBack(ctx context.Context, t *testing.T, g *scenario.Ground, namespace, name string) {
	t.Helper()
	m, err := g.Migration(ctx, namespace, name)
	must(t, err)
	if m.Status.Status != api.MigrationStatusRolledBack {
		t.Errorf("%s: %s", name, scenario.Describe(m))
	}
	left, err := g.Target.Kubectl(ctx, "-n", namespace, "get", "deployments,services,persistentvolumeclaims,pods", "-o", "name")
	must(t, err)
	if strings.TrimSpace(left) != "" {
		t.Errorf("on the target there is still %s", left)
	}
}

// afterRollback leaves nothing of the story on the clusters.
func afterRollback(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string) {
	ctx, cancel := context.WithTimeout(ctx, scenario.Long)
	defer cancel()
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		for _, kind := range []string{"actions.godwit.io", "migrations.godwit.io"} {
			_, err := c.Kubectl(ctx, "-n", namespace, "delete", kind, "--all", "--timeout=60s")
			must(t, err)
		}
		dropStandbys(ctx, t, c, namespace)
	}
	// What came back stands over what was there, which is kept until somebody says
	// otherwise, as the target's volumes are.
	_, err := g.Source.Kubectl(ctx, "-n", namespace, "delete", "volumesnapshots", "--all", "--timeout=60s")
	must(t, err)
	volumes, err := scenario.Get[corev1.PersistentVolumeList](ctx, g.Target, "persistentvolumes")
	must(t, err)
	for _, v := range volumes.Items {
		if strings.HasPrefix(v.Annotations["godwit.io/fenced"], namespace+"/") {
			_, err := g.Target.Kubectl(ctx, "delete", "persistentvolume", v.Name, "--timeout=60s")
			must(t, err)
		}
	}
	must(t, g.AwaitNothingLeftOf(ctx, namespace+"*", scenario.Soon))
}

package e2e

import (
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestStory pairs, replicates and moves a whole application by the files that users
// of stork have, and looks at everything that they would look at.
func TestStory(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.FullApp("cms")
	must(t, g.StartOver(ctx, app))
	must(t, g.Start(ctx, app))
	pairAsWithStork(ctx, t, g, app.Namespace)
	replicateAsWithStork(ctx, t, g)
	must(t, g.Source.ApplyAsUser(ctx, ofStork(t, "stork-migration.yaml")))
	m, err := g.AwaitMigration(ctx, app.Namespace, "cmsmigration", scenario.Long)
	must(t, err)
	must(t, scenario.CheckStatus(m, expected()))
	must(t, g.AwaitEvents(ctx, m, "Successful apps/v1, Kind=Deployment cms/front: Resource migrated successfully",
		"Successful apps/v1, Kind=StatefulSet cms/postgres: Resource migrated successfully",
		"Successful /v1, Kind=Service cms/front: Resource migrated successfully"))
	must(t, g.AwaitRunning(ctx, g.Target, app))
	findings, err := g.VerifyApp(ctx, app)
	for _, f := range findings {
		t.Log(f)
	}
	must(t, err)
	t.Run("stock kopia", func(t *testing.T) { stockKopia(ctx, t, g, m) })
	_, err = g.Source.Kubectl(ctx, "-n", app.Namespace, "delete", "migrationschedule", "cms-dr", "--cascade=foreground", "--timeout=90s")
	must(t, err)
	must(t, g.DeleteMigration(ctx, app.Namespace, m.Name))
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
	must(t, g.AwaitRunning(ctx, g.Target, app))
	_, err = g.VerifyFront(ctx, app)
	must(t, err)
}

func expected() scenario.Expected {
	return scenario.Expected{
		Methods: map[string]api.TransferMethod{
			"data-postgres-0": api.MethodBlock, "ledger": api.MethodBlock, "uploads": api.MethodFilesystem,
		},
		Resources: []string{
			"core/Namespace /cms", "core/ConfigMap cms/scripts", "core/Secret cms/database", "core/ServiceAccount cms/app",
			"rbac.authorization.k8s.io/Role cms/app", "rbac.authorization.k8s.io/RoleBinding cms/app", "core/Service cms/postgres",
			"core/Service cms/front", "core/PersistentVolumeClaim cms/ledger", "core/PersistentVolumeClaim cms/uploads",
			"core/PersistentVolumeClaim cms/data-postgres-0", "apps/StatefulSet cms/postgres", "apps/Deployment cms/ledger",
			"apps/Deployment cms/uploads", "apps/Deployment cms/front", "cms.example.com/Page cms/home",
		},
		Absent: []string{"apps/Deployment cms/writer", "core/ConfigMap cms/kube-root-ca.crt"},
	}
}

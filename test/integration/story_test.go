package integration

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestStory moves a raw volume, a volume with a filesystem, a shared tree and
// objects by the Migration that users of stork have.
func TestStory(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Archive("cms")
	must(t, g.Start(ctx, app))
	must(t, g.Fill(ctx, app))
	must(t, g.Pair(ctx, app.Namespace, "prodcluster"))
	manifest, err := os.ReadFile("../e2e/testdata/stork-migration.yaml")
	must(t, err)
	steps := watch(ctx, t, g.Source, app.Namespace)
	manifest = bytes.Replace(manifest, []byte("apiVersion: stork.libopenstorage.org/v1alpha1"), []byte("apiVersion: godwit.io/v1alpha1"), 1)
	must(t, g.Source.ApplyAsUser(ctx, manifest))
	m, err := g.AwaitMigration(ctx, app.Namespace, "cmsmigration", scenario.Long)
	must(t, err)
	must(t, scenario.CheckStatus(m, expected()))
	goesThrough(t, steps(), "Volumes/InProgress", "Applications/InProgress", "Final/Successful")
	must(t, g.AwaitEvents(ctx, m, "Successful apps/v1, Kind=Deployment cms/uploads: Resource migrated successfully",
		"Successful apps/v1, Kind=StatefulSet cms/books: Resource migrated successfully",
		"Successful /v1, Kind=Service cms/books: Resource migrated successfully",
		"Successful /v1, Kind=PersistentVolumeClaim cms/ledger: Resource migrated successfully"))
	same := func() {
		must(t, g.AwaitRunning(ctx, g.Target, app))
		findings, err := g.VerifyArchive(ctx, app)
		for _, f := range findings {
			t.Log(f)
		}
		must(t, err)
	}
	same()
	must(t, g.DeleteMigration(ctx, app.Namespace, m.Name))
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
	same()
}

func expected() scenario.Expected {
	return scenario.Expected{
		Methods: map[string]api.TransferMethod{
			"data-books-0": api.MethodBlock, "ledger": api.MethodBlock, "uploads": api.MethodFilesystem,
		},
		Resources: []string{
			"core/Namespace /cms", "core/ConfigMap cms/shelves", "core/Secret cms/keys", "core/ServiceAccount cms/app",
			"rbac.authorization.k8s.io/Role cms/app", "rbac.authorization.k8s.io/RoleBinding cms/app", "core/Service cms/books",
			"core/PersistentVolumeClaim cms/ledger", "core/PersistentVolumeClaim cms/uploads",
			"core/PersistentVolumeClaim cms/data-books-0", "apps/StatefulSet cms/books", "apps/Deployment cms/ledger",
			"apps/Deployment cms/uploads", "cms.example.com/Page cms/home",
		},
		Absent: []string{"apps/Deployment cms/writer", "core/ConfigMap cms/kube-root-ca.crt"},
	}
}

// watch writes down the stages and statuses that the namespace's Migrations go
// through, and gives them when it is asked.
func watch(ctx context.Context, t *testing.T, c scenario.Cluster, namespace string) func() []string {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	var seen bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Program, "--kubeconfig", c.Kubeconfig, "-n", namespace, "get", "migrations.godwit.io", "--watch-only",
		"-o", `jsonpath={.status.stage}/{.status.status}{"\n"}`)
	cmd.Stdout = &seen
	must(t, cmd.Start())
	return func() []string {
		cancel()
		_ = cmd.Wait() // It ends by being killed.
		return slices.Compact(strings.Fields(seen.String()))
	}
}

// goesThrough wants the steps in this order; others may be between them.
func goesThrough(t *testing.T, steps []string, wanted ...string) {
	t.Helper()
	rest := steps
	for _, want := range wanted {
		at := slices.Index(rest, want)
		if at < 0 {
			t.Errorf("the Migration went through %v, and should have come through %v", steps, wanted)
			return
		}
		rest = rest[at+1:]
	}
}

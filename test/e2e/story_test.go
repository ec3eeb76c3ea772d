package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestStory moves a whole application by the Migration that users of stork
// have, and looks at everything that they would look at.
func TestStory(t *testing.T) {
	g, ctx := ground(t)
	app := scenario.FullApp("cms")
	must(t, g.StartOver(ctx, app))
	must(t, g.Start(ctx, app))
	must(t, g.Pair(ctx, app.Namespace, "prodcluster"))
	manifest, err := os.ReadFile("testdata/stork-migration.yaml")
	must(t, err)
	must(t, g.Source.Apply(ctx, manifest))
	m, err := g.AwaitMigration(ctx, app.Namespace, "cmsmigration", 4*time.Minute)
	must(t, err)
	readsAsDocumented(t, m)
	eventsReadAsDocumented(ctx, t, g, m)
	must(t, g.AwaitRunning(ctx, g.Target, app))
	findings, err := g.VerifyApp(ctx, app)
	for _, f := range findings {
		t.Log(f)
	}
	must(t, err)
	t.Run("stock kopia", func(t *testing.T) { stockKopia(ctx, t, g, m) })
	must(t, g.DeleteMigration(ctx, app.Namespace, m.Name))
	must(t, g.AwaitNothingLeft(ctx, time.Minute))
	must(t, g.AwaitRunning(ctx, g.Target, app))
	_, err = g.VerifyFront(ctx, app)
	must(t, err)
}

// readsAsDocumented holds the status against what stork's users see.
func readsAsDocumented(t *testing.T, m api.Migration) {
	t.Helper()
	s := m.Status
	if s.Stage != api.MigrationStageFinal || s.Status != api.MigrationStatusSuccessful || s.FinishTimestamp == nil {
		t.Fatalf("the Migration ended otherwise: %s; resources %+v", scenario.Describe(m), s.Resources)
	}
	methods := map[string]api.TransferMethod{
		"data-postgres-0": api.MethodBlock, "ledger": api.MethodBlock, "uploads": api.MethodFilesystem,
	}
	if len(s.Volumes) != len(methods) {
		t.Errorf("%d volumes moved, want %d", len(s.Volumes), len(methods))
	}
	for _, v := range s.Volumes {
		if v.Status != api.MigrationStatusSuccessful || v.Reason != "Migration successful for volume" || !strings.HasPrefix(v.Volume, "pvc-") || v.BytesTotal == 0 {
			t.Errorf("volume %+v", v)
		}
		if v.Method != methods[v.PersistentVolumeClaim] || v.MethodReason == "" {
			t.Errorf("claim %s moved by method %q (%s), want %q", v.PersistentVolumeClaim, v.Method, v.MethodReason, methods[v.PersistentVolumeClaim])
		}
	}
	got := map[string]bool{}
	for _, r := range s.Resources {
		got[fmt.Sprintf("%s/%s %s/%s", r.Group, r.Kind, r.Namespace, r.Name)] = true
		if r.Status != api.MigrationStatusSuccessful || r.Reason != "Resource migrated successfully" {
			t.Errorf("resource %+v", r)
		}
	}
	for _, want := range []string{
		"core/Namespace /cms", "core/ConfigMap cms/scripts", "core/Secret cms/database", "core/ServiceAccount cms/app",
		"rbac.authorization.k8s.io/Role cms/app", "rbac.authorization.k8s.io/RoleBinding cms/app", "core/Service cms/postgres",
		"core/Service cms/front", "core/PersistentVolumeClaim cms/ledger", "core/PersistentVolumeClaim cms/uploads",
		"core/PersistentVolumeClaim cms/data-postgres-0", "apps/StatefulSet cms/postgres", "apps/Deployment cms/ledger",
		"apps/Deployment cms/uploads", "apps/Deployment cms/front", "cms.example.com/Page cms/home",
		"core/PersistentVolume /" + s.Volumes[0].Volume,
	} {
		if !got[want] {
			t.Errorf("%s is not among the resources: %v", want, got)
		}
	}
	for _, unwanted := range []string{"apps/Deployment cms/writer", "core/ConfigMap cms/kube-root-ca.crt"} {
		if got[unwanted] {
			t.Errorf("%s moved, and should not have", unwanted)
		}
	}
	for resource := range got {
		if strings.HasPrefix(resource, "core/Pod ") {
			t.Errorf("%s moved, and a controller makes it", resource)
		}
	}
	if s.Summary == nil || s.Summary.NumberOfMigratedVolumes != 3 || s.Summary.NumberOfMigratedResources != int64(len(s.Resources)) || s.Summary.TotalBytesMigrated == 0 {
		t.Errorf("summary %+v", s.Summary)
	}
}

func eventsReadAsDocumented(ctx context.Context, t *testing.T, g *scenario.Ground, m api.Migration) {
	t.Helper()
	wanted := []string{
		"Successful Volume " + m.Status.Volumes[0].Volume + " migrated successfully",
		"Successful apps/v1, Kind=Deployment cms/front: Resource migrated successfully",
		"Successful apps/v1, Kind=StatefulSet cms/postgres: Resource migrated successfully",
		"Successful /v1, Kind=Service cms/front: Resource migrated successfully",
		"Successful /v1, Kind=PersistentVolume /" + m.Status.Volumes[0].Volume + ": Resource migrated successfully",
	}
	must(t, scenario.Await(ctx, 20*time.Second, "the events of the Migration", func(ctx context.Context) (bool, string, error) {
		out, err := g.Source.Kubectl(ctx, "-n", m.Namespace, "get", "events", "--field-selector", "involvedObject.name="+m.Name,
			"--no-headers", "-o", "custom-columns=REASON:.reason,MESSAGE:.message")
		text := strings.Join(strings.Fields(out), " ")
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				return false, "without " + want + ": " + text, err
			}
		}
		return true, "", err
	}))
}

package scenario

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Migrate moves the namespace by godwitctl, which shows its progress there and
// fails unless the Migration succeeds.
func (g *Ground) Migrate(ctx context.Context, namespace, name, pair string, shown io.Writer) error {
	_, err := g.godwitctl(ctx, command{shown: shown}, g.Source,
		"-n", namespace, "create", "migration", name, "--namespaces", namespace, "-c", pair, "--wait")
	return err
}

// MigrationOf is what a user would apply; lines of its spec may follow.
func MigrationOf(namespace, name, pair string, namespaces ...string) string {
	return fmt.Sprintf(`apiVersion: godwit.io/v1alpha1
kind: Migration
metadata: {name: %s, namespace: %s}
spec:
  clusterPair: %s
  startApplications: true
  namespaces: [%s]
`, name, namespace, pair, strings.Join(namespaces, ", "))
}

// Migration reads one Migration of the source.
func (g *Ground) Migration(ctx context.Context, namespace, name string) (api.Migration, error) {
	return Get[api.Migration](ctx, g.Source, "-n", namespace, "migrations.godwit.io", name)
}

// AwaitMigration waits until the Migration is final, however it ended.
func (g *Ground) AwaitMigration(ctx context.Context, namespace, name string, patience time.Duration) (api.Migration, error) {
	var m api.Migration
	what := fmt.Sprintf("Migration %s/%s to end", namespace, name)
	err := Await(ctx, patience, what, func(ctx context.Context) (bool, string, error) {
		var err error
		m, err = g.Migration(ctx, namespace, name)
		return m.Status.Stage == api.MigrationStageFinal, Describe(m), err
	})
	return m, err
}

// AwaitSuccess waits until the Migration is final, and tells any other end than
// success.
func (g *Ground) AwaitSuccess(ctx context.Context, namespace, name string, patience time.Duration) (api.Migration, error) {
	m, err := g.AwaitMigration(ctx, namespace, name, patience)
	if err == nil && m.Status.Status != api.MigrationStatusSuccessful {
		err = fmt.Errorf("Migration %s/%s ended otherwise: %s; resources %+v", namespace, name, Describe(m), m.Status.Resources)
	}
	return m, err
}

// Describe tells a Migration's status in one line.
func Describe(m api.Migration) string {
	text := fmt.Sprintf("stage %q, status %q", m.Status.Stage, m.Status.Status)
	for _, c := range m.Status.Conditions {
		text += fmt.Sprintf("; %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
	}
	for _, v := range m.Status.Volumes {
		text += fmt.Sprintf("; volume %s %s %s %d/%d %s", v.PersistentVolumeClaim, v.Status, v.Step, v.BytesDone, v.BytesTotal, v.Reason)
	}
	return text
}

// DeleteMigration deletes the Migration and waits until it is gone, and with it
// all that its finalizer stands for.
func (g *Ground) DeleteMigration(ctx context.Context, namespace, name string) error {
	_, err := g.Source.Kubectl(ctx, "-n", namespace, "delete", "migrations.godwit.io", name, "--ignore-not-found", "--timeout", "90s")
	return err
}

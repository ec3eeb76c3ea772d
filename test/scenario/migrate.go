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

// leaving is what a Migration makes for itself and has to take away again.
// A line of kubectl's answer is "KIND NAMESPACE NAME and more".
func leaving() [][]string {
	columns := func(extra string) string {
		return "custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name" + extra
	}
	return [][]string{
		{"volumesnapshots.snapshot.storage.k8s.io", "-A", "-o", columns("")},
		{"volumesnapshotcontents.snapshot.storage.k8s.io", "-o", columns("")},
		{"volumetransfers.godwit.io", "-A", "-o", columns(",PHASE:.status.phase")},
		{"standbies.godwit.io", "-A", "-o", columns(",PHASE:.status.phase")},
		{"pods", "-n", Namespace, "-l", "app.kubernetes.io/part-of!=godwit", "-o", columns(",PHASE:.status.phase")},
		{"persistentvolumeclaims", "-n", Namespace, "-o", columns(",PHASE:.status.phase")},
	}
}

// Leftovers lists what Migrations made in the cluster for themselves and that is
// still there: snapshots, transfers, standbys, holder pods and temporary claims
// of any Migration, and volumes that only a temporary claim asked for.
func Leftovers(ctx context.Context, c Cluster) ([]string, error) {
	var left []string
	for _, args := range leaving() {
		out, err := c.Kubectl(ctx, append([]string{"get", "--no-headers"}, args...)...)
		if err != nil {
			return nil, err
		}
		left = append(left, lines(out)...)
	}
	out, err := c.Kubectl(ctx, "get", "pv", "--no-headers", "-o",
		"custom-columns=KIND:.kind,NAME:.metadata.name,PHASE:.status.phase,FOR:.spec.claimRef.namespace,CLAIM:.spec.claimRef.name")
	if err != nil {
		return nil, err
	}
	for _, l := range lines(out) {
		if fields := strings.Fields(l); len(fields) > 3 && (fields[2] != "Bound" || fields[3] == Namespace) {
			left = append(left, l)
		}
	}
	return left, nil
}

// AwaitNothingLeft waits until neither cluster holds leftovers. Kubernetes takes
// a moment to end pods and to delete volumes.
func (g *Ground) AwaitNothingLeft(ctx context.Context, patience time.Duration) error {
	for _, c := range []Cluster{g.Source, g.Target} {
		err := Await(ctx, patience, "nothing to be left in cluster "+c.Name, func(ctx context.Context) (bool, string, error) {
			left, err := Leftovers(ctx, c)
			return len(left) == 0, strings.Join(left, "; "), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func lines(text string) []string {
	var all []string
	for l := range strings.Lines(text) {
		if l = strings.Join(strings.Fields(l), " "); l != "" {
			all = append(all, l)
		}
	}
	return all
}

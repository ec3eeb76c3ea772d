package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func newCancel(s *session) *cobra.Command {
	cancel := &cobra.Command{
		Use:   "cancel",
		Short: "End what is under way, and take back what it did",
		Args:  cobra.ArbitraryArgs,
		RunE:  group("a kind", "migration"),
	}
	cancel.AddCommand(&cobra.Command{
		Use:     "migration NAME...",
		Aliases: []string{"migrations"},
		Short:   "End Migrations wherever they are: the source goes on as before, the target is as before",
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.cancelMigrations(cmd.Context(), args)
		},
	})
	return cancel
}

func (s *session) cancelMigrations(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return errors.New("cancel migration needs at least one name")
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, s.cancelMigration(ctx, c, client.ObjectKey{Namespace: namespace, Name: name}))
	}
	return errors.Join(failed...)
}

func (s *session) cancelMigration(ctx context.Context, c client.Client, key client.ObjectKey) error {
	what := fmt.Sprintf("cancel Migration %s in namespace %s", key.Name, key.Namespace)
	var m api.Migration
	err := c.Get(ctx, key, &m)
	if missing(err) {
		return s.notThere(ctx, c, migrationKind(), key.Namespace, key.Name)
	}
	if err != nil {
		return s.fail(what, err)
	}
	if m.Status.Stage == api.MigrationStageFinal {
		return fmt.Errorf("Migration %s has ended as %s: there is nothing to cancel", key.Name, m.Status.Status)
	}
	before, yes := m.DeepCopy(), true
	m.Spec.Cancel = &yes
	if err := c.Patch(ctx, &m, client.MergeFrom(before)); err != nil {
		return s.fail(what, err)
	}
	return s.out("Migration %v is being cancelled: what it did is taken back on both clusters", key.Name)
}

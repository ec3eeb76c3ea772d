package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// rollbackFlags are the flags of rollback migration.
type rollbackFlags struct {
	dropTargetWrites, bringTargetWrites, wait bool
}

func newRollback(s *session) *cobra.Command {
	rollback := &cobra.Command{
		Use: "rollback", Short: "Take back what has succeeded", Args: cobra.ArbitraryArgs,
		RunE: group("a kind", "migration"),
	}
	var f rollbackFlags
	cmd := &cobra.Command{
		Use:     "migration NAME",
		Aliases: []string{"migrations"},
		Short:   "Take a finished Migration back: the target's objects, its volumes, then what was stopped on the source",
		Long: `Take a finished Migration back: the target's objects, its volumes, then what was
stopped on the source. Run it on the source.

It is refused where the target's volumes were written to since, unless
--bring-target-writes has that brought to the source first, or
--drop-target-writes says that it may go. It can be asked for until the
Migration is deleted.

Examples:
  ` + s.program + ` rollback migration move -n cms
  ` + s.program + ` rollback migration move -n cms --bring-target-writes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.rollback(cmd.Context(), f, args)
		},
	}
	cmd.Flags().BoolVar(&f.dropTargetWrites, "drop-target-writes", false, "Throw away what the application wrote on the target, and delete its volumes there")
	cmd.Flags().BoolVar(&f.bringTargetWrites, "bring-target-writes", false, "Stop the application on the target, and bring to the source first what it wrote there, by difference")
	cmd.MarkFlagsMutuallyExclusive("drop-target-writes", "bring-target-writes")
	cmd.Flags().BoolVar(&f.wait, "wait", true, "Show how it fares until it ends; fail if it is refused")
	rollback.AddCommand(cmd)
	return rollback
}

func (s *session) rollback(ctx context.Context, f rollbackFlags, args []string) error {
	name, err := exactlyOne("migration", args)
	if err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	key := client.ObjectKey{Namespace: namespace, Name: name}
	var m api.Migration
	if err := c.Get(ctx, key, &m); missing(err) {
		return s.notThere(ctx, c, migrationKind(), namespace, name)
	} else if err != nil {
		return s.fail("read Migration "+name, err)
	}
	if err := mayRollBack(&m); err != nil {
		return err
	}
	asked, err := s.askRollback(ctx, c, &m, f)
	if err != nil {
		return err
	}
	if !f.wait {
		return s.out("Migration %v is being rolled back: the target first, then the source", name)
	}
	return s.awaitRollback(ctx, c, key, asked)
}

func mayRollBack(m *api.Migration) error {
	switch m.Status.Status {
	case api.MigrationStatusSuccessful, api.MigrationStatusPartialSuccess:
		return nil
	case api.MigrationStatusRolledBack:
		return fmt.Errorf("Migration %s was rolled back already", m.Name)
	case api.MigrationStatusFailed, api.MigrationStatusCancelled:
		return fmt.Errorf("Migration %s has ended as %s, which takes back what it did: there is nothing to roll back", m.Name, m.Status.Status)
	}
	return fmt.Errorf("Migration %s has not ended: end it with %s", m.Name, "cancel migration "+m.Name)
}

// askRollback asks, anew where an earlier wish was refused, and returns the
// generation from which on the status answers this one.
func (s *session) askRollback(ctx context.Context, c client.Client, m *api.Migration, f rollbackFlags) (int64, error) {
	what := fmt.Sprintf("roll back Migration %s in namespace %s", m.Name, m.Namespace)
	is := func(b *bool) bool { return b != nil && *b }
	if is(m.Spec.Rollback) && is(m.Spec.DropTargetWrites) == f.dropTargetWrites && is(m.Spec.BringTargetWrites) == f.bringTargetWrites {
		before, no := m.DeepCopy(), false
		m.Spec.Rollback = &no
		if err := c.Patch(ctx, m, client.MergeFrom(before)); err != nil {
			return 0, s.fail(what, err)
		}
	}
	before, yes := m.DeepCopy(), true
	m.Spec.Rollback, m.Spec.DropTargetWrites, m.Spec.BringTargetWrites = &yes, &f.dropTargetWrites, &f.bringTargetWrites
	if err := c.Patch(ctx, m, client.MergeFrom(before)); err != nil {
		return 0, s.fail(what, err)
	}
	return m.Generation, nil
}

func (s *session) awaitRollback(ctx context.Context, c client.WithWatch, key client.ObjectKey, asked int64) error {
	w := &rollbackWatch{session: s, name: key.Name, asked: asked}
	f := &follower{
		client: c, kind: migrationKind(), notice: s.notice, each: w.see,
		opts: []client.ListOption{
			client.InNamespace(key.Namespace),
			client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", key.Name)},
		},
	}
	switch err := f.run(ctx); {
	case err != nil:
		return err
	case !w.done:
		return errors.Join(errInterrupted, s.hint("\nno longer watching; the rollback of Migration %s goes on", key.Name))
	}
	return s.out("Migration %v was rolled back", key.Name)
}

// rollbackWatch tells of a rollback as it goes on.
type rollbackWatch struct {
	*session
	name  string
	asked int64
	said  string
	done  bool
}

func (w *rollbackWatch) see(ch change) (enough bool, err error) {
	m, ok := ch.object.(*api.Migration)
	switch {
	case ch.removed || !ok:
		return true, fmt.Errorf("Migration %s was deleted while it was rolled back", w.name)
	case m.Status.Status == api.MigrationStatusRolledBack:
		w.done = true
		return true, nil
	}
	now := meta.FindStatusCondition(m.Status.Conditions, "RollingBack")
	switch {
	case now == nil || now.ObservedGeneration < w.asked || now.Message == w.said:
		return false, nil
	case now.Status == metav1.ConditionFalse:
		return true, fmt.Errorf("Migration %s is not rolled back: %s", w.name, now.Message)
	}
	w.said = now.Message
	return false, w.out("%s", w.said)
}

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func newDelete(s *session) *cobra.Command {
	kinds := []kind{clusterPairKind(), migrationKind(), migrationScheduleKind(), schedulePolicyKind(), backupLocationKind()}
	del := &cobra.Command{
		Use:   "delete",
		Short: "Delete Godwit's objects; volumes and objects that were moved stay",
		Args:  cobra.ArbitraryArgs,
		RunE:  group("a kind", choices(kinds)),
	}
	for _, k := range kinds {
		del.AddCommand(&cobra.Command{
			Use:     k.use + " NAME...",
			Aliases: k.aliases,
			Short:   "Delete " + k.short,
			RunE: func(cmd *cobra.Command, args []string) error {
				return s.delete(cmd.Context(), k, args)
			},
		})
	}
	return del
}

func (s *session) delete(ctx context.Context, k kind, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("delete %s needs at least one name", k.use)
	}
	namespace, err := s.where(k)
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, s.deleteOne(ctx, c, k, client.ObjectKey{Namespace: namespace, Name: name}))
	}
	return errors.Join(failed...)
}

func (s *session) deleteOne(ctx context.Context, c client.Client, k kind, key client.ObjectKey) error {
	what := fmt.Sprintf("delete %s %s", k.name, key.Name)
	if !k.cluster {
		what += " in namespace " + key.Namespace
	}
	obj := k.object()
	obj.SetNamespace(key.Namespace)
	obj.SetName(key.Name)
	if k.name == schedulePolicyKind().name {
		if err := s.policyUnused(ctx, c, key.Name); err != nil {
			return err
		}
	}
	err := c.Delete(ctx, obj)
	if missing(err) {
		return s.notThere(ctx, c, k, key.Namespace, key.Name)
	}
	if err != nil {
		return s.fail(what, err)
	}
	err = c.Get(ctx, key, obj)
	switch {
	case missing(err):
		return s.out("%s %v deleted successfully", k.name, key.Name)
	case err != nil:
		return s.fail(what, err)
	case len(obj.GetFinalizers()) > 0:
		return s.out("%s %v is being deleted: it goes when Godwit has cleaned up what was made for it", k.name, key.Name)
	default:
		return s.out("%s %v deleted successfully", k.name, key.Name)
	}
}

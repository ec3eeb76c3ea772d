package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func newGet(s *session) *cobra.Command {
	migrations := migrationKind()
	kinds := []kind{clusterPairKind(), migrations, backupLocationKind(), migrationScheduleKind(), schedulePolicyKind(), standbyKind(), actionKind(), drillKind(), volumeTransferKind(), transferLimitsKind()}
	get := &cobra.Command{
		Use:   "get",
		Short: "Show Godwit's objects",
		Args:  cobra.ArbitraryArgs,
		RunE:  group("a kind", choices(kinds)),
	}
	for _, k := range kinds {
		pair := ""
		cmd := &cobra.Command{
			Use:         k.use + " [NAME...]",
			Aliases:     k.aliases,
			Short:       "Show " + k.short,
			Annotations: uses(usesOutput, usesWatch, usesAllNamespaces),
			RunE: func(cmd *cobra.Command, args []string) error {
				return s.get(cmd.Context(), selection{kind: k, names: args, pair: pair, called: cmd.CalledAs()})
			},
		}
		if k.name == migrations.name || k.name == migrationScheduleKind().name {
			cmd.Flags().StringVarP(&pair, "clusterpair", "c", "", "Only "+k.name+"s over this ClusterPair")
		}
		if k.name == migrations.name {
			cmd.Long = "Show moves of applications to other clusters.\n\nWith one NAME and -w, show its progress until it ends."
		}
		get.AddCommand(cmd)
	}
	get.AddCommand(newGetTokens(s), newGetRecoveryPoints(s))
	return get
}

// selection is what a get is about.
type selection struct {
	kind  kind
	names []string
	// pair, where given, leaves out what goes over other ClusterPairs.
	pair string
	// called is the word for the kind that was used: failover and failback are two of
	// the same kind.
	called string
}

func (sel selection) has(obj client.Object) bool {
	switch o := obj.(type) {
	case *api.Action:
		called := api.ActionType(sel.called)
		return called != api.ActionFailover && called != api.ActionFailback || o.Spec.ActionType == called
	case *api.Migration:
		return sel.pair == "" || o.Spec.ClusterPair == sel.pair
	case *api.MigrationSchedule:
		return sel.pair == "" || o.Spec.Template.Spec.ClusterPair == sel.pair
	default:
		return sel.pair == ""
	}
}

func (s *session) get(ctx context.Context, sel selection) error {
	if s.allNamespaces && len(sel.names) > 0 {
		return fmt.Errorf("get %s: --all-namespaces and a name exclude each other: say the namespace with -n", sel.kind.use)
	}
	if s.watch && len(sel.names) > 1 {
		return fmt.Errorf("get %s: --watch takes one name or none", sel.kind.use)
	}
	namespace, err := s.where(sel.kind)
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	if s.watch {
		return s.watchSelection(ctx, c, sel, namespace)
	}
	var objs []client.Object
	if len(sel.names) > 0 {
		objs, err = s.selected(ctx, c, sel, namespace)
	} else {
		objs, err = s.listed(ctx, c, sel, namespace)
	}
	if err != nil {
		return err
	}
	return s.print(sel.kind, objs, len(sel.names) == 1)
}

// watchSelection shows the progress of a single Migration, and rows of all else.
func (s *session) watchSelection(ctx context.Context, c client.WithWatch, sel selection, namespace string) error {
	if len(sel.names) == 0 {
		return s.watchRows(ctx, c, sel, namespace)
	}
	// A watch alone would wait for ever for a name that is wrong.
	if _, err := s.selected(ctx, c, sel, namespace); err != nil {
		return err
	}
	if sel.kind.name == migrationKind().name && s.tabular() {
		return s.watchMigration(ctx, c, client.ObjectKey{Namespace: namespace, Name: sel.names[0]})
	}
	return s.watchRows(ctx, c, sel, namespace)
}

// selected gets those of a name, which must be what was asked for.
func (s *session) selected(ctx context.Context, c client.Client, sel selection, namespace string) ([]client.Object, error) {
	objs, err := s.named(ctx, c, sel.kind, namespace, sel.names)
	for _, obj := range objs {
		if !sel.has(obj) {
			return nil, fmt.Errorf("%s %s is there, and is not what was asked for: leave out -c, or say get %s", sel.kind.name, obj.GetName(), sel.kind.use)
		}
	}
	return objs, err
}

// named gets objects one by one.
func (s *session) named(ctx context.Context, c client.Client, k kind, namespace string, names []string) ([]client.Object, error) {
	objs := make([]client.Object, 0, len(names))
	for _, name := range names {
		obj := k.object()
		err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)
		if missing(err) {
			return nil, s.notThere(ctx, c, k, namespace, name)
		}
		if err != nil {
			return nil, s.fail(fmt.Sprintf("get %s %s", k.name, name), err)
		}
		objs = append(objs, obj)
	}
	return objs, nil
}

// notThere says which names there are, since most often one is mistyped or the
// namespace is the wrong one.
func (s *session) notThere(ctx context.Context, c client.Client, k kind, namespace, name string) error {
	objs, err := s.listed(ctx, c, selection{kind: k}, namespace)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s %s is not in %s (there: %s): check the name, and the namespace with -n", k.name, name, place(namespace), names(objs))
}

func (s *session) listed(ctx context.Context, c client.Client, sel selection, namespace string) ([]client.Object, error) {
	list := sel.kind.list()
	if err := c.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, s.fail(fmt.Sprintf("list %ss in %s", sel.kind.name, place(namespace)), err)
	}
	all, err := objects(list)
	if err != nil {
		return nil, err
	}
	objs := all[:0]
	for _, obj := range all {
		if sel.has(obj) {
			objs = append(objs, obj)
		}
	}
	return objs, nil
}

// watchRows prints every row, and again each row that changes.
func (s *session) watchRows(ctx context.Context, c client.WithWatch, sel selection, namespace string) error {
	opts := []client.ListOption{client.InNamespace(namespace)}
	if len(sel.names) == 1 {
		opts = append(opts, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", sel.names[0])})
	}
	p := s.newPrinter(sel.kind)
	follower := &follower{
		client: c, kind: sel.kind, opts: opts, notice: s.notice,
		each: func(ch change) (bool, error) {
			if !sel.has(ch.object) || ch.removed {
				return false, nil
			}
			return false, p.changed(ch.object, time.Now())
		},
	}
	return s.fail(fmt.Sprintf("watch %ss in %s", sel.kind.name, place(namespace)), follower.run(ctx))
}

// notice says that a watch is cut off, and goes on.
func (s *session) notice(err error) error {
	return s.hint("the cluster does not answer, trying again: %s", oneLine(err.Error()))
}

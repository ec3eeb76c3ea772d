package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/table"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func drillKind() kind {
	return kind{
		name: "Drill", use: "drill", aliases: []string{"drills"},
		short:  "trials of standbys in namespaces of their own",
		object: func() client.Object { return &api.Drill{} },
		list:   func() client.ObjectList { return &api.DrillList{} },
		layout: table.Drill(),
		inHome: true,
	}
}

// drillFlags are the flags of drill start.
type drillFlags struct {
	round, name            string
	namespaces             map[string]string
	deadlineSeconds, hours int64
	wait                   bool
}

func newDrill(s *session) *cobra.Command {
	parent := &cobra.Command{
		Use: "drill", Short: "Try whether a standby comes up, while replication goes on", Args: cobra.ArbitraryArgs,
		RunE: group("what to do", "start or stop"),
	}
	parent.AddCommand(newDrillStart(s), newDrillStop(s))
	return parent
}

func newDrillStart(s *session) *cobra.Command {
	var f drillFlags
	cmd := &cobra.Command{
		Use:   "start APPLICATION",
		Short: "Open a recovery point in a namespace of its own, and see whether it comes up",
		Long: `Open a recovery point in a namespace of its own, and see whether it comes up.
Run it on the target. The namespace that -n says is made for the drill, closed by
a NetworkPolicy to all but itself, and removed by drill stop. The standby goes on
being brought forward.

APPLICATION is namespace/name, as get standby shows it, or a Standby's own name.

Example:
  ` + s.program + ` drill start cms/cms -n cms-drill`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("drill start takes one application: see get standby")
			}
			return s.startDrill(cmd.Context(), f, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "Name of the drill; the first namespace's when empty")
	flags.StringVar(&f.round, "round", "", "Recovery point to open, as get recoverypoints shows it; the one that the standby holds when empty")
	flags.StringToStringVar(&f.namespaces, "namespace-mapping", nil, "Namespaces to open those of the application in, where there are several; NAME-drill when empty")
	flags.Int64Var(&f.deadlineSeconds, "deadline-seconds", 3600, "How long it may take until all pods are ready")
	flags.Int64Var(&f.hours, "every-hours", 0, "Repeat it, from start to start, and remove what it opened each time")
	flags.BoolVar(&f.wait, "wait", true, "Show how it fares until there is a result")
	return cmd
}

func (s *session) startDrill(ctx context.Context, f drillFlags, words string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	standby, err := s.findStandby(ctx, c, words)
	if err != nil {
		return err
	}
	if err := offered(standby, f.round); err != nil {
		return err
	}
	mapping, err := s.drillNamespaces(standby, f.namespaces)
	if err != nil {
		return err
	}
	d := &api.Drill{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.home, Name: f.name},
		Spec: api.DrillSpec{
			Standby: standby.Name, Round: f.round, Namespaces: mapping, DeadlineSeconds: f.deadlineSeconds, IntervalHours: f.hours,
		},
	}
	if d.Name == "" {
		d.Name = slices.Sorted(maps.Values(mapping))[0]
	}
	if err := c.Create(ctx, d); err != nil {
		return s.fail("create Drill "+d.Name, err)
	}
	if err := s.out("Started drill %s of %s in %s", d.Name, standby.Spec.Application, strings.Join(slices.Sorted(maps.Values(mapping)), ", ")); err != nil {
		return err
	}
	if !f.wait {
		return s.out("To check it use the command : `%s get drill %s -o wide`", s.program, d.Name)
	}
	return s.awaitDrill(ctx, c, d)
}

// drillNamespaces says where each of the application's namespaces is opened: -n for
// the only one, NAME-drill for what nobody said.
func (s *session) drillNamespaces(standby *api.Standby, said map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for from, to := range said {
		if !slices.Contains(standby.Spec.Namespaces, from) {
			return nil, fmt.Errorf("--namespace-mapping: %s has no namespace %s (it has: %s)", standby.Spec.Application, from, strings.Join(standby.Spec.Namespaces, ", "))
		}
		out[from] = to
	}
	own := *s.config.Namespace
	if own != "" && len(standby.Spec.Namespaces) > 1 {
		return nil, fmt.Errorf("%s has several namespaces (%s): say with --namespace-mapping where each is opened, instead of -n", standby.Spec.Application, strings.Join(standby.Spec.Namespaces, ", "))
	}
	for _, from := range standby.Spec.Namespaces {
		switch {
		case out[from] != "":
		case own != "":
			out[from] = own
		default:
			out[from] = from + "-drill"
		}
	}
	return out, nil
}

// awaitDrill tells how a drill fares until it has a result.
func (s *session) awaitDrill(ctx context.Context, c client.WithWatch, d *api.Drill) error {
	said, ended := "", false
	follow := &follower{
		client: c, kind: drillKind(), notice: s.notice,
		opts: []client.ListOption{
			client.InNamespace(d.Namespace), client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", d.Name)},
		},
		each: func(ch change) (bool, error) {
			now, ok := ch.object.(*api.Drill)
			if !ok || ch.removed {
				return true, fmt.Errorf("drill %s was deleted meanwhile", d.Name)
			}
			if line := drillProgress(now); line != said {
				said = line
				if err := s.out("%s", line); err != nil {
					return true, err
				}
			}
			if now.Status.Ended == nil {
				return false, nil
			}
			ended = true
			if now.Status.Results[0].Success {
				return true, nil
			}
			return true, fmt.Errorf("drill %s failed: %s", d.Name, now.Status.Message)
		},
	}
	if err := follow.run(ctx); err != nil {
		return s.fail("watch Drill "+d.Name, err)
	}
	if !ended {
		if err := s.hint("no longer watching; the drill goes on: %s get drill %s -o wide", s.program, d.Name); err != nil {
			return err
		}
		return errInterrupted
	}
	return s.out("Drill %s completed successfully; remove it with: %s drill stop %s", d.Name, s.program, d.Name)
}

func drillProgress(d *api.Drill) string {
	line := strings.TrimSpace(fmt.Sprintf("%s %s", d.Status.Phase, d.Status.Round))
	if d.Status.Ready != "" {
		line += ": " + d.Status.Ready + " ready"
	}
	if d.Status.Ended != nil {
		line += fmt.Sprintf(" after %d s", d.Status.Seconds)
	}
	if d.Status.Message != "" {
		line += ": " + d.Status.Message
	}
	return line
}

func newDrillStop(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "stop NAME...", Short: "Remove drills with all that they opened",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("drill stop needs at least one name: see get drill")
			}
			return s.stopDrills(cmd.Context(), args)
		},
	}
}

// stopDrills deletes Drills of Godwit's namespace, whatever -n says: there it names
// where the drill was opened.
func (s *session) stopDrills(ctx context.Context, names []string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, s.deleteOne(ctx, c, drillKind(), client.ObjectKey{Namespace: s.home, Name: name}))
	}
	return errors.Join(failed...)
}

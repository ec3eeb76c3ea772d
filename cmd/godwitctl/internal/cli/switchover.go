package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/table"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func actionKind() kind {
	return kind{
		name: "Action", use: "action", aliases: []string{"actions", "failover", "failback"},
		short:  "planned failovers and failbacks",
		object: func() client.Object { return &api.Action{} },
		list:   func() client.ObjectList { return &api.ActionList{} },
		layout: table.Action(),
	}
}

func newFailback(s *session) *cobra.Command {
	var reference string
	var include, exclude []string
	var wait bool
	cmd := &cobra.Command{
		Use:   "failback",
		Short: "Bring an application that was failed over to this cluster back, by what changed",
		Long: `Bring an application that was failed over to this cluster back, by what changed.

One round goes while the application runs, so that the pause is short; then it is
stopped here, the rest goes, and it starts there. If that fails, it runs on here.

Example:
  ` + s.program + ` perform failback -m cms/cms`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noNames(cmd, args); err != nil {
				return err
			}
			return s.failback(cmd.Context(), reference, include, exclude, wait)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&reference, "migration-reference", "m", "", "Application (namespace/name) to bring back: see get standby (required)")
	flags.BoolVar(&wait, "wait", true, "Show how it fares until the application is up on the other side")
	addNamespaceFlags(flags, &include, &exclude)
	return cmd
}

func (s *session) failback(ctx context.Context, reference string, include, exclude []string, wait bool) error {
	if reference == "" {
		return errors.New("--migration-reference is missing: name the application, as get standby shows it")
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	standby, err := s.findStandby(ctx, c, reference)
	if err != nil {
		return err
	}
	if standby.Spec.Activation == nil {
		return fmt.Errorf("%s was not activated on this cluster, so there is nothing to bring back: run this where it is active", standby.Spec.Application)
	}
	namespaces, err := choose(standby.Spec.Namespaces, include, exclude)
	if err != nil {
		return err
	}
	namespace, name, _ := strings.Cut(standby.Spec.Application, "/")
	return s.perform(ctx, c, namespace, name, wait, api.ActionSpec{
		ActionType: api.ActionFailback,
		ActionParameter: api.ActionParameter{FailbackParameter: &api.FailbackParameter{
			MigrationScheduleReference: name, FailbackNamespaces: namespaces,
		}},
	})
}

// scheduleNamed is the MigrationSchedule of that name; nil where there is none.
func (s *session) scheduleNamed(ctx context.Context, c client.Client, reference string) (*api.MigrationSchedule, error) {
	namespace, err := s.namespace()
	if err != nil {
		return nil, err
	}
	name := reference
	if before, after, found := strings.Cut(reference, "/"); found {
		namespace, name = before, after
	}
	var schedule api.MigrationSchedule
	err = c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &schedule)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // it may be an application's name
	case err != nil:
		return nil, s.fail("read MigrationSchedule "+name, err)
	}
	return &schedule, nil
}

// plannedFailover moves the application of a schedule of this cluster, its source.
func (s *session) plannedFailover(ctx context.Context, c client.WithWatch, f failoverFlags, schedule *api.MigrationSchedule) error {
	namespaces, err := choose(schedule.Spec.Template.Spec.Namespaces, f.include, f.exclude)
	switch {
	case err != nil:
		return err
	case f.to != "":
		return errors.New("--to names a round that is there already, and a planned failover makes its own: leave it out, or run this on the target")
	case f.skip:
		return errors.New("--skip-source-operations leaves the source alone, and this cluster is the source: run this on the target")
	case f.dryRun:
		return s.out("MigrationSchedule %s/%s would be suspended, its application stopped, and what changed since the last round moved; then it starts on the target. Nothing is lost.", schedule.Namespace, schedule.Name)
	}
	return s.perform(ctx, c, schedule.Namespace, schedule.Name, f.wait, api.ActionSpec{
		ActionType: api.ActionFailover,
		ActionParameter: api.ActionParameter{FailoverParameter: &api.FailoverParameter{
			MigrationScheduleReference: schedule.Name, FailoverNamespaces: namespaces,
		}},
	})
}

func addNamespaceFlags(flags *pflag.FlagSet, include, exclude *[]string) {
	flags.StringSliceVar(include, "include-namespaces", nil, "Namespaces to move: all of the application's, which moves as a whole")
	flags.StringSliceVar(exclude, "exclude-namespaces", nil, "Namespaces to leave: refused where the application has them, which moves as a whole")
}

// choose gives the namespaces that were asked for, as storkctl does; none for all.
// Fewer than all are refused: they share their rounds and their epoch.
func choose(all, include, exclude []string) ([]string, error) {
	if len(include) > 0 && len(exclude) > 0 {
		return nil, errors.New("can provide only one of --include-namespaces or --exclude-namespaces values at once")
	}
	for _, n := range append(append([]string{}, include...), exclude...) {
		if !slices.Contains(all, n) {
			return nil, fmt.Errorf("provided namespaces [%s] are not a subset of the namespaces being migrated by the given MigrationSchedule (%s)", n, strings.Join(all, ", "))
		}
	}
	for _, n := range all {
		if slices.Contains(exclude, n) || len(include) > 0 && !slices.Contains(include, n) {
			return nil, fmt.Errorf("namespace %s cannot be left behind: an application moves as a whole (%s), since its namespaces share their rounds: make a schedule for each that shall move by itself", n, strings.Join(all, ", "))
		}
	}
	return include, nil
}

// perform makes an Action and follows it.
func (s *session) perform(ctx context.Context, c client.WithWatch, namespace, reference string, wait bool, spec api.ActionSpec) error {
	a := &api.Action{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: fmt.Sprintf("%s-%s-%s", spec.ActionType, reference, time.Now().UTC().Format("2006-01-02-150405")),
		},
		Spec: spec,
	}
	if err := c.Create(ctx, a); err != nil {
		return s.fail("create Action "+a.Name, err)
	}
	if err := s.out("Started %s for MigrationSchedule %s/%s", spec.ActionType, namespace, reference); err != nil {
		return err
	}
	if !wait {
		return s.out("To check %s status use the command : `%s get %s %s -n %s`", spec.ActionType, s.program, spec.ActionType, a.Name, namespace)
	}
	return s.awaitAction(ctx, c, a)
}

func (s *session) awaitAction(ctx context.Context, c client.WithWatch, a *api.Action) error {
	said, over := "", false
	follow := &follower{
		client: c, kind: actionKind(), notice: s.notice,
		opts: []client.ListOption{
			client.InNamespace(a.Namespace),
			client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", a.Name)},
		},
		each: func(ch change) (bool, error) {
			now, ok := ch.object.(*api.Action)
			if !ok || ch.removed {
				return true, fmt.Errorf("action %s was deleted meanwhile", a.Name)
			}
			line := strings.TrimSpace(table.StageOf(now) + "  " + now.Status.Reason)
			if line != said && line != "" {
				said = line
				if err := s.out("%s", line); err != nil {
					return true, err
				}
			}
			over = now.Status.Stage == api.ActionStageFinal
			if over && now.Status.Status != api.ActionStatusSuccessful {
				where := ", and the application is where it was"
				if now.Status.Activating {
					where = ""
				}
				return true, fmt.Errorf("%s failed%s: %s", a.Spec.ActionType, where, now.Status.Reason)
			}
			return over, nil
		},
	}
	if err := follow.run(ctx); err != nil {
		return s.fail("watch Action "+a.Name, err)
	}
	if !over {
		if err := s.hint("no longer watching; it goes on: %s get %s %s -n %s", s.program, a.Spec.ActionType, a.Name, a.Namespace); err != nil {
			return err
		}
		return errInterrupted
	}
	return s.out("%s completed successfully", a.Name)
}

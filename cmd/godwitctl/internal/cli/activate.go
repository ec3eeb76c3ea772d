package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
)

// newActivate makes activate or deactivate.
func newActivate(s *session, start bool) *cobra.Command {
	verb, short := "deactivate", "Stop applications that were migrated, as they were before activate"
	if start {
		verb, short = "activate", "Start applications that were migrated without being started"
	}
	parent := &cobra.Command{Use: verb, Short: short, Args: cobra.ArbitraryArgs, RunE: group("a kind", "migration")}
	all := false
	cmd := &cobra.Command{
		Use: "migration", Aliases: []string{"migrations"}, Short: short, Annotations: uses(usesAllNamespaces),
		Long: short + `.

It turns what Migrations and schedules with startApplications: false wrote into the
namespace, on the cluster where it runs: replicas, CronJobs, Jobs, DaemonSets, Pods,
autoscalers, and custom resources that are built in or registered on this cluster.
The source is asked nothing. Copies of schedules on this cluster are marked, so that
no run of theirs stops what was started.

A standby is not brought up by it: see perform failover.

Example:
  ` + s.program + ` --context TARGET ` + verb + ` migration -n cms`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noNames(cmd, args); err != nil {
				return err
			}
			if all && cmd.Flags().Changed("namespace") {
				return errors.New("--namespace and --all exclude each other: leave one out")
			}
			s.allNamespaces = s.allNamespaces || all
			return s.turn(cmd.Context(), start)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "As --all-namespaces")
	parent.AddCommand(cmd)
	return parent
}

// turn starts or stops what was migrated into a namespace, or into all.
func (s *session) turn(ctx context.Context, start bool) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	objects, err := s.reachObjects()
	if err != nil {
		return err
	}
	namespaces, err := s.turnedNamespaces(ctx, c)
	if err != nil {
		return err
	}
	var list api.ApplicationRegistrationList
	if err := c.List(ctx, &list); err != nil {
		return s.fail("list ApplicationRegistrations", err)
	}
	var registrations []api.ApplicationResource
	for _, r := range list.Items {
		registrations = append(registrations, r.Resources...)
	}
	var failed []error
	for _, namespace := range namespaces {
		failed = append(failed, s.turnNamespace(ctx, c, objects, namespace, registrations, start))
	}
	return errors.Join(failed...)
}

// reachObjects reaches the cluster for objects of any kind.
func (s *session) reachObjects() (workload.Cluster, error) {
	config, err := s.config.ToRESTConfig()
	if err != nil {
		return workload.Cluster{}, configError(err)
	}
	mapper, err := s.config.ToRESTMapper()
	if err != nil {
		return workload.Cluster{}, s.fail("ask what the cluster serves", err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return workload.Cluster{}, configError(err)
	}
	return workload.Cluster{Dynamic: objects, Mapper: mapper}, nil
}

func (s *session) turnedNamespaces(ctx context.Context, c client.Client) ([]string, error) {
	if s.allNamespaces {
		var list corev1.NamespaceList
		if err := c.List(ctx, &list); err != nil {
			return nil, s.fail("list namespaces", err)
		}
		var all []string
		for _, n := range list.Items {
			all = append(all, n.Name)
		}
		return all, nil
	}
	namespace, err := s.namespace()
	if err != nil {
		return nil, err
	}
	var n corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: namespace}, &n); missing(err) {
		return nil, fmt.Errorf("namespace %s is not on this cluster: check -n, and that --context is the cluster where the application shall run", namespace)
	} else if err != nil && !apierrors.IsForbidden(err) {
		return nil, s.fail("read namespace "+namespace, err)
	}
	return []string{namespace}, nil
}

// turnNamespace marks schedules before it starts anything, and after it stopped all:
// in between, no run of theirs may stop what runs.
func (s *session) turnNamespace(ctx context.Context, c client.Client, objects workload.Cluster, namespace string, registrations []api.ApplicationResource, start bool) error {
	copies, err := s.copiesFor(ctx, c, namespace)
	if err != nil {
		return err
	}
	if start {
		if err := s.markActivated(ctx, c, copies, true); err != nil {
			return err
		}
	}
	turned, failed := workload.Turn(ctx, objects, namespace, registrations, start)
	for _, t := range turned {
		failed = errors.Join(failed, s.out("%s", turnedLine(t)))
	}
	if failed != nil {
		return failed
	}
	if !start {
		failed = s.markActivated(ctx, c, copies, false)
	}
	if failed != nil || len(turned) > 0 || s.allNamespaces {
		return failed
	}
	return s.nothingTurned(ctx, c, namespace, start)
}

// turnedLine is storkctl's line, where it has one.
func turnedLine(t workload.Turned) string {
	kind, name := strings.ToLower(t.Ref.Kind), t.Ref.Namespace+"/"+t.Ref.Name
	switch t.Setting {
	case workload.SettingReplicas:
		return fmt.Sprintf("Updated replicas for %s %s to %s", kind, name, t.Value)
	case workload.SettingSuspend:
		return fmt.Sprintf("Updated suspend option for %s %s to %s", kind, name, t.Value)
	case workload.SettingStash:
		return fmt.Sprintf("Successfully created the CRs from the stashed configmaps %s/%s", t.Ref.Kind, t.Ref.Name)
	case workload.SettingFields:
		return fmt.Sprintf("Updated CR for %s %s", kind, name)
	}
	return fmt.Sprintf("Updated hold of %s %s", kind, name)
}

// copiesFor are the copies of schedules of other clusters that speak of the namespace.
func (s *session) copiesFor(ctx context.Context, c client.Client, namespace string) ([]api.MigrationSchedule, error) {
	var list api.MigrationScheduleList
	err := c.List(ctx, &list)
	if apierrors.IsForbidden(err) {
		err = c.List(ctx, &list, client.InNamespace(namespace))
	}
	if err != nil {
		return nil, s.fail("list MigrationSchedules", err)
	}
	return slices.DeleteFunc(list.Items, func(m api.MigrationSchedule) bool {
		return !m.IsCopy() || !slices.Contains(m.Spec.Template.Spec.Namespaces, namespace)
	}), nil
}

func (s *session) markActivated(ctx context.Context, c client.Client, copies []api.MigrationSchedule, activated bool) error {
	for i := range copies {
		m := &copies[i]
		if m.Status.ApplicationActivated == activated {
			continue
		}
		if err := s.out("Setting the ApplicationActivated status in the MigrationSchedule %s/%s to %t", m.Namespace, m.Name, activated); err != nil {
			return err
		}
		patch := fmt.Appendf(nil, `{"status":{"applicationActivated":%t}}`, activated)
		if err := c.Status().Patch(ctx, m, client.RawPatch("application/merge-patch+json", patch)); err != nil {
			return s.fail(fmt.Sprintf("mark MigrationSchedule %s/%s", m.Namespace, m.Name), err)
		}
	}
	return nil
}

// nothingTurned says why nothing was done: most often a standby waits, which only a
// failover brings up.
func (s *session) nothingTurned(ctx context.Context, c client.Client, namespace string, start bool) error {
	var standbies api.StandbyList
	err := c.List(ctx, &standbies, client.InNamespace(s.home))
	if err != nil && !apierrors.IsForbidden(err) {
		return s.fail("list Standbys", err)
	}
	for _, standby := range standbies.Items {
		if start && standby.Spec.Drill == nil && standby.Spec.Stage && standby.Spec.Activation == nil && slices.Contains(standby.Spec.Namespaces, namespace) {
			return fmt.Errorf("nothing that was migrated into namespace %s is stopped: its application is Standby %s, which is brought up by: %s perform failover -m %s",
				namespace, standby.Name, s.program, standby.Spec.Application)
		}
	}
	return s.hint("nothing that was migrated into namespace %s is to be %s", namespace, map[bool]string{true: "started", false: "stopped"}[start])
}

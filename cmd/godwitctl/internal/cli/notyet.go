package cli

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// hintNamespaces tells of namespaces that are not there. They may come later, and who
// asks may not be allowed to look: nothing is refused for it.
func (s *session) hintNamespaces(ctx context.Context, c client.Client, names []string) error {
	for _, name := range names {
		if !missing(c.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{})) {
			continue
		}
		if err := s.hint("note: namespace %s is not in this cluster, and is left out as long as it is not: check --namespaces", name); err != nil {
			return err
		}
	}
	return nil
}

// hintPolicy tells of a policy that is not there yet.
func (s *session) hintPolicy(ctx context.Context, c client.Client, m *api.MigrationSchedule) error {
	name := m.Spec.SchedulePolicyName
	if m.Spec.Continuous ||
		!missing(c.Get(ctx, client.ObjectKey{Namespace: m.Namespace, Name: name}, &api.NamespacedSchedulePolicy{})) ||
		!missing(c.Get(ctx, client.ObjectKey{Name: name}, &api.SchedulePolicy{})) {
		return nil
	}
	return s.hint("note: there is no SchedulePolicy %s, and nothing is due until there is: create it, or correct --schedule-policy-name", name)
}

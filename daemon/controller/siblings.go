package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// applicationOf names what moves: as the user says, else by its one namespace,
// else by a digest of what selects it.
func applicationOf(m *api.Migration) string {
	s := m.Spec
	if s.Application != "" {
		return m.Namespace + "/" + s.Application
	}
	namespaces := slices.Sorted(slices.Values(s.Namespaces))
	if len(namespaces) == 1 && len(s.Selectors)+len(s.ExcludeSelectors) == 0 {
		return m.Namespace + "/" + namespaces[0]
	}
	words := append(namespaces, "selectors")
	words = append(words, pairs(s.Selectors)...)
	words = append(append(words, "excluded"), pairs(s.ExcludeSelectors)...)
	return m.Namespace + "/" + namespaces[0] + "-" + digest(strings.Join(words, "\n"))
}

func pairs(labels map[string]string) []string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, k+"="+labels[k])
	}
	return all
}

// observeSiblings finds the other Migrations of the same application: they take
// turns, and the last one to be deleted takes all with it.
func (x *run) observeSiblings(ctx context.Context) error {
	var list api.MigrationList
	if err := x.Client.List(ctx, &list, client.InNamespace(x.m.Namespace)); err != nil {
		return fmt.Errorf("list the Migrations of namespace %s: %w", x.m.Namespace, err)
	}
	o := &x.observed
	var others []migrate.Sibling
	o.Last = true
	for i := range list.Items {
		m := &list.Items[i]
		name := m.Status.Application
		if name == "" {
			name = applicationOf(m)
		}
		sharer, elsewhere := x.sharers[m.Spec.ClusterPair]
		if m.UID == x.m.UID || name != x.application() || m.Spec.ClusterPair != x.m.Spec.ClusterPair && !elsewhere {
			continue
		}
		s := siblingOf(m)
		if s.Elsewhere = elsewhere; elsewhere {
			x.sharesBases = x.sharesBases || m.DeletionTimestamp.IsZero()
			// One that waits for its target keeps no other target waiting.
			s.Reading = s.Reading && meta.IsStatusConditionTrue(sharer.Status.Conditions, api.ConditionReady)
		} else {
			o.Last = o.Last && !m.DeletionTimestamp.IsZero()
		}
		if !isRoundOf(m, x.m) && !isRoundOf(x.m, m) {
			others = append(others, s)
		}
	}
	o.Ahead, o.AheadOnTarget = migrate.Ahead(siblingOf(x.m), others), migrate.AheadOnTarget(siblingOf(x.m), others)
	return x.observeForgotten(ctx)
}

// observeSharers finds the other ClusterPairs of the namespace that use the same
// repository.
func (x *run) observeSharers(ctx context.Context) error {
	if x.pair == nil || x.pair.Status.Repository == "" {
		return nil
	}
	var list api.ClusterPairList
	if err := x.Client.List(ctx, &list, client.InNamespace(x.m.Namespace)); err != nil {
		return fmt.Errorf("list the ClusterPairs of namespace %s: %w", x.m.Namespace, err)
	}
	x.sharers = map[string]api.ClusterPair{}
	for _, p := range list.Items {
		if p.Name != x.pair.Name && p.Status.Repository == x.pair.Status.Repository {
			x.sharers[p.Name] = p
		}
	}
	return nil
}

func siblingOf(m *api.Migration) migrate.Sibling {
	is := func(condition string) bool { return meta.IsStatusConditionTrue(m.Status.Conditions, condition) }
	succeeded := m.Status.Status == api.MigrationStatusSuccessful || m.Status.Status == api.MigrationStatusRolledBack || m.Status.Status == api.MigrationStatusPartialSuccess
	ended := m.Status.Stage == api.MigrationStageFinal && is(conditionReleased) && !is(conditionRollingBack)
	return migrate.Sibling{
		Name: m.Name, UID: string(m.UID), Created: m.CreationTimestamp.Time,
		Stage: isTrue(m.Spec.Stage, false), Admitted: is(conditionAdmitted), Sealed: is(conditionSealed), Begun: is(conditionBegun),
		Reading: is(conditionChecked) && !is(conditionSealed) && m.Status.Stage != api.MigrationStageFinal,
		Over:    ended && (succeeded || !is(conditionSealed) || is(conditionCleared)),
	}
}

// observeForgotten tells whether the target has anything that this Migration has
// to take back: not what the next one starts from.
func (x *run) observeForgotten(ctx context.Context) error {
	o := &x.observed
	// A round that is sealed may have been begun by a call whose answer was lost.
	o.Forgotten = !o.Sealed || x.has(conditionCleared) || x.keepsStandby()
	if !o.Deleting || !o.Last {
		return nil
	}
	b, err := x.book(ctx)
	if err != nil {
		return err
	}
	o.Forgotten = o.Forgotten && (b == nil || x.sharesBases)
	return nil
}

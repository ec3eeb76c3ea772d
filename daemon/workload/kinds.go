package workload

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// kind is one namespaced kind that a cluster serves.
type kind struct {
	gvk      schema.GroupVersionKind
	resource string
	singular string
}

func (k kind) is(group, name string) bool {
	return k.gvk.Group == group && k.gvk.Kind == name
}

func (k kind) gvr() schema.GroupVersionResource {
	return k.gvk.GroupVersion().WithResource(k.resource)
}

func (k kind) ref(namespace string) Ref {
	return Ref{Group: k.gvk.Group, Version: k.gvk.Version, Kind: k.gvk.Kind, Namespace: namespace}
}

// wish is what a Selection says about kinds, spelled in lower case.
type wish struct {
	excluded []string
	optional []string
}

func wishOf(s Selection) wish {
	lower := func(in []string) []string {
		var out []string
		for _, name := range in {
			out = append(out, strings.ToLower(strings.TrimSpace(name)))
		}
		return out
	}
	return wish{excluded: lower(s.ExcludeResourceTypes), optional: lower(s.IncludeOptionalResourceTypes)}
}

// excludes accepts the spellings of kubectl: Deployment, deployments,
// deployments.apps, and "*.apps" for a whole group.
func (w wish) excludes(k kind) bool {
	group := strings.ToLower(k.gvk.Group)
	for _, name := range []string{k.gvk.Kind, k.resource, k.singular} {
		name = strings.ToLower(name)
		if name == "" {
			continue
		}
		if slices.Contains(w.excluded, name) || slices.Contains(w.excluded, name+"."+group) {
			return true
		}
	}
	return w.excludesGroup(group)
}

func (w wish) excludesGroup(group string) bool {
	return slices.Contains(w.excluded, "*."+strings.ToLower(group))
}

func (w wish) includesOptional(name string) bool {
	return slices.Contains(w.optional, name) || slices.Contains(w.optional, name+"s")
}

// served asks the cluster which namespaced kinds hold state that can be read and
// written.
func served(d Discovery, w wish) ([]kind, error) {
	lists, err := d.ServerPreferredNamespacedResources()
	if err := tolerable(err, w); err != nil {
		return nil, err
	}
	var found []kind
	for _, list := range lists {
		kinds, err := kindsOf(list)
		if err != nil {
			return nil, err
		}
		found = append(found, kinds...)
	}
	sort.Slice(found, func(i, j int) bool { return before(found[i], found[j]) })
	return found, nil
}

// sift parts the kinds that no rule leaves out from those that one does.
func sift(found []kind, w wish) ([]kind, []Skipped) {
	var wanted []kind
	var skipped []Skipped
	for _, k := range found {
		if r := leavesOutKind(w, k); r != nil {
			skipped = append(skipped, Skipped{Ref: k.ref(""), Rule: r.Name, Reason: r.Reason})
			continue
		}
		wanted = append(wanted, k)
	}
	return wanted, skipped
}

func leavesOutKind(w wish, k kind) *Rule {
	for _, r := range kindRules() {
		if r.kind != nil && r.kind(w, k) {
			return &r.Rule
		}
	}
	return nil
}

// tolerable turns a discovery error into nil when every group that failed would
// be left out anyway. Any other failing group could hide objects of the
// application, and a round without them must not look whole.
func tolerable(err error, w wish) error {
	if err == nil {
		return nil
	}
	var failed *discovery.ErrGroupDiscoveryFailed
	if !errors.As(err, &failed) {
		return fmt.Errorf("ask the cluster which kinds it serves: %w", err)
	}
	var missing []string
	for gv := range failed.Groups {
		// No rule looks at a kind in these groups, so one without a name stands
		// for all of them.
		whole := kind{gvk: gv.WithKind("")}
		if leavesOutKind(w, whole) == nil {
			missing = append(missing, gv.String())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	sort.Strings(missing)
	return fmt.Errorf("the cluster cannot say what %s holds: repair or delete the APIService behind it "+
		"(kubectl get apiservices), or exclude it with excludeResourceTypes \"*.GROUP\": %w",
		strings.Join(missing, ", "), err)
}

func kindsOf(list *metav1.APIResourceList) ([]kind, error) {
	gv, err := schema.ParseGroupVersion(list.GroupVersion)
	if err != nil {
		return nil, fmt.Errorf("read the kinds of API group %q: %w", list.GroupVersion, err)
	}
	var out []kind
	for _, r := range list.APIResources {
		if !r.Namespaced || strings.Contains(r.Name, "/") || !holdsState(r.Verbs) {
			continue
		}
		out = append(out, kind{gvk: gv.WithKind(r.Kind), resource: r.Name, singular: r.SingularName})
	}
	return out, nil
}

// holdsState leaves out what is asked or computed rather than kept, such as
// access reviews and aggregated readings.
func holdsState(verbs metav1.Verbs) bool {
	for _, verb := range []string{"list", "get", "create"} {
		if !slices.Contains(verbs, verb) {
			return false
		}
	}
	return true
}

// before puts groups that only repeat the objects of another one last, so that of
// two views of one object the lasting one is kept.
func before(a, b kind) bool {
	if old, other := a.gvk.Group == "extensions", b.gvk.Group == "extensions"; old != other {
		return other
	}
	if a.gvk.Group != b.gvk.Group {
		return a.gvk.Group < b.gvk.Group
	}
	if a.gvk.Kind != b.gvk.Kind {
		return a.gvk.Kind < b.gvk.Kind
	}
	return a.resource < b.resource
}

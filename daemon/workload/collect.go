package workload

import (
	"context"
	"fmt"
	"slices"
	"sort"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"golang.org/x/sync/errgroup"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

const (
	// pageSize bounds what one answer of the API server holds in memory.
	pageSize = 500
	// listsAtOnce stays well inside what API priority and fairness grants one
	// client.
	listsAtOnce = 8
)

// Selection says which objects of a cluster are wanted. The fields mean what they
// mean in a Migration's spec.
type Selection struct {
	// Namespaces must exist. Their Namespace objects are always collected.
	Namespaces []string
	// Selectors must all hold; ExcludeSelectors leave an object out if any holds.
	Selectors, ExcludeSelectors map[string]string
	// ExcludeResourceTypes are kinds, resources, resource.group or *.group.
	ExcludeResourceTypes []string
	// IncludeOptionalResourceTypes: Job is the only one.
	IncludeOptionalResourceTypes []string
	IncludeNetworkPolicyWithCIDR bool
	IgnoreOwnerReferencesCheck   bool
	// ClusterScoped also collects the cluster-scoped objects that others lean on;
	// otherwise they are told in Skipped.
	ClusterScoped bool
	// ResourceSelectors: where there are any, one must match each object but
	// claims.
	ResourceSelectors []api.ResourceSelector
	// Versions are the API versions in which kinds are read, by kind and group as
	// schema.GroupKind spells them; those that it does not name, in the preferred one.
	Versions map[string]string
}

// Skipped is an object, or with an empty name a kind, that was left out.
type Skipped struct {
	Ref    Ref    `json:"ref"`
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

// Collection is what Collect found, as the cluster holds it, in a fixed order.
type Collection struct {
	Objects []unstructured.Unstructured
	Skipped []Skipped
}

// Collect reads every namespaced object that holds desired state, custom
// resources included, and the Namespaces themselves. It reads at one resource
// version per kind and namespace. A kind that may not be read, or is gone, is told
// in Skipped; any other failure is an error, since a collection that silently
// lacks something must not pass for a whole one.
func Collect(ctx context.Context, c Cluster, s Selection) (Collection, error) {
	selectors, err := readSelectors("spec.resourceSelectors", s.ResourceSelectors)
	if err != nil {
		return Collection{}, err
	}
	names := slices.Compact(slices.Sorted(slices.Values(s.Namespaces)))
	if len(names) == 0 {
		return Collection{}, fmt.Errorf("collect objects: no namespace is selected: name at least one in spec.namespaces")
	}
	namespaces, skipped, err := readNamespaces(ctx, c.Dynamic, names)
	if err != nil {
		return Collection{}, err
	}
	found, err := served(c.Discovery, wishOf(s))
	if err != nil {
		return Collection{}, err
	}
	wanted, skippedKinds := sift(inVersions(found, s.Versions), wishOf(s))
	skipped = append(skipped, skippedKinds...)
	objects, unread, err := readAll(ctx, c.Dynamic, wanted, names, labels.Set(s.Selectors).String())
	if err != nil {
		return Collection{}, err
	}
	skipped = append(skipped, unread...)

	v := newView(s, objects)
	v.selectors = selectors
	out := Collection{Skipped: skipped}
	var kept []unstructured.Unstructured
	for i := range v.objects {
		if r := v.leavesOut(i); r != nil {
			out.Skipped = append(out.Skipped, Skipped{Ref: RefOf(&v.objects[i]), Rule: r.Name, Reason: r.Reason})
			continue
		}
		kept = append(kept, v.objects[i])
	}
	f := follower{dynamic: c.Dynamic, selection: s, namespaces: names, objects: kept, view: v, resources: resourcesOf(found)}
	leaned, alone, err := f.follow(ctx)
	if err != nil {
		return Collection{}, err
	}
	out.Skipped = append(out.Skipped, alone...)
	out.Objects = append(append(namespaces, leaned...), kept...)
	return out, nil
}

func resourcesOf(kinds []kind) map[schema.GroupKind]string {
	out := make(map[schema.GroupKind]string, len(kinds))
	for _, k := range kinds {
		out[k.gvk.GroupKind()] = k.resource
	}
	return out
}

func readNamespaces(ctx context.Context, d dynamic.Interface, names []string) ([]unstructured.Unstructured, []Skipped, error) {
	var found []unstructured.Unstructured
	var skipped []Skipped
	for _, name := range names {
		obj, err := d.Resource(namespaceResource()).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsForbidden(err):
			ref := Ref{Version: "v1", Kind: "Namespace", Name: name}
			skipped = append(skipped, unreadable(ref, RuleForbidden, err))
		case err != nil:
			return nil, nil, fmt.Errorf("read namespace %s: %w", name, err)
		case obj.GetDeletionTimestamp() != nil:
			return nil, nil, fmt.Errorf("namespace %s is being deleted: wait until it is gone and leave it out, or make it again", name)
		default:
			found = append(found, *obj)
		}
	}
	return found, skipped, nil
}

// unreadable adds to the rule's reason what the server said.
func unreadable(ref Ref, name string, err error) Skipped {
	s := Skipped{Ref: ref, Rule: name, Reason: err.Error()}
	for _, r := range kindRules() {
		if r.Name == name {
			s.Reason = r.Reason + ": " + err.Error()
		}
	}
	return s
}

// readAll lists every kind in every namespace. The result is in the order of the
// arguments whatever the order of the answers.
func readAll(ctx context.Context, d dynamic.Interface, kinds []kind, namespaces []string, selector string) ([]unstructured.Unstructured, []Skipped, error) {
	type cell struct {
		objects []unstructured.Unstructured
		skipped []Skipped
	}
	cells := make([]cell, len(namespaces)*len(kinds))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listsAtOnce)
	for i := range cells {
		namespace, k := namespaces[i/len(kinds)], kinds[i%len(kinds)]
		group.Go(func() error {
			objects, err := readKind(ctx, d, k, namespace, selector)
			switch {
			case apierrors.IsForbidden(err):
				cells[i].skipped = []Skipped{unreadable(k.ref(namespace), RuleForbidden, err)}
			case apierrors.IsNotFound(err):
				cells[i].skipped = []Skipped{unreadable(k.ref(namespace), RuleNotServed, err)}
			case err != nil:
				return fmt.Errorf("list %s: %w", k.ref(namespace), err)
			default:
				cells[i].objects = objects
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	var found []unstructured.Unstructured
	var skipped []Skipped
	for _, c := range cells {
		found = append(found, c.objects...)
		skipped = append(skipped, c.skipped...)
	}
	return found, skipped, nil
}

// readKind pages through one kind. A continuation that the server has forgotten
// means that pages would come from two moments, so the list is read again whole.
func readKind(ctx context.Context, d dynamic.Interface, k kind, namespace, selector string) ([]unstructured.Unstructured, error) {
	resource := d.Resource(k.gvr()).Namespace(namespace)
	var found []unstructured.Unstructured
	options := metav1.ListOptions{LabelSelector: selector, Limit: pageSize}
	for {
		page, err := resource.List(ctx, options)
		if apierrors.IsResourceExpired(err) && options.Continue != "" {
			found, options.Continue, options.Limit = nil, "", 0
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			page.Items[i].SetGroupVersionKind(k.gvk)
		}
		found = append(found, page.Items...)
		options.Continue = page.GetContinue()
		if options.Continue == "" {
			break
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].GetName() < found[j].GetName() })
	return found, nil
}

// view is all that was listed, and what the rules made of it.
type view struct {
	selection Selection
	selectors []selector
	objects   []unstructured.Unstructured
	byUID     map[types.UID]int
	// selecting are the Services whose endpoints a controller makes.
	selecting map[types.NamespacedName]bool
	rules     []rule
	verdicts  []verdict
}

type verdict struct {
	asked bool
	rule  *Rule
}

func newView(s Selection, found []unstructured.Unstructured) *view {
	v := &view{
		selection: s,
		byUID:     make(map[types.UID]int, len(found)),
		selecting: make(map[types.NamespacedName]bool),
		rules:     objectRules(),
	}
	for _, obj := range found {
		// The same object may be served by two API groups.
		if _, seen := v.byUID[obj.GetUID()]; seen && obj.GetUID() != "" {
			continue
		}
		v.byUID[obj.GetUID()] = len(v.objects)
		v.objects = append(v.objects, obj)
		if isKind(&obj, "", "Service") && len(shape.Child(obj.Object, "spec", "selector")) > 0 {
			v.selecting[types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}] = true
		}
	}
	v.verdicts = make([]verdict, len(v.objects))
	return v
}

// leavesOut returns the rule that leaves the object out, or nil.
func (v *view) leavesOut(i int) *Rule {
	if v.verdicts[i].asked {
		return v.verdicts[i].rule
	}
	// Set before asking, so that owners in a circle end.
	v.verdicts[i].asked = true
	for j := range v.rules {
		if v.rules[j].object(v, &v.objects[i]) {
			v.verdicts[i].rule = &v.rules[j].Rule
			break
		}
	}
	return v.verdicts[i].rule
}

// comesBack tells whether the object with this UID will stand in the target:
// because it moves, or because its own owner makes it again there.
func (v *view) comesBack(uid types.UID) bool {
	i, listed := v.byUID[uid]
	if !listed {
		return false
	}
	r := v.leavesOut(i)
	return r == nil || r.Name == "controlled" || r.Name == "owned"
}

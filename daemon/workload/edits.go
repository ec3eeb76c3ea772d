package workload

import (
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload/dce"
	"github.com/godwit-io/godwit/daemon/workload/modifier"
	"github.com/godwit-io/godwit/daemon/workload/patch"
	"github.com/godwit-io/godwit/daemon/workload/stork"
)

// Local are the ConfigMaps of the target that change what comes in.
type Local struct {
	// Plugins and Images carry the labels of package dce.
	Plugins, Images []unstructured.Unstructured
}

// Edits are the users' rules, read and checked.
type Edits struct {
	// transformations are keyed by the source's namespace.
	transformations map[string][]*stork.Transformation
	plugin          *dce.Rules
	images          *dce.Images
	modifiers       []*modifier.Rules
	overrides       []override
	held            []holding
}

type override struct {
	origin    string
	selectors []selector
	patch     patch.Operations
	merge     map[string]any
}

// ReadEdits reads all rules. The error joins one for each thing that is wrong,
// named by object, key and position.
func ReadEdits(i Instructions, local Local) (*Edits, error) {
	e := &Edits{transformations: make(map[string][]*stork.Transformation)}
	var all []error
	keep := func(err error) {
		if err != nil {
			all = append(all, err)
		}
	}
	for _, t := range i.Transformations {
		parsed, err := stork.Parse(t.Namespace+"/"+t.Name, t.Spec)
		keep(err)
		e.transformations[t.Namespace] = append(e.transformations[t.Namespace], parsed)
	}
	keep(e.readLocal(local))
	for _, m := range i.Modifiers {
		parsed, err := modifier.Parse(m.Origin, m.Text)
		keep(err)
		e.modifiers = append(e.modifiers, parsed)
	}
	for n, o := range i.Overrides {
		parsed, err := parseOverride(fmt.Sprintf("spec.overrides[%d]", n), o)
		keep(err)
		e.overrides = append(e.overrides, parsed)
	}
	var err error
	e.held, err = readHoldings(i.Registrations)
	keep(err)
	keep(i.Conflicts.check())
	return e, errors.Join(all...)
}

// readLocal admits one ConfigMap of each sort: which of two should win cannot be
// told.
func (e *Edits) readLocal(local Local) error {
	var all []error
	for i := range local.Plugins {
		if i > 0 {
			all = append(all, twice(dce.LabelPlugin, local.Plugins[0], local.Plugins[i]))
			continue
		}
		parsed, err := dce.Parse(&local.Plugins[i])
		e.plugin = parsed
		all = append(all, err)
	}
	for i := range local.Images {
		if i > 0 {
			all = append(all, twice(dce.LabelImages, local.Images[0], local.Images[i]))
			continue
		}
		parsed, err := dce.ParseImages(&local.Images[i])
		e.images = parsed
		all = append(all, err)
	}
	return errors.Join(all...)
}

func twice(label string, a, b unstructured.Unstructured) error {
	return fmt.Errorf("ConfigMaps %s/%s and %s/%s both carry the label %s=%s, and only one may: delete one of them",
		a.GetNamespace(), a.GetName(), b.GetNamespace(), b.GetName(), label, dce.LabelValue)
}

func parseOverride(origin string, in api.ObjectOverride) (override, error) {
	out := override{origin: origin}
	var all []error
	var err error
	if out.selectors, err = readSelectors(origin+".resourceSelectors", in.ResourceSelectors); err != nil {
		all = append(all, err)
	}
	if len(out.selectors) == 0 {
		all = append(all, fmt.Errorf("%s.resourceSelectors is empty: name what to change", origin))
	}
	asJSON, err := yaml.YAMLToJSONStrict([]byte(in.Patch))
	switch {
	case err != nil:
	case len(asJSON) > 0 && asJSON[0] == '[':
		out.patch, err = patch.Parse(asJSON)
	default:
		out.merge, err = patch.ParseMerge(asJSON)
	}
	if err != nil {
		all = append(all, fmt.Errorf("%s.patch: %w", origin, err))
	}
	return out, errors.Join(all...)
}

func (o override) edit(obj *unstructured.Unstructured, from Ref) ([]string, error) {
	if !matchesAny(o.selectors, obj, from) {
		return nil, nil
	}
	if o.merge != nil {
		obj.Object = patch.Merge(obj.Object, o.merge)
		return []string{o.origin}, nil
	}
	changed, err := o.patch.Apply(obj.Object)
	if err != nil {
		return nil, fmt.Errorf("%s.patch: %w", o.origin, err)
	}
	obj.Object = changed
	return []string{o.origin}, nil
}

// selector is a ResourceSelector, read and checked.
type selector struct {
	kind            schema.GroupKind
	namespace, name string
	labels          labels.Selector
}

func readSelectors(origin string, in []api.ResourceSelector) ([]selector, error) {
	var out []selector
	var all []error
	for i, s := range in {
		at := fmt.Sprintf("%s[%d]", origin, i)
		gv, err := schema.ParseGroupVersion(s.APIVersion)
		if err != nil || s.APIVersion == "" || s.Kind == "" {
			all = append(all, fmt.Errorf("%s: apiVersion %q and kind %q do not name a kind", at, s.APIVersion, s.Kind))
		}
		parsed := selector{kind: schema.GroupKind{Group: gv.Group, Kind: s.Kind}, namespace: s.Namespace, name: s.Name, labels: labels.Everything()}
		if s.LabelSelector != nil && s.Name == "" {
			if parsed.labels, err = metav1.LabelSelectorAsSelector(s.LabelSelector); err != nil {
				all = append(all, fmt.Errorf("%s.labelSelector: %w", at, err))
			}
		}
		out = append(out, parsed)
	}
	return out, errors.Join(all...)
}

// matchesAny looks at the object under its name in the source.
func matchesAny(selectors []selector, obj *unstructured.Unstructured, from Ref) bool {
	for _, s := range selectors {
		if s.kind == from.GroupKind() && (s.namespace == "" || s.namespace == from.Namespace) &&
			(s.name == "" || s.name == from.Name) && s.labels.Matches(labels.Set(obj.GetLabels())) {
			return true
		}
	}
	return false
}

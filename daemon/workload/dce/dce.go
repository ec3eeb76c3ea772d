// Package dce reads the ConfigMaps that steer DaoCloud's migration plugin for
// Velero, and applies their rules to objects.
//
// Its words are the plugin's: a selector says which objects the rules look at, a
// converter changes an API version, an operation adds, removes and replaces labels
// or annotations. A rule set never leaves an object out for not being selected: it
// only does not look at it. The one exception is skipRestoreKinds.
package dce

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// Where the ConfigMaps are found.
const (
	// Namespace is where the documentation of the plugin puts them.
	Namespace = "velero"
	// LabelPlugin marks the ConfigMap with the rules.
	LabelPlugin = "velero.io/velero-plugin-for-migration"
	// LabelImages marks the ConfigMap with the images.
	LabelImages = "velero.io/change-image-name"
	// LabelValue is the value of both.
	LabelValue = "RestoreItemAction"
)

// wire is the document as users write it.
type wire struct {
	Selector   wireSelector      `json:"resourcesSelector"`
	Converter  []json.RawMessage `json:"resourcesConverter"`
	Operations []wireOperation   `json:"resourcesOperation"`
}

type wireSelector struct {
	IncludedNamespaces []string `json:"includedNamespaces"`
	ExcludedNamespaces []string `json:"excludedNamespaces"`
	IncludedResources  []string `json:"includedResources"`
	ExcludedResources  []string `json:"excludedResources"`
	SkipRestoreKinds   []string `json:"skipRestoreKinds"`
	LabelSelector      string   `json:"labelSelector"`
}

type wireConverter struct {
	Enabled    *bool  `json:"enabled"`
	APIVersion string `json:"apiVersion"`
}

type wireOperation struct {
	Kinds     []string    `json:"kinds"`
	Domain    string      `json:"domain"`
	Scope     string      `json:"scope"`
	Operation wireChanges `json:"operation"`
}

type wireChanges struct {
	Add     map[string]*string  `json:"add"`
	Remove  map[string]*string  `json:"remove"`
	Replace map[string][]string `json:"replace"`
}

// Rules is one such ConfigMap, read and checked.
type Rules struct {
	origin     string
	selector   selector
	converters []Converter
	operations []operation
}

type selector struct {
	wireSelector
	labels labels.Selector
}

// Converter asks for another API version of a kind.
type Converter struct {
	Origin string
	Kind   string
	To     schema.GroupVersion
}

// Parse reads the one data key of the ConfigMap: JSON, or YAML. Every problem is
// named by ConfigMap, key and position.
func Parse(cm *unstructured.Unstructured) (*Rules, error) {
	where := "ConfigMap " + cm.GetNamespace() + "/" + cm.GetName()
	data, _, err := unstructured.NestedStringMap(cm.Object, "data")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if len(data) != 1 {
		return nil, fmt.Errorf("%s has %d data keys: put the rules into exactly one", where, len(data))
	}
	for key, text := range data {
		return ParseText(where+" key "+key, text)
	}
	return nil, nil
}

// ParseText reads the rules; origin begins every message about them.
func ParseText(origin, text string) (*Rules, error) {
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", origin, err)
	}
	var in wire
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return nil, fmt.Errorf("%s: %w", origin, located(err, text))
	}
	out := &Rules{origin: origin, selector: selector{wireSelector: in.Selector, labels: labels.Everything()}}
	var all []error
	problem := func(format string, args ...any) {
		all = append(all, fmt.Errorf("%s: "+format, append([]any{origin}, args...)...))
	}
	if in.Selector.LabelSelector != "" {
		if out.selector.labels, err = parseSelector(in.Selector.LabelSelector); err != nil {
			problem("resourcesSelector.labelSelector: %w", err)
		}
	}
	for i, raw := range in.Converter {
		converters, err := parseConverter(raw)
		if err != nil {
			problem("resourcesConverter[%d]%w", i, err)
		}
		for _, c := range converters {
			c.Origin = fmt.Sprintf("%s resourcesConverter[%d].%s", origin, i, c.Kind)
			out.converters = append(out.converters, c)
		}
	}
	for i, o := range in.Operations {
		parsed, errs := parseOperation(o)
		for _, err := range errs {
			problem("resourcesOperation[%d]%w", i, err)
		}
		parsed.origin = fmt.Sprintf("%s resourcesOperation[%d]", origin, i)
		out.operations = append(out.operations, parsed)
	}
	return out, errors.Join(all...)
}

// located turns an offset into a line where the decoder gives one.
func located(err error, text string) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%s: want %s, found %s", kind.Field, kind.Type, kind.Value)
	}
	message := strings.TrimPrefix(err.Error(), "json: ")
	if _, field, found := strings.Cut(message, `unknown field "`); found {
		name := strings.TrimSuffix(field, `"`)
		if at := strings.Index(text, name); at >= 0 {
			return fmt.Errorf("unknown field %q at line %d, column %d", name, 1+strings.Count(text[:at], "\n"), at-strings.LastIndex(text[:at], "\n"))
		}
	}
	return errors.New(message)
}

// parseSelector takes app:dao-2048 as the plugin does, and app=dao-2048 as
// Kubernetes does.
func parseSelector(s string) (labels.Selector, error) {
	if !strings.Contains(s, ":") {
		return labels.Parse(s)
	}
	set := labels.Set{}
	for _, pair := range strings.Split(s, ",") {
		key, value, found := strings.Cut(pair, ":")
		if !found {
			return labels.Everything(), fmt.Errorf("%q is not key:value", pair)
		}
		set[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	selector, err := labels.ValidatedSelectorFromSet(set)
	if err != nil {
		return labels.Everything(), err
	}
	return selector, nil
}

func parseConverter(raw []byte) ([]Converter, error) {
	var kinds map[string]wireConverter
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&kinds); err != nil {
		return nil, fmt.Errorf(": %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	var out []Converter
	for kind, c := range kinds {
		if c.Enabled != nil && !*c.Enabled {
			continue
		}
		gv, err := schema.ParseGroupVersion(c.APIVersion)
		if err != nil || c.APIVersion == "" {
			return nil, fmt.Errorf(".%s.apiVersion: %q is no API version, such as networking.k8s.io/v1", kind, c.APIVersion)
		}
		out = append(out, Converter{Kind: kind, To: gv})
	}
	slices.SortFunc(out, func(a, b Converter) int { return strings.Compare(a.Kind, b.Kind) })
	return out, nil
}

// Looks tells whether the rules look at the object; namespace is the source's.
func (r *Rules) Looks(obj *unstructured.Unstructured, namespace string) bool {
	gk := obj.GroupVersionKind().GroupKind()
	s := r.selector
	listed := func(names []string) bool {
		return slices.Contains(names, namespace) || slices.Contains(names, "*")
	}
	switch {
	case len(s.IncludedNamespaces) > 0 && !listed(s.IncludedNamespaces),
		listed(s.ExcludedNamespaces),
		len(s.IncludedResources) > 0 && !shape.NamedAny(gk, s.IncludedResources),
		shape.NamedAny(gk, s.ExcludedResources):
		return false
	}
	return s.labels.Matches(labels.Set(obj.GetLabels()))
}

// Skips tells whether the object is not to be restored, and by what.
func (r *Rules) Skips(obj *unstructured.Unstructured, namespace string) (string, bool) {
	if len(r.selector.SkipRestoreKinds) == 0 || !r.Looks(obj, namespace) {
		return "", false
	}
	return r.origin + " resourcesSelector.skipRestoreKinds", shape.NamedAny(obj.GroupVersionKind().GroupKind(), r.selector.SkipRestoreKinds)
}

// Converts returns the API version that the rules want for the object.
func (r *Rules) Converts(obj *unstructured.Unstructured, namespace string) (Converter, bool) {
	if !r.Looks(obj, namespace) {
		return Converter{}, false
	}
	for _, c := range r.converters {
		if shape.Named(obj.GroupVersionKind().GroupKind(), c.Kind) {
			return c, true
		}
	}
	return Converter{}, false
}

// Edit applies the operations and returns which ones changed the object.
func (r *Rules) Edit(obj *unstructured.Unstructured, namespace string) []string {
	if !r.Looks(obj, namespace) {
		return nil
	}
	var edited []string
	for _, o := range r.operations {
		if shape.NamedAny(obj.GroupVersionKind().GroupKind(), o.kinds) && o.apply(obj) {
			edited = append(edited, o.origin)
		}
	}
	return edited
}

// Warnings names rules that can never do anything.
func (r *Rules) Warnings() []string {
	var out []string
	for _, kind := range r.selector.SkipRestoreKinds {
		if len(r.selector.IncludedResources) > 0 && !slices.ContainsFunc(r.selector.IncludedResources, func(resource string) bool {
			return sameResource(kind, resource)
		}) {
			out = append(out, fmt.Sprintf("%s: resourcesSelector.skipRestoreKinds: %s is not in includedResources, so it is not skipped", r.origin, kind))
		}
	}
	return out
}

func sameResource(kind, resource string) bool {
	return shape.Named(schema.GroupKind{Kind: kind}, strings.ToLower(resource)) || strings.EqualFold(kind, resource)
}

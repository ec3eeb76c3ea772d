// Package modifier reads Velero's resource modifier rules and applies them to
// objects.
//
// Its words are Velero's: a rule has conditions and either patches (JSON patch),
// mergePatches or strategicPatches. The namespaces of a condition are the
// source's, and a failing test operation means that the rule is not for this
// object.
package modifier

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/godwit-io/godwit/daemon/workload/patch"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

type wire struct {
	Version string     `json:"version"`
	Rules   []wireRule `json:"resourceModifierRules"`
}

type wireRule struct {
	Conditions       wireConditions  `json:"conditions"`
	Patches          []wirePatch     `json:"patches"`
	MergePatches     []wirePatchData `json:"mergePatches"`
	StrategicPatches []wirePatchData `json:"strategicPatches"`
}

type wireConditions struct {
	Namespaces        []string              `json:"namespaces"`
	GroupResource     string                `json:"groupResource"`
	ResourceNameRegex string                `json:"resourceNameRegex"`
	LabelSelector     *metav1.LabelSelector `json:"labelSelector"`
	Matches           []wireMatch           `json:"matches"`
}

type wireMatch struct {
	Path  string `json:"path"`
	Value string `json:"value"`
}

type wirePatch struct {
	Operation string `json:"operation"`
	From      string `json:"from"`
	Path      string `json:"path"`
	Value     string `json:"value"`
}

type wirePatchData struct {
	PatchData string `json:"patchData"`
}

// Rules is one set of rules, read and checked.
type Rules struct {
	rules []rule
}

type rule struct {
	origin     string
	namespaces []string
	resource   string
	name       *regexp.Regexp
	labels     labels.Selector
	matches    []patch.Operation
	patches    patch.Operations
	merges     []map[string]any
	strategic  [][]byte
}

// Parse reads rules; origin, such as the ConfigMap and its key, begins every
// message about them.
func Parse(origin, text string) (*Rules, error) {
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", origin, err)
	}
	var in wire
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return nil, fmt.Errorf("%s: %s", origin, strings.TrimPrefix(err.Error(), "json: "))
	}
	if in.Version != "v1" {
		return nil, fmt.Errorf("%s: version: %q is unknown: use v1", origin, in.Version)
	}
	out := &Rules{}
	var all []error
	for i, w := range in.Rules {
		parsed, errs := parseRule(w)
		parsed.origin = fmt.Sprintf("%s resourceModifierRules[%d]", origin, i)
		for _, err := range errs {
			all = append(all, fmt.Errorf("%s: resourceModifierRules[%d].%w", origin, i, err))
		}
		out.rules = append(out.rules, parsed)
	}
	return out, errors.Join(all...)
}

func parseRule(in wireRule) (rule, []error) {
	out := rule{}
	all := append(out.readConditions(in.Conditions), out.readPatches(in)...)
	return out, all
}

func (r *rule) readConditions(in wireConditions) []error {
	var all []error
	problem := func(format string, args ...any) { all = append(all, fmt.Errorf("conditions."+format, args...)) }
	r.namespaces, r.resource, r.labels = in.Namespaces, in.GroupResource, labels.Everything()
	if r.resource == "" {
		problem("groupResource is empty: name a resource, such as deployments.apps")
	}
	var err error
	if r.name, err = regexp.Compile(in.ResourceNameRegex); err != nil {
		problem("resourceNameRegex: %w", err)
	}
	if in.LabelSelector != nil {
		if r.labels, err = metav1.LabelSelectorAsSelector(in.LabelSelector); err != nil {
			problem("labelSelector: %w", err)
		}
	}
	for i, m := range in.Matches {
		test, err := parsePatch(wirePatch{Operation: "test", Path: m.Path, Value: m.Value})
		if err != nil {
			problem("matches[%d]: %w", i, err)
		}
		r.matches = append(r.matches, test)
	}
	return all
}

func (r *rule) readPatches(in wireRule) []error {
	var all []error
	problem := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	sorts := 0
	for _, n := range []int{len(in.Patches), len(in.MergePatches), len(in.StrategicPatches)} {
		sorts += min(n, 1)
	}
	if sorts != 1 {
		problem("patches: the rule has %d sorts of patches: use exactly one of patches, mergePatches and strategicPatches", sorts)
	}
	for i, p := range in.Patches {
		operation, err := parsePatch(p)
		if err != nil {
			problem("patches[%d]: %w", i, err)
		}
		r.patches = append(r.patches, operation)
	}
	for i, m := range in.MergePatches {
		merge, err := parseData(m.PatchData)
		if err != nil {
			problem("mergePatches[%d].patchData: %w", i, err)
		}
		r.merges = append(r.merges, merge)
	}
	for i, m := range in.StrategicPatches {
		_, err := parseData(m.PatchData)
		if err != nil {
			problem("strategicPatches[%d].patchData: %w", i, err)
			continue
		}
		asJSON, err := yaml.YAMLToJSON([]byte(m.PatchData))
		if err != nil {
			problem("strategicPatches[%d].patchData: %w", i, err)
		}
		r.strategic = append(r.strategic, asJSON)
	}
	return all
}

func parseData(text string) (map[string]any, error) {
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, err
	}
	return patch.ParseMerge(asJSON)
}

// parsePatch reads the value as Velero does: text is taken for a string unless it
// can only be something else.
func parsePatch(in wirePatch) (patch.Operation, error) {
	line := map[string]any{"op": in.Operation, "path": in.Path}
	if in.From != "" {
		line["from"] = in.From
	}
	switch in.Operation {
	case "add", "replace", "test":
		line["value"] = in.Value
		if literal(in.Value) {
			line["value"] = json.RawMessage(in.Value)
		}
	}
	whole, err := json.Marshal([]any{line})
	if err != nil {
		return patch.Operation{}, fmt.Errorf("value: %w", err)
	}
	operations, err := patch.Parse(whole)
	if err != nil || len(operations) != 1 {
		return patch.Operation{}, err
	}
	return operations[0], nil
}

func literal(value string) bool {
	switch value {
	case "null", "true", "false":
		return true
	case "":
		return false
	}
	if strings.ContainsAny(value[:1], `{["`) {
		return true
	}
	_, err := strconv.ParseFloat(value, 64)
	return err == nil && json.Valid([]byte(value))
}

// Edit applies the rules that are for the object and returns which ones changed
// it; namespace is the source's.
func (r *Rules) Edit(obj *unstructured.Unstructured, namespace string) ([]string, error) {
	var edited []string
	for i := range r.rules {
		rule := &r.rules[i]
		if !rule.isFor(obj, namespace) {
			continue
		}
		changed, err := rule.apply(obj)
		if errors.Is(err, patch.ErrTest) {
			continue
		}
		if err != nil {
			return edited, fmt.Errorf("%s: %w", rule.origin, err)
		}
		if !reflect.DeepEqual(changed, obj.Object) {
			edited = append(edited, rule.origin)
		}
		obj.Object = changed
	}
	return edited, nil
}

func (r *rule) isFor(obj *unstructured.Unstructured, namespace string) bool {
	if !shape.Named(obj.GroupVersionKind().GroupKind(), r.resource) ||
		!r.name.MatchString(obj.GetName()) ||
		!r.labels.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	if len(r.namespaces) > 0 && !slices.Contains(r.namespaces, namespace) && !slices.Contains(r.namespaces, "*") {
		return false
	}
	_, err := patch.Operations(r.matches).Apply(obj.Object)
	return err == nil
}

func (r *rule) apply(obj *unstructured.Unstructured) (map[string]any, error) {
	object, err := r.patches.Apply(obj.Object)
	if err != nil {
		return nil, err
	}
	for _, merge := range r.merges {
		object = patch.Merge(object, merge)
	}
	for i, data := range r.strategic {
		if object, err = strategic(obj, object, data); err != nil {
			return nil, fmt.Errorf("strategicPatches[%d]: %w", i, err)
		}
	}
	return object, nil
}

func strategic(obj *unstructured.Unstructured, object map[string]any, data []byte) (map[string]any, error) {
	typed, err := scheme.Scheme.New(obj.GroupVersionKind())
	if err != nil {
		return nil, fmt.Errorf("%s is no kind that a strategic merge patch knows: use mergePatches or patches", obj.GroupVersionKind())
	}
	before, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	after, err := strategicpatch.StrategicMergePatch(before, data, typed)
	if err != nil {
		return nil, err
	}
	return patch.ParseMerge(after)
}

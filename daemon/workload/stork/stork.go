// Package stork reads ResourceTransformations and applies them to objects.
//
// Its words are stork's: a spec names a kind and labels, a path one change with
// its operation and the type of its value. Where stork stops, this goes on:
// every kind is changed, paths may have list indices, and jsonpatch is served.
package stork

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload/patch"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// Transformation is one ResourceTransformation, read and checked.
type Transformation struct {
	// Name is namespace/name.
	Name  string
	specs []spec
}

type spec struct {
	kind     schema.GroupKind
	version  string
	selector labels.Selector
	changes  []change
}

type change struct {
	origin    string
	path      shape.Path
	operation string
	value     any
	patch     patch.Operations
}

// Parse checks the whole of a ResourceTransformation. Every problem is named by
// its position in the object.
func Parse(name string, in api.ResourceTransformationSpec) (*Transformation, error) {
	out := &Transformation{Name: name}
	var all []error
	if len(in.TransformSpecs) == 0 {
		all = append(all, fmt.Errorf("ResourceTransformation %s: specs.transformSpecs is empty: add a rule, or leave the transformation out", name))
	}
	for i, s := range in.TransformSpecs {
		at := fmt.Sprintf("specs.transformSpecs[%d]", i)
		parsed, errs := parseSpec(at, s)
		for _, err := range errs {
			all = append(all, fmt.Errorf("ResourceTransformation %s: %w", name, err))
		}
		out.specs = append(out.specs, parsed)
	}
	return out, errors.Join(all...)
}

func parseSpec(at string, in api.TransformSpec) (spec, []error) {
	var out spec
	var all []error
	parts := strings.Split(in.Resource, "/")
	if len(parts) != 3 || parts[1] == "" || parts[2] == "" {
		all = append(all, fmt.Errorf("%s.resource: %q is not group/version/kind, such as apps/v1/Deployment or /v1/Service", at, in.Resource))
	} else {
		group := parts[0]
		if group == "core" {
			group = ""
		}
		out.kind, out.version = schema.GroupKind{Group: group, Kind: parts[2]}, parts[1]
	}
	selector, err := labels.ValidatedSelectorFromSet(in.Selectors)
	if err != nil {
		all = append(all, fmt.Errorf("%s.selectors: %w", at, err))
	}
	out.selector = selector
	if len(in.Paths) == 0 {
		all = append(all, fmt.Errorf("%s.paths is empty: name a change", at))
	}
	for i, p := range in.Paths {
		parsed, err := parsePath(p)
		parsed.origin = fmt.Sprintf("%s.paths[%d]", at, i)
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", parsed.origin, err))
		}
		out.changes = append(out.changes, parsed)
	}
	return out, all
}

func parsePath(in api.TransformPath) (change, error) {
	out := change{operation: in.Operation}
	var err error
	if in.Operation == "jsonpatch" {
		if in.Path != "" {
			return out, errors.New("path: jsonpatch names its paths in value: leave path out")
		}
		if out.patch, err = patch.Parse([]byte(in.Value)); err != nil {
			return out, fmt.Errorf("value: %w", err)
		}
		return out, nil
	}
	if out.path, err = shape.ParsePath(in.Path); err != nil {
		return out, fmt.Errorf("path: %w", err)
	}
	switch in.Operation {
	case "add", "modify":
		if out.value, err = parseValue(in.Type, in.Value); err != nil {
			return out, fmt.Errorf("value: %w", err)
		}
	case "delete":
	default:
		return out, fmt.Errorf("operation: %q is unknown: use add, modify, delete or jsonpatch", in.Operation)
	}
	return out, nil
}

func parseValue(kind, value string) (any, error) {
	switch kind {
	case "string", "":
		return value, nil
	case "int":
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no whole number", value)
		}
		return n, nil
	case "bool":
		b, err := strconv.ParseBool(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", value)
		}
		return b, nil
	case "slice":
		var items []any
		for _, item := range strings.Split(value, ",") {
			items = append(items, strings.TrimSpace(item))
		}
		return items, nil
	case "keypair":
		return parsePairs(value)
	}
	return nil, fmt.Errorf("type %q is unknown: use int, string, bool, slice or keypair", kind)
}

func parsePairs(value string) (any, error) {
	pairs := make(map[string]any)
	for i, pair := range strings.Split(value, ",") {
		key, text, found := strings.Cut(pair, ":")
		key = strings.TrimSpace(key)
		if !found || key == "" {
			return nil, fmt.Errorf("pair %d (%q) is not key:value", i+1, pair)
		}
		if _, twice := pairs[key]; twice {
			return nil, fmt.Errorf("key %q comes twice", key)
		}
		pairs[key] = strings.TrimSpace(text)
	}
	return pairs, nil
}

// Edit changes the object where a spec names it and returns what did: the name
// of the transformation with the position of the path.
func (t *Transformation) Edit(obj *unstructured.Unstructured) ([]string, error) {
	var edited []string
	for i := range t.specs {
		s := &t.specs[i]
		if obj.GroupVersionKind().GroupKind() != s.kind || !s.selector.Matches(labels.Set(obj.GetLabels())) {
			continue
		}
		for _, c := range s.changes {
			origin := "ResourceTransformation " + t.Name + " " + c.origin
			if err := c.apply(obj); err != nil {
				return edited, fmt.Errorf("%s: %w", origin, err)
			}
			edited = append(edited, origin)
		}
	}
	return edited, nil
}

func (c change) apply(obj *unstructured.Unstructured) error {
	switch c.operation {
	case "jsonpatch":
		changed, err := c.patch.Apply(obj.Object)
		if err != nil {
			return err
		}
		obj.Object = changed
		return nil
	case "delete":
		c.path.Delete(obj.Object)
		return nil
	case "add":
		return c.path.Set(obj.Object, copied(c.value))
	}
	return c.modify(obj.Object)
}

// modify merges maps, appends to lists and sets anything else, as stork does.
func (c change) modify(in map[string]any) error {
	there, found := c.path.Get(in)
	switch value := c.value.(type) {
	case map[string]any:
		fields, ok := there.(map[string]any)
		if !found || !ok {
			return fmt.Errorf("%s is no map in this object: use add to make it", c.path)
		}
		for key, v := range value {
			fields[key] = v
		}
		return nil
	case []any:
		items, ok := there.([]any)
		if found && !ok {
			return fmt.Errorf("%s is no list in this object: use add to replace it", c.path)
		}
		return c.path.Set(in, append(append([]any{}, items...), value...))
	}
	return c.path.Set(in, c.value)
}

func copied(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(value))
		for k, v := range value {
			out[k] = v
		}
		return out
	case []any:
		return append([]any{}, value...)
	}
	return value
}

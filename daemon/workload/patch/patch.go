// Package patch changes unstructured objects by JSON patches (RFC 6902) and JSON
// merge patches (RFC 7386).
//
// Its words: an Operation is one line of a JSON patch. Parsing finds everything
// that is wrong with a patch by itself, and names its position; applying finds
// what is wrong with it for one object. It never changes an object half: on an
// error the object is as it was.
package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// ErrTest says that a test operation did not hold.
var ErrTest = errors.New("the value is not as tested")

// Operation is one change.
type Operation struct {
	Op    string
	Path  string
	From  string
	Value any
}

// Operations is a JSON patch.
type Operations []Operation

// Parse reads a JSON patch.
func Parse(data []byte) (Operations, error) {
	var lines []json.RawMessage
	if err := json.Unmarshal(data, &lines); err != nil {
		return nil, fmt.Errorf("a JSON patch is a list of operations: %w", err)
	}
	var all []error
	out := make(Operations, 0, len(lines))
	for i, line := range lines {
		operation, err := parseOne(line)
		if err != nil {
			all = append(all, fmt.Errorf("operation %d: %w", i, err))
		}
		out = append(out, operation)
	}
	return out, errors.Join(all...)
}

func parseOne(line []byte) (Operation, error) {
	var out Operation
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		return out, err
	}
	for name, raw := range members {
		var err error
		switch name {
		case "op":
			err = json.Unmarshal(raw, &out.Op)
		case "path":
			err = json.Unmarshal(raw, &out.Path)
		case "from":
			err = json.Unmarshal(raw, &out.From)
		case "value":
			err = decode(raw, &out.Value)
		default:
			err = errors.New("the member is unknown: use op, path, from and value")
		}
		if err != nil {
			return out, fmt.Errorf("%s: %w", name, err)
		}
	}
	if members["path"] == nil {
		return out, errors.New("path is missing")
	}
	// A value of null is a value.
	return out, out.check(members["value"] != nil, members["from"] != nil)
}

func (o Operation) check(hasValue, hasFrom bool) error {
	switch o.Op {
	case "add", "replace", "test":
		if !hasValue {
			return fmt.Errorf("%s needs a value", o.Op)
		}
	case "move", "copy":
		if !hasFrom {
			return fmt.Errorf("%s needs from", o.Op)
		}
		if _, err := pointer(o.From); err != nil {
			return err
		}
	case "remove":
	default:
		return fmt.Errorf("operation %q is unknown: use add, remove, replace, move, copy or test", o.Op)
	}
	_, err := pointer(o.Path)
	return err
}

// decode gives the numbers that unstructured objects hold.
func decode(data []byte, into *any) error {
	whole, err := json.Marshal(map[string]json.RawMessage{"value": data})
	if err != nil {
		return err
	}
	var fields map[string]any
	if err := unmarshal(whole, &fields); err != nil {
		return err
	}
	*into = fields["value"]
	return nil
}

func pointer(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	if !strings.HasPrefix(s, "/") {
		return nil, fmt.Errorf("path %q does not begin with /", s)
	}
	tokens := strings.Split(s[1:], "/")
	for i := range tokens {
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(tokens[i], "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

// Apply returns the object as the patch makes it; the argument stays as it is.
func (o Operations) Apply(object map[string]any) (map[string]any, error) {
	var at any = runtime.DeepCopyJSON(object)
	for i, operation := range o {
		next, err := operation.apply(at)
		if err != nil {
			return nil, fmt.Errorf("operation %d (%s %s): %w", i, operation.Op, operation.Path, err)
		}
		at = next
	}
	out, ok := at.(map[string]any)
	if !ok {
		return nil, errors.New("the patch leaves no object")
	}
	return out, nil
}

func (o Operation) apply(in any) (any, error) {
	path, err := pointer(o.Path)
	if err != nil {
		return nil, err
	}
	switch o.Op {
	case "add":
		return add(in, path, runtime.DeepCopyJSONValue(o.Value))
	case "remove":
		return remove(in, path)
	case "replace":
		if _, err := find(in, path); err != nil {
			return nil, err
		}
		return replace(in, path, runtime.DeepCopyJSONValue(o.Value))
	case "test":
		value, err := find(in, path)
		if err != nil || !reflect.DeepEqual(value, o.Value) {
			return nil, ErrTest
		}
		return in, nil
	}
	from, err := pointer(o.From)
	if err != nil {
		return nil, err
	}
	value, err := find(in, from)
	if err != nil {
		return nil, fmt.Errorf("from %s: %w", o.From, err)
	}
	value = runtime.DeepCopyJSONValue(value)
	if o.Op == "move" {
		if in, err = remove(in, from); err != nil {
			return nil, err
		}
	}
	return add(in, path, value)
}

func find(in any, path []string) (any, error) {
	for i, name := range path {
		switch at := in.(type) {
		case map[string]any:
			value, ok := at[name]
			if !ok {
				return nil, missing(path[:i+1])
			}
			in = value
		case []any:
			index, err := indexOf(name, len(at)-1)
			if err != nil {
				return nil, err
			}
			in = at[index]
		default:
			return nil, missing(path[:i+1])
		}
	}
	return in, nil
}

func missing(path []string) error {
	return fmt.Errorf("the object has no /%s", strings.Join(path, "/"))
}

func indexOf(name string, last int) (int, error) {
	index, err := strconv.Atoi(name)
	if err != nil || index < 0 || name != strconv.Itoa(index) {
		return 0, fmt.Errorf("%q is no index into a list", name)
	}
	if index > last {
		return 0, fmt.Errorf("index %d is past the end of the list", index)
	}
	return index, nil
}

// change walks to the parent of the path and lets it be changed there.
func change(in any, path []string, leaf func(parent any, name string) (any, error)) (any, error) {
	if len(path) == 1 {
		return leaf(in, path[0])
	}
	inner, err := find(in, path[:1])
	if err != nil {
		return nil, err
	}
	if inner, err = change(inner, path[1:], leaf); err != nil {
		return nil, err
	}
	return replace(in, path[:1], inner)
}

func replace(in any, path []string, value any) (any, error) {
	if len(path) == 0 {
		return value, nil
	}
	return change(in, path, func(parent any, name string) (any, error) {
		switch parent := parent.(type) {
		case map[string]any:
			parent[name] = value
			return parent, nil
		case []any:
			index, err := indexOf(name, len(parent)-1)
			if err != nil {
				return nil, err
			}
			parent[index] = value
			return parent, nil
		}
		return nil, missing(path)
	})
}

func add(in any, path []string, value any) (any, error) {
	if len(path) == 0 {
		return value, nil
	}
	return change(in, path, func(parent any, name string) (any, error) {
		switch parent := parent.(type) {
		case map[string]any:
			parent[name] = value
			return parent, nil
		case []any:
			if name == "-" {
				return append(parent, value), nil
			}
			index, err := indexOf(name, len(parent))
			if err != nil {
				return nil, err
			}
			longer := append(append(append([]any{}, parent[:index]...), value), parent[index:]...)
			return longer, nil
		}
		return nil, missing(path)
	})
}

func remove(in any, path []string) (any, error) {
	if len(path) == 0 {
		return nil, errors.New("the whole object cannot be removed")
	}
	return change(in, path, func(parent any, name string) (any, error) {
		switch parent := parent.(type) {
		case map[string]any:
			if _, ok := parent[name]; !ok {
				return nil, missing(path)
			}
			delete(parent, name)
			return parent, nil
		case []any:
			index, err := indexOf(name, len(parent)-1)
			if err != nil {
				return nil, err
			}
			return append(append([]any{}, parent[:index]...), parent[index+1:]...), nil
		}
		return nil, missing(path)
	})
}

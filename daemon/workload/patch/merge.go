package patch

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

func unmarshal(data []byte, into *map[string]any) error { return utiljson.Unmarshal(data, into) }

// ParseMerge reads a JSON merge patch.
func ParseMerge(data []byte) (map[string]any, error) {
	var out map[string]any
	if err := unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("a merge patch is a map: %w", err)
	}
	return out, nil
}

// Merge returns the object as the merge patch makes it; the argument stays as it
// is. A null removes.
func Merge(object, merge map[string]any) map[string]any {
	out := runtime.DeepCopyJSON(object)
	if out == nil {
		out = make(map[string]any)
	}
	for name, value := range merge {
		if value == nil {
			delete(out, name)
			continue
		}
		inner, isMap := value.(map[string]any)
		if !isMap {
			out[name] = runtime.DeepCopyJSONValue(value)
			continue
		}
		there, _ := out[name].(map[string]any)
		out[name] = Merge(there, inner)
	}
	return out
}

package workload

// child returns the map at the path, or nil. It is the map itself, not a copy.
func child(in map[string]any, path ...string) map[string]any {
	for _, name := range path {
		next, ok := in[name].(map[string]any)
		if !ok {
			return nil
		}
		in = next
	}
	return in
}

// text returns the string at the path, or "".
func text(in map[string]any, path ...string) string {
	last := len(path) - 1
	s, ok := child(in, path[:last]...)[path[last]].(string)
	if !ok {
		return ""
	}
	return s
}

// list returns those items at the path that are maps; they are no copies.
func list(in map[string]any, path ...string) []map[string]any {
	last := len(path) - 1
	items, ok := child(in, path[:last]...)[path[last]].([]any)
	if !ok {
		return nil
	}
	var out []map[string]any
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// filter keeps the items at the path that are wanted, and drops the list when
// none is left.
func filter(in map[string]any, name string, wanted func(map[string]any) bool) {
	items, ok := in[name].([]any)
	if !ok {
		return
	}
	kept := make([]any, 0, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); !ok || wanted(m) {
			kept = append(kept, item)
		}
	}
	if len(kept) == 0 {
		delete(in, name)
		return
	}
	in[name] = kept
}

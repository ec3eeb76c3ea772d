package shape

import (
	"fmt"
	"strconv"
	"strings"
)

// Path leads from an object to a value in it.
type Path []Step

// Step is a name in a map, or an index into a list.
type Step struct {
	Name  string
	Index int
	// IsIndex tells the two apart.
	IsIndex bool
}

// ParsePath reads names between dots, indices in brackets, and, in brackets with
// quotes or after a backslash, names with dots: spec.containers[0].image,
// metadata.labels['app.kubernetes.io/name'], metadata.labels.a\.b.
func ParsePath(s string) (Path, error) {
	if s == "" {
		return nil, fmt.Errorf("the path is empty")
	}
	r := pathReader{text: s, pending: true}
	for i := 0; i < len(s); i++ {
		length, err := r.read(i)
		if err != nil {
			return nil, err
		}
		i += length - 1
	}
	if err := r.flush(len(s)); err != nil {
		return nil, err
	}
	return r.path, nil
}

// pathReader goes through a path from left to right.
type pathReader struct {
	text string
	path Path
	name strings.Builder
	// pending says that a name must come: at the start and after a dot.
	pending bool
}

// read takes what is at i and tells how much that was.
func (r *pathReader) read(i int) (int, error) {
	switch c := r.text[i]; {
	case c == '\\' && i+1 < len(r.text):
		r.name.WriteByte(r.text[i+1])
		return 2, nil
	case c == '.':
		err := r.flush(i)
		r.pending = true
		return 1, err
	case c == '[':
		if r.name.Len() > 0 || !r.pending || len(r.path) > 0 {
			if err := r.flush(i); err != nil {
				return 0, err
			}
		}
		step, length, err := bracket(r.text[i:])
		if err != nil {
			return 0, fmt.Errorf("path %q: position %d: %w", r.text, i+1, err)
		}
		r.path, r.pending = append(r.path, step), false
		return length, nil
	default:
		r.name.WriteByte(c)
		return 1, nil
	}
}

// flush ends a name.
func (r *pathReader) flush(at int) error {
	if r.name.Len() == 0 {
		if r.pending {
			return fmt.Errorf("path %q: a name is missing at position %d", r.text, at+1)
		}
		return nil
	}
	r.path = append(r.path, Step{Name: r.name.String()})
	r.name.Reset()
	r.pending = false
	return nil
}

// bracket reads what begins with [ and tells how long it is.
func bracket(s string) (Step, int, error) {
	if len(s) > 1 && (s[1] == '\'' || s[1] == '"') {
		end := strings.Index(s[2:], string(s[1])+"]")
		if end < 0 {
			return Step{}, 0, fmt.Errorf("the bracket is not closed")
		}
		return Step{Name: s[2 : 2+end]}, end + 4, nil
	}
	inside, _, closed := strings.Cut(s[1:], "]")
	if !closed {
		return Step{}, 0, fmt.Errorf("the bracket is not closed")
	}
	index, err := strconv.Atoi(inside)
	if err != nil || index < 0 {
		return Step{}, 0, fmt.Errorf("%q is no index into a list: write a number, or a name in quotes", inside)
	}
	return Step{Index: index, IsIndex: true}, len(inside) + 2, nil
}

// String reads as ParsePath would take it.
func (p Path) String() string {
	var out strings.Builder
	for i, step := range p {
		switch {
		case step.IsIndex:
			fmt.Fprintf(&out, "[%d]", step.Index)
		case strings.ContainsAny(step.Name, ".[]"):
			fmt.Fprintf(&out, "['%s']", step.Name)
		default:
			if i > 0 {
				out.WriteByte('.')
			}
			out.WriteString(step.Name)
		}
	}
	return out.String()
}

// Get returns the value at the path, and whether there is one.
func (p Path) Get(in map[string]any) (any, bool) {
	var at any = in
	for _, step := range p {
		next, ok := step.get(at)
		if !ok {
			return nil, false
		}
		at = next
	}
	return at, true
}

func (s Step) get(in any) (any, bool) {
	switch in := in.(type) {
	case map[string]any:
		if s.IsIndex {
			return nil, false
		}
		value, ok := in[s.Name]
		return value, ok
	case []any:
		if !s.IsIndex || s.Index >= len(in) {
			return nil, false
		}
		return in[s.Index], true
	}
	return nil, false
}

// Set puts the value at the path. Maps on the way are made; list items are not,
// but for one past the end.
func (p Path) Set(in map[string]any, value any) error {
	_, err := p.set(in, value, 0)
	return err
}

func (p Path) set(in any, value any, depth int) (any, error) {
	if depth == len(p) {
		return value, nil
	}
	step := p[depth]
	if step.IsIndex {
		items, ok := in.([]any)
		if !ok && in != nil {
			return nil, fmt.Errorf("%s is no list", p[:depth])
		}
		if step.Index > len(items) {
			return nil, fmt.Errorf("%s has %d items, so there is no index %d", p[:depth], len(items), step.Index)
		}
		if step.Index == len(items) {
			items = append(items, nil)
		}
		next, err := p.set(items[step.Index], value, depth+1)
		if err != nil {
			return nil, err
		}
		items[step.Index] = next
		return items, nil
	}
	fields, ok := in.(map[string]any)
	if !ok && in != nil {
		return nil, fmt.Errorf("%s is no map", p[:depth])
	}
	if fields == nil {
		fields = make(map[string]any)
	}
	next, err := p.set(fields[step.Name], value, depth+1)
	if err != nil {
		return nil, err
	}
	fields[step.Name] = next
	return fields, nil
}

// Delete removes the value at the path and tells whether there was one.
func (p Path) Delete(in map[string]any) bool {
	last := p[len(p)-1]
	parent, ok := p[:len(p)-1].Get(in)
	if !ok {
		return false
	}
	switch parent := parent.(type) {
	case map[string]any:
		_, there := parent[last.Name]
		if last.IsIndex || !there {
			return false
		}
		delete(parent, last.Name)
		return true
	case []any:
		if !last.IsIndex || last.Index >= len(parent) {
			return false
		}
		shorter := append(append([]any{}, parent[:last.Index]...), parent[last.Index+1:]...)
		// The parent is a value of its own parent, so it is put there anew.
		return p[:len(p)-1].Set(in, shorter) == nil
	}
	return false
}

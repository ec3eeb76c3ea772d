package patch

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// TestApply holds the operations to RFC 6902.
func TestApply(t *testing.T) {
	for name, tc := range map[string]struct{ object, patch, want string }{
		"add a member":       {`{"a":1}`, `[{"op":"add","path":"/b","value":{"c":[1]}}]`, `{"a":1,"b":{"c":[1]}}`},
		"add into a list":    {`{"a":[1,3]}`, `[{"op":"add","path":"/a/1","value":2}]`, `{"a":[1,2,3]}`},
		"add at the end":     {`{"a":[1]}`, `[{"op":"add","path":"/a/-","value":2},{"op":"add","path":"/a/2","value":3}]`, `{"a":[1,2,3]}`},
		"add past the end":   {`{"a":[1]}`, `[{"op":"add","path":"/a/2","value":2}]`, `error: index 2 is past the end`},
		"remove":             {`{"a":{"b":1,"c":2}}`, `[{"op":"remove","path":"/a/b"}]`, `{"a":{"c":2}}`},
		"remove an item":     {`{"a":[1,2,3]}`, `[{"op":"remove","path":"/a/1"}]`, `{"a":[1,3]}`},
		"remove nothing":     {`{"a":1}`, `[{"op":"remove","path":"/b"}]`, `error: the object has no /b`},
		"replace":            {`{"a":[{"b":1}]}`, `[{"op":"replace","path":"/a/0/b","value":null}]`, `{"a":[{"b":null}]}`},
		"replace nothing":    {`{"a":1}`, `[{"op":"replace","path":"/b","value":1}]`, `error: the object has no /b`},
		"move":               {`{"a":{"b":1},"c":{}}`, `[{"op":"move","from":"/a/b","path":"/c/d"}]`, `{"a":{},"c":{"d":1}}`},
		"copy is a copy":     {`{"a":{"b":1}}`, `[{"op":"copy","from":"/a","path":"/c"},{"op":"replace","path":"/c/b","value":2}]`, `{"a":{"b":1},"c":{"b":2}}`},
		"escaped names":      {`{"a/b":{"m~n":1}}`, `[{"op":"replace","path":"/a~1b/m~0n","value":2}]`, `{"a/b":{"m~n":2}}`},
		"test holds":         {`{"a":[1,"x"]}`, `[{"op":"test","path":"/a","value":[1,"x"]},{"op":"remove","path":"/a/0"}]`, `{"a":["x"]}`},
		"test fails":         {`{"a":1}`, `[{"op":"test","path":"/a","value":2}]`, `error: the value is not as tested`},
		"no leading zero":    {`{"a":[1,2]}`, `[{"op":"remove","path":"/a/01"}]`, `error: "01" is no index`},
		"nothing half":       {`{"a":1}`, `[{"op":"add","path":"/b","value":1},{"op":"remove","path":"/c"}]`, `error: operation 1 (remove /c)`},
		"no object any more": {`{"a":1}`, `[{"op":"replace","path":"","value":[1]}]`, `error: the patch leaves no object`},
	} {
		t.Run(name, func(t *testing.T) {
			object, before := fields(t, tc.object), fields(t, tc.object)
			operations, err := Parse([]byte(tc.patch))
			if err != nil {
				t.Fatal(err)
			}
			got, err := operations.Apply(object)
			if !reflect.DeepEqual(object, before) {
				t.Errorf("the argument became %v", object)
			}
			if want, fails := strings.CutPrefix(tc.want, "error: "); fails {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, %v", got, err)
				}
				if strings.HasPrefix(name, "test") != errors.Is(err, ErrTest) {
					t.Errorf("is ErrTest: %v", err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, fields(t, tc.want)) {
				t.Errorf("got %v, %v, want %s", got, err, tc.want)
			}
		})
	}
}

func fields(t *testing.T, text string) map[string]any {
	t.Helper()
	out, err := ParseMerge([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestMerge holds merge patches to RFC 7386.
func TestMerge(t *testing.T) {
	for _, tc := range [][3]string{
		{`{"a":"b","c":{"d":1,"e":2}}`, `{"a":"z","c":{"e":null}}`, `{"a":"z","c":{"d":1}}`},
		{`{"a":[1,2]}`, `{"a":[3]}`, `{"a":[3]}`},
		{`{"a":1}`, `{"a":{"b":{"c":null}}}`, `{"a":{"b":{}}}`},
		{`{}`, `{"a":null,"b":1}`, `{"b":1}`},
	} {
		object := fields(t, tc[0])
		got := Merge(object, fields(t, tc[1]))
		if !reflect.DeepEqual(got, fields(t, tc[2])) || !reflect.DeepEqual(object, fields(t, tc[0])) {
			data, _ := json.Marshal(got)
			t.Errorf("%s + %s = %s, want %s", tc[0], tc[1], data, tc[2])
		}
	}
}

package workload

import (
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func FuzzCodec(f *testing.F) {
	for _, s := range []string{
		"", "yes", "no", "null", "~", "0123", "1e3", "0x1f", "1_000", "2026-01-01", ".inf", "- a", "a: b", "#",
		"---\nkind: Evil", "line\n---\nline\n", "trailing  \n\n", "\ttab", "a\r\nb", "\u2028", "\ufeff", "é 🐦", "\x01", "\x7f", "\u0080", "\u0085", "\ufffe", "\uffff", "\U0001ffff", "%",
		strings.Repeat("long", 300) + "\x7f", "<<", "=", "!!str", "&a", "*a", "|", ">",
	} {
		f.Add(s, int64(9007199254740993), 0.1)
	}
	f.Fuzz(func(t *testing.T, s string, n int64, x float64) {
		if strings.ToValidUTF8(s, "") != s || x != x || x > 1e300 || x < -1e300 {
			t.Skip("no JSON holds it")
		}
		obj := unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": "c"},
			"data":     map[string]any{"value": s, "k" + s: "key", "list": []any{s, n, true, nil}},
			"number":   n,
		}}
		data, err := Encode([]unstructured.Unstructured{obj, obj})
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(data)
		if err != nil {
			t.Fatalf("%v in\n%.2000s", err, data)
		}
		if len(back) != 2 || !reflect.DeepEqual(back[0], obj) || !reflect.DeepEqual(back[1], obj) {
			t.Fatalf("got %d objects, not what was encoded, from\n%.2000s", len(back), data)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ data, want string }{
		"no name":       {"apiVersion: v1\nkind: Secret\n", "document 1: the object lacks"},
		"no kind":       {"---\n---\nmetadata: {name: a}\n", "Object 'Kind' is missing"},
		"twice one key": {"apiVersion: v1\nkind: A\nkind: B\nmetadata: {name: a}\n", `key "kind" already set`},
		"twice in JSON": {`{"apiVersion":"v1","kind":"A","kind":"B","metadata":{"name":"a"}}`, "already set"},
		"no map":        {"- a\n", "document 1"},
		"broken":        {"a: [", "document 1"},
	} {
		if _, err := Decode([]byte(tc.data)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if objects, err := Decode([]byte("---\n# nothing\n---\n")); err != nil || len(objects) != 0 {
		t.Errorf("empty documents: %v, %v", objects, err)
	}
}

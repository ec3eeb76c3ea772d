package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const rulesNamespace = "bad-rules"

func rulesMigration(more string) string {
	return migration(rulesNamespace, "m", "west", rulesNamespace) + "  includeVolumes: false\n" + more
}

func mapOfImages(name, data string) string {
	return "{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + ", namespace: velero, labels: {velero.io/change-image-name: RestoreItemAction}}, data: {" + data + "}}"
}

func mapOfRules(data string) string {
	return "{apiVersion: v1, kind: ConfigMap, metadata: {name: rules, namespace: velero, labels: {velero.io/velero-plugin-for-migration: RestoreItemAction}}, data: {rules: '" + data + "'}}"
}

func transformation(path string) string {
	return "{apiVersion: godwit.io/v1alpha1, kind: ResourceTransformation, metadata: {name: t, namespace: " + rulesNamespace + "}, specs: {transformSpecs: [{resource: /v1/Service, paths: [" + path + "]}]}}"
}

// TestBadRules has rules that cannot be followed, on either side: the plan names
// each by object, key and position and fails, and nothing is applied.
func TestBadRules(t *testing.T) {
	g, ctx := ground(t)
	must(t, g.Source.EnsureNamespace(ctx, rulesNamespace))
	must(t, g.Target.EnsureNamespace(ctx, "velero"))
	must(t, g.Source.Apply(ctx, []byte("{apiVersion: v1, kind: Service, metadata: {name: web, namespace: "+rulesNamespace+"}, spec: {ports: [{port: 80}]}}")))
	must(t, g.Pair(ctx, rulesNamespace, "west"))
	before := dump(ctx, t, g.Target)
	for name, c := range map[string]struct {
		source, target, spec string
		says                 []string
	}{
		"malformed ConfigMap": {target: mapOfRules(`{"resourcesOperation": [`), says: []string{"ConfigMap velero/rules key rules: "}},
		"unknown operation of the plugin": {
			target: mapOfRules(`{"resourcesOperation":[{"kinds":["pod"],"domain":"labels","operation":{"append":{"a":"b"}}}]}`),
			says:   []string{"ConfigMap velero/rules key rules: ", `unknown field "append"`},
		},
		"malformed image": {target: mapOfImages("images", "case1: 'a,b', case2: 'a b'"), says: []string{`ConfigMap velero/images key case2: "a b" is not old,new`}},
		"two image maps": {
			target: mapOfImages("images", "case1: 'a,b'") + "\n---\n" + mapOfImages("more", "case1: 'a,b'"),
			says:   []string{"ConfigMaps velero/images and velero/more both carry the label velero.io/change-image-name=RestoreItemAction"},
		},
		"unknown operation of a patch": {
			source: transformation(`{operation: jsonpatch, value: '[{"op":"remove","path":"/a"},{"op":"merge","path":"/a"}]'}`), spec: "  transformSpecs: [t]\n",
			says: []string{"ResourceTransformation bad-rules/t: specs.transformSpecs[0].paths[0]: value: operation 1: operation \"merge\" is unknown"},
		},
		"a transformation against the schema": {
			source: transformation(`{operation: modify, path: "spec.ports[0].port", value: eighty, type: string}`), spec: "  transformSpecs: [t]\n",
			says: []string{"Service bad-rules/web", "ResourceTransformation bad-rules/t specs.transformSpecs[0].paths[0]"},
		},
		"malformed modifiers": {
			source: "{apiVersion: v1, kind: ConfigMap, metadata: {name: modifiers, namespace: " + rulesNamespace + "}, data: {first: 'version: v2'}}", spec: "  resourceModifiers: [modifiers]\n",
			says: []string{`ConfigMap bad-rules/modifiers key first: version: "v2" is unknown`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.source != "" {
				must(t, g.Source.Apply(ctx, []byte(c.source)))
			}
			if c.target != "" {
				must(t, g.Target.Apply(ctx, []byte(c.target)))
			}
			file := filepath.Join(t.TempDir(), "m.yaml")
			must(t, os.WriteFile(file, []byte(rulesMigration(c.spec)), 0o600))
			out, err := g.Godwitctl(ctx, g.Source, "plan", "-f", file)
			if err == nil {
				t.Errorf("the plan succeeds:\n%s", out)
			}
			for _, want := range c.says {
				if !strings.Contains(out, want) {
					t.Errorf("the plan lacks %q:\n%s", want, out)
				}
			}
			_, err = g.Target.Kubectl(ctx, "-n", "velero", "delete", "configmap", "rules", "images", "more", "--ignore-not-found")
			must(t, err)
			_, err = g.Source.Kubectl(ctx, "-n", rulesNamespace, "delete", "configmap/modifiers", "resourcetransformation.godwit.io/t", "--ignore-not-found")
			must(t, err)
		})
	}
	requireSame(t, "after the plans", before, dump(ctx, t, g.Target))
}

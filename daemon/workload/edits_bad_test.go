package workload

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func configMap(name string, labels, data map[string]string) unstructured.Unstructured {
	var cm unstructured.Unstructured
	cm.SetAPIVersion("v1")
	cm.SetKind("ConfigMap")
	cm.SetNamespace("velero")
	cm.SetName(name)
	cm.SetLabels(labels)
	values := make(map[string]any)
	for k, v := range data {
		values[k] = v
	}
	cm.Object["data"] = values
	return cm
}

func plugin(text string) Local {
	return Local{Plugins: []unstructured.Unstructured{configMap("plugin", nil, map[string]string{"rules": text})}}
}

func images(data map[string]string) Local {
	return Local{Images: []unstructured.Unstructured{configMap("images", nil, data)}}
}

func transformation(path api.TransformPath) Instructions {
	return Instructions{Transformations: []Transformation{{Namespace: "cms", Name: "t", Spec: api.ResourceTransformationSpec{
		TransformSpecs: []api.TransformSpec{{Resource: "/v1/Service", Paths: []api.TransformPath{{Path: "spec.type", Operation: "delete"}, path}}},
	}}}}
}

func modifiers(text string) Instructions {
	return Instructions{Modifiers: []Document{{Origin: "ConfigMap cms/m key k", Text: text}}}
}

// TestBadRules holds each malformed rule to a message that names its object, key
// and position.
func TestBadRules(t *testing.T) {
	const plain = "version: v1\nresourceModifierRules:\n- conditions: {groupResource: pods}\n  "
	for name, tc := range map[string]struct {
		instructions Instructions
		local        Local
		want         string
	}{
		"plugin: no JSON":           {local: plugin(`{"resourcesSelector":`), want: "ConfigMap velero/plugin key rules: "},
		"plugin: unknown field":     {local: plugin(`{"resourcesOperation": [], "resourceOperation": []}`), want: `ConfigMap velero/plugin key rules: unknown field "resourceOperation" at line 1, column`},
		"plugin: wrong type":        {local: plugin(`{"resourcesOperation": [{"kinds": "pod"}]}`), want: "resourcesOperation.kinds: want []string, found string"},
		"plugin: domain":            {local: plugin(`{"resourcesOperation":[{"kinds":["pod"],"domain":"label","operation":{"add":{"a":"b"}}}]}`), want: `key rules: resourcesOperation[0].domain: "label" is unknown`},
		"plugin: scope":             {local: plugin(`{"resourcesOperation":[{"kinds":["pod"],"domain":"labels","scope":"template","operation":{"add":{"a":"b"}}}]}`), want: `resourcesOperation[0].scope: "template" is unknown`},
		"plugin: replace":           {local: plugin(`{"resourcesOperation":[{"kinds":["pod"],"domain":"labels","operation":{"replace":{"a":["b"]}}}]}`), want: "resourcesOperation[0].operation.replace.a has 1 items"},
		"plugin: both":              {local: plugin(`{"resourcesOperation":[{"kinds":["pod"],"domain":"labels","operation":{"add":{"a":"b"},"remove":{"a":""}}}]}`), want: "resourcesOperation[0].operation: a is both added and taken away"},
		"plugin: nothing":           {local: plugin(`{"resourcesOperation":[{"kinds":[],"domain":"labels","operation":{}}]}`), want: "resourcesOperation[0].kinds is empty"},
		"plugin: unknown operation": {local: plugin(`{"resourcesOperation":[{"kinds":["pod"],"domain":"labels","operation":{"append":{"a":"b"}}}]}`), want: `unknown field "append"`},
		"plugin: converter":         {local: plugin(`{"resourcesConverter":[{"ingress":{"apiVersion":"a/b/c"}}]}`), want: `resourcesConverter[0].ingress.apiVersion: "a/b/c" is no API version`},
		"plugin: selector":          {local: plugin(`{"resourcesSelector":{"labelSelector":"a:b:c d"}}`), want: "resourcesSelector.labelSelector"},
		"plugin: two keys": {local: Local{Plugins: []unstructured.Unstructured{configMap("plugin", nil, map[string]string{"a": "{}", "b": "{}"})}},
			want: "ConfigMap velero/plugin has 2 data keys"},
		"plugin: two": {local: Local{Plugins: []unstructured.Unstructured{configMap("a", nil, map[string]string{"k": "{}"}), configMap("b", nil, nil)}},
			want: "ConfigMaps velero/a and velero/b both carry the label velero.io/velero-plugin-for-migration=RestoreItemAction"},
		"images: comma":    {local: images(map[string]string{"case1": "a,b", "case2": "a b"}), want: `ConfigMap velero/images key case2: "a b" is not old,new`},
		"images: more":     {local: images(map[string]string{"case1": "a,b,c"}), want: `key case1: "a,b,c" is not old,new`},
		"images: old":      {local: images(map[string]string{"case1": ",b"}), want: `key case1: ",b" is not old,new`},
		"images: nothing":  {local: images(nil), want: "ConfigMap velero/images has no data"},
		"images: two maps": {local: Local{Images: []unstructured.Unstructured{configMap("a", nil, map[string]string{"k": "a,b"}), configMap("b", nil, nil)}}, want: "velero.io/change-image-name=RestoreItemAction, and only one may"},

		"stork: operation": {instructions: transformation(api.TransformPath{Path: "spec.type", Operation: "replace"}), want: `ResourceTransformation cms/t: specs.transformSpecs[0].paths[1]: operation: "replace" is unknown`},
		"stork: type":      {instructions: transformation(api.TransformPath{Path: "spec.type", Operation: "add", Type: "float", Value: "1"}), want: `paths[1]: value: type "float" is unknown`},
		"stork: int":       {instructions: transformation(api.TransformPath{Path: "spec.type", Operation: "add", Type: "int", Value: "many"}), want: `paths[1]: value: "many" is no whole number`},
		"stork: pair":      {instructions: transformation(api.TransformPath{Path: "spec.type", Operation: "add", Type: "keypair", Value: "a:b,c"}), want: `paths[1]: value: pair 2 ("c") is not key:value`},
		"stork: index":     {instructions: transformation(api.TransformPath{Path: "spec.ports[first].port", Operation: "delete"}), want: `paths[1]: path: path "spec.ports[first].port": position 11: "first" is no index`},
		"stork: dots":      {instructions: transformation(api.TransformPath{Path: "spec..type", Operation: "delete"}), want: `a name is missing at position 6`},
		"stork: patch":     {instructions: transformation(api.TransformPath{Operation: "jsonpatch", Value: `[{"op":"remove","path":"/a"},{"op":"merge","path":"/a"}]`}), want: `paths[1]: value: operation 1: operation "merge" is unknown`},
		"stork: resource": {instructions: Instructions{Transformations: []Transformation{{Namespace: "cms", Name: "t", Spec: api.ResourceTransformationSpec{
			TransformSpecs: []api.TransformSpec{{Resource: "Service"}}}}}}, want: `specs.transformSpecs[0].resource: "Service" is not group/version/kind`},

		"modifiers: version":    {instructions: modifiers("version: v2"), want: `ConfigMap cms/m key k: version: "v2" is unknown`},
		"modifiers: no YAML":    {instructions: modifiers("version: v1\n  - x"), want: "ConfigMap cms/m key k: "},
		"modifiers: unknown":    {instructions: modifiers("version: v1\nrules: []"), want: `unknown field "rules"`},
		"modifiers: resource":   {instructions: modifiers("version: v1\nresourceModifierRules:\n- patches: [{operation: remove, path: /a}]"), want: "resourceModifierRules[0].conditions.groupResource is empty"},
		"modifiers: operation":  {instructions: modifiers(plain + "patches: [{operation: delete, path: /a}]"), want: `resourceModifierRules[0].patches[0]: operation 0: operation "delete" is unknown`},
		"modifiers: path":       {instructions: modifiers(plain + "patches: [{operation: remove, path: a}]"), want: `path "a" does not begin with /`},
		"modifiers: two sorts":  {instructions: modifiers(plain + "patches: [{operation: remove, path: /a}]\n  mergePatches: [{patchData: '{}'}]"), want: "resourceModifierRules[0].patches: the rule has 2 sorts of patches"},
		"modifiers: patch data": {instructions: modifiers(plain + "mergePatches: [{patchData: '[1]'}]"), want: "resourceModifierRules[0].mergePatches[0].patchData"},
		"modifiers: regexp":     {instructions: modifiers("version: v1\nresourceModifierRules:\n- conditions: {groupResource: pods, resourceNameRegex: '('}\n  patches: [{operation: remove, path: /a}]"), want: "conditions.resourceNameRegex"},

		"overrides: patch":     {instructions: Instructions{Overrides: []api.ObjectOverride{{ResourceSelectors: []api.ResourceSelector{{APIVersion: "v1", Kind: "Pod"}}, Patch: "[{op: paint, path: /a}]"}}}, want: `spec.overrides[0].patch: operation 0: operation "paint" is unknown`},
		"overrides: selectors": {instructions: Instructions{Overrides: []api.ObjectOverride{{Patch: "{}"}}}, want: "spec.overrides[0].resourceSelectors is empty"},
		"conflicts":            {instructions: Instructions{Conflicts: Conflicts{ByKind: map[string]api.ConflictResolution{"Pod": "Merge"}}}, want: `spec.conflictResolutionByKind[Pod]: "Merge" is unknown`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadEdits(tc.instructions, tc.local)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestRulesThatDoNotFit holds rules that are well formed but cannot be followed
// for an object to a message that names both.
func TestRulesThatDoNotFit(t *testing.T) {
	service := "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: cms}, spec: {ports: [{port: 80}]}}"
	for name, tc := range map[string]struct {
		instructions Instructions
		want         string
	}{
		"missing path": {transformation(api.TransformPath{Operation: "jsonpatch", Value: `[{"op":"replace","path":"/spec/type","value":"x"}]`}),
			"transform Service cms/web: ResourceTransformation: ResourceTransformation cms/t specs.transformSpecs[0].paths[1]: operation 0 (replace /spec/type): the object has no /spec/type"},
		"past the end":  {transformation(api.TransformPath{Path: "spec.ports[3].port", Operation: "add", Type: "int", Value: "1"}), "spec.ports has 1 items, so there is no index 3"},
		"no map":        {transformation(api.TransformPath{Path: "spec.selector", Operation: "modify", Type: "keypair", Value: "a:b"}), "spec.selector is no map in this object"},
		"another name":  {transformation(api.TransformPath{Path: "metadata.name", Operation: "modify", Value: "other"}), "the rules make it Service cms/other: rules may not change apiVersion, kind, name or namespace"},
		"another place": {Instructions{Overrides: []api.ObjectOverride{{ResourceSelectors: []api.ResourceSelector{{APIVersion: "v1", Kind: "Service"}}, Patch: "{metadata: {namespace: kube-system}}"}}}, "rules may not change"},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := Decode([]byte(service))
			if err != nil {
				t.Fatal(err)
			}
			o := options()
			tc.instructions.Namespaces = nil
			o.Instructions = tc.instructions
			if _, err := Transform(objects, o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestPackAndUnpack holds what travels.
func TestPackAndUnpack(t *testing.T) {
	objects := objectsOf(t, "testdata/transform/objects.in.yaml")
	sent := instructionsOf(t, "testdata/edits/stork/instructions.yaml")
	sent.Namespaces = map[string]string{"a": "b"}
	packed, err := Pack(sent, objects)
	if err != nil {
		t.Fatal(err)
	}
	small, err := Compress(packed)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Expand(small)
	if err != nil {
		t.Fatal(err)
	}
	got, back, err := Unpack(plain)
	if err != nil {
		t.Fatal(err)
	}
	if len(back) != len(objects) || got.Namespaces["a"] != "b" || len(got.Transformations) != 1 {
		t.Errorf("%d objects, %+v", len(back), got)
	}
	// A newer source may say what this version does not know: never ignore it.
	newer := strings.Replace(string(packed), "namespaces:", "someNewWish: true\n  namespaces:", 1)
	if _, _, err := Unpack([]byte(newer)); err == nil || !strings.Contains(err.Error(), "run the same version of Godwit on both clusters") {
		t.Errorf("got %v", err)
	}
}

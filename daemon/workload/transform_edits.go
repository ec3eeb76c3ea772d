package workload

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/godwit-io/godwit/daemon/workload/convert"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// Names of the rules by which Transform leaves something out.
const (
	// RuleUnserved: the target has no such API, and nothing could be made of it.
	// The object stays in the round as YAML.
	RuleUnserved = "unserved"
	// RuleSkipKind: named in skipRestoreKinds.
	RuleSkipKind = "skip-restore-kind"
)

// convertVersion changes an object to what the target serves, or leaves it out.
func convertVersion(t *transformer, s *subject) error {
	if t.options.Serves == nil {
		return nil
	}
	_, err := convert.ToServed(s.obj, t.serves)
	var unserved *convert.Unserved
	if errors.As(err, &unserved) {
		s.leftOut = &Skipped{Ref: s.from, Rule: RuleUnserved, Reason: err.Error() + "; it is kept as YAML in the round"}
		return nil
	}
	return err
}

// serves counts what the round itself defines.
func (t *transformer) serves(gvk schema.GroupVersionKind) bool {
	return t.options.Serves(gvk) || t.defined[gvk]
}

func definedBy(objects []unstructured.Unstructured) map[schema.GroupVersionKind]bool {
	out := make(map[schema.GroupVersionKind]bool)
	for i := range objects {
		if !isKind(&objects[i], "apiextensions.k8s.io", "CustomResourceDefinition") {
			continue
		}
		spec := shape.Child(objects[i].Object, "spec")
		for _, version := range shape.List(spec, "versions") {
			if served, _ := version["served"].(bool); served {
				out[schema.GroupVersionKind{Group: shape.Text(spec, "group"), Version: shape.Text(version, "name"), Kind: shape.Text(spec, "names", "kind")}] = true
			}
		}
	}
	return out
}

func editByStork(t *transformer, s *subject) error {
	for _, transformation := range t.options.Edits.transformations[s.home()] {
		edited, err := transformation.Edit(s.obj)
		s.by = append(s.by, edited...)
		if err != nil {
			return err
		}
		if len(edited) > 0 {
			annotate(s.obj, annotationTransformation, "true")
		}
	}
	return nil
}

// home is the source's namespace of the object; of a Namespace, itself.
func (s *subject) home() string {
	if s.from.Namespace == "" && s.from.Kind == "Namespace" && s.from.Group == "" {
		return s.from.Name
	}
	return s.from.Namespace
}

// editByPlugin converts first and then edits, as the plugin does. A version that
// the target does not serve is not taken: the object would be lost by it.
func editByPlugin(t *transformer, s *subject) error {
	plugin := t.options.Edits.plugin
	if plugin == nil {
		return nil
	}
	if by, skipped := plugin.Skips(s.obj, s.home()); skipped {
		s.leftOut = &Skipped{Ref: s.from, Rule: RuleSkipKind, Reason: "named in " + by}
		return nil
	}
	if c, wanted := plugin.Converts(s.obj, s.home()); wanted && c.To != s.obj.GroupVersionKind().GroupVersion() {
		if err := t.convertTo(s, c.To); err != nil {
			t.warnings[fmt.Sprintf("%s.apiVersion: %s stays %s: %v", c.Origin, s.obj.GetKind(), s.obj.GetAPIVersion(), err)] = true
		} else {
			s.by = append(s.by, c.Origin)
		}
	}
	before := RefOf(s.obj)
	s.by = append(s.by, plugin.Edit(s.obj, s.home())...)
	if RefOf(s.obj) != before {
		return fmt.Errorf("the rules rename it")
	}
	return nil
}

func (t *transformer) convertTo(s *subject, wanted schema.GroupVersion) error {
	if t.options.Serves != nil && !t.serves(wanted.WithKind(s.obj.GetKind())) {
		return fmt.Errorf("the target does not serve %s", wanted)
	}
	_, err := convert.To(s.obj, wanted)
	return err
}

func editImages(t *transformer, s *subject) error {
	if images := t.options.Edits.images; images != nil {
		s.by = append(s.by, images.Edit(s.obj)...)
	}
	return nil
}

func editByModifiers(t *transformer, s *subject) error {
	for _, rules := range t.options.Edits.modifiers {
		edited, err := rules.Edit(s.obj, s.home())
		s.by = append(s.by, edited...)
		if err != nil {
			return err
		}
	}
	return nil
}

func editByOverrides(t *transformer, s *subject) error {
	for _, o := range t.options.Edits.overrides {
		edited, err := o.edit(s.obj, s.from)
		s.by = append(s.by, edited...)
		if err != nil {
			return err
		}
	}
	return nil
}

// cleanWebhook drops the authorities that another cluster's injector wrote. Who
// wants one there has it injected anew, by cert-manager or by the API server.
func cleanWebhook(_ *transformer, obj *unstructured.Unstructured) error {
	if obj.GroupVersionKind().Group != "admissionregistration.k8s.io" {
		return nil
	}
	if _, injected := obj.GetAnnotations()["cert-manager.io/inject-ca-from"]; !injected &&
		obj.GetAnnotations()["service.beta.openshift.io/inject-cabundle"] != "true" {
		return nil
	}
	for _, hook := range shape.List(obj.Object, "webhooks") {
		delete(shape.Child(hook, "clientConfig"), "caBundle")
	}
	return nil
}

// cleanClusterRole drops the rules of a role that is put together from others: the
// target puts them together from its own.
func cleanClusterRole(_ *transformer, obj *unstructured.Unstructured) error {
	if isKind(obj, "rbac.authorization.k8s.io", "ClusterRole") && obj.Object["aggregationRule"] != nil {
		delete(obj.Object, "rules")
	}
	return nil
}

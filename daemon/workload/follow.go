package workload

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// RuleClusterScoped leaves out what only an admin pair may bring.
const RuleClusterScoped = "cluster-scoped"

// follower finds the cluster-scoped objects that collected ones lean on.
type follower struct {
	dynamic    dynamic.Interface
	selection  Selection
	namespaces []string
	objects    []unstructured.Unstructured
	// resources are the plurals of custom kinds, by which definitions are named.
	resources map[schema.GroupKind]string
	view      *view

	found   map[Ref]*unstructured.Unstructured
	why     map[Ref]string
	skipped []Skipped
}

// follow returns the cluster-scoped objects that the collected ones name, or, where
// they may not move, tells of them.
func (f *follower) follow(ctx context.Context) ([]unstructured.Unstructured, []Skipped, error) {
	f.found, f.why = make(map[Ref]*unstructured.Unstructured), make(map[Ref]string)
	for _, look := range []func(context.Context) error{f.bindings, f.roles, f.classes, f.definitions, f.webhooks} {
		if err := look(ctx); err != nil {
			return nil, nil, err
		}
	}
	refs := make([]Ref, 0, len(f.found))
	for ref := range f.found {
		refs = append(refs, ref)
	}
	sort.Slice(refs, func(i, j int) bool { return refs[i].String() < refs[j].String() })
	var out []unstructured.Unstructured
	for _, ref := range refs {
		obj := f.found[ref]
		if rule, reason := f.leavesOut(obj); rule != "" {
			f.skipped = append(f.skipped, Skipped{Ref: ref, Rule: rule, Reason: reason})
			continue
		}
		out = append(out, *obj)
	}
	return out, f.skipped, nil
}

func (f *follower) leavesOut(obj *unstructured.Unstructured) (rule, reason string) {
	gk := obj.GroupVersionKind().GroupKind()
	switch {
	case shape.NamedAny(gk, f.selection.ExcludeResourceTypes):
		return "excluded-type", "named in excludeResourceTypes"
	case asked(obj.GetAnnotations(), "skip-resource"):
		return "skip-resource", "carries the annotation skip-resource"
	case excludedLabel(f.view, obj):
		return "excluded-label", "carries a label of excludeSelectors"
	case notSelected(f.view, obj):
		return "not-selected", "matches none of resourceSelectors"
	case !f.selection.ClusterScoped:
		return RuleClusterScoped, f.why[RefOf(obj)] + " leans on it, and a pair of namespaces cannot bring it: have it on the target, or pair with a token made by \"godwitctl create token --admin\""
	}
	return "", ""
}

func (f *follower) keep(obj *unstructured.Unstructured, why Ref) {
	ref := RefOf(obj)
	if _, known := f.found[ref]; !known {
		f.found[ref], f.why[ref] = obj, why.String()
	}
}

func resourceNamed(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

// get keeps one object by name. One that is not there is its user's affair: it is
// not there in the source either.
func (f *follower) get(ctx context.Context, gvr schema.GroupVersionResource, kind, name string, why Ref) error {
	ref := Ref{Group: gvr.Group, Version: gvr.Version, Kind: kind, Name: name}
	if _, known := f.found[ref]; known || name == "" {
		return nil
	}
	obj, err := f.dynamic.Resource(gvr).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsForbidden(err):
		f.skipped = append(f.skipped, unreadable(ref, RuleForbidden, err))
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", ref, err)
	}
	f.keep(obj, why)
	return nil
}

func (f *follower) list(ctx context.Context, gvr schema.GroupVersionResource, kind string) ([]unstructured.Unstructured, error) {
	list, err := f.dynamic.Resource(gvr).List(ctx, metav1.ListOptions{})
	ref := Ref{Group: gvr.Group, Version: gvr.Version, Kind: kind}
	switch {
	case apierrors.IsForbidden(err):
		f.skipped = append(f.skipped, unreadable(ref, RuleForbidden, err))
		return nil, nil
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list %s: %w", ref, err)
	}
	for i := range list.Items {
		list.Items[i].SetGroupVersionKind(gvr.GroupVersion().WithKind(kind))
	}
	return list.Items, nil
}

const rbacGroup = "rbac.authorization.k8s.io"

// bindings keeps the ClusterRoleBindings with a subject in the namespaces, without
// their other subjects.
func (f *follower) bindings(ctx context.Context) error {
	items, err := f.list(ctx, resourceNamed(rbacGroup, "v1", "clusterrolebindings"), "ClusterRoleBinding")
	if err != nil {
		return err
	}
	for i := range items {
		obj := &items[i]
		if granted(obj) {
			continue
		}
		var subjects []any
		var home string
		for _, subject := range shape.List(obj.Object, "subjects") {
			if namespace := f.namespaceOf(subject); namespace != "" {
				subjects, home = append(subjects, subject), namespace
			}
		}
		if len(subjects) > 0 {
			obj.Object["subjects"] = subjects
			f.keep(obj, Ref{Version: "v1", Kind: "Namespace", Name: home})
		}
	}
	return nil
}

// granted tells of what every cluster grants itself.
func granted(obj *unstructured.Unstructured) bool {
	return obj.GetLabels()["kubernetes.io/bootstrapping"] == "rbac-defaults" || strings.HasPrefix(obj.GetName(), "system:")
}

// namespaceOf is the moving namespace that the subject is in, or "".
func (f *follower) namespaceOf(subject map[string]any) string {
	name, namespace := shape.Text(subject, "name"), ""
	switch shape.Text(subject, "kind") {
	case "ServiceAccount":
		namespace = shape.Text(subject, "namespace")
	case "User":
		rest, ok := strings.CutPrefix(name, "system:serviceaccount:")
		if !ok {
			return ""
		}
		namespace, _, _ = strings.Cut(rest, ":")
	case "Group":
		namespace, _ = strings.CutPrefix(name, "system:serviceaccounts:")
	}
	if slices.Contains(f.namespaces, namespace) {
		return namespace
	}
	return ""
}

// roles keeps the ClusterRoles behind bindings of both sorts.
func (f *follower) roles(ctx context.Context) error {
	bindings := make([]unstructured.Unstructured, 0)
	for i := range f.objects {
		if isKind(&f.objects[i], rbacGroup, "RoleBinding") {
			bindings = append(bindings, f.objects[i])
		}
	}
	for _, obj := range f.found {
		if isKind(obj, rbacGroup, "ClusterRoleBinding") {
			bindings = append(bindings, *obj)
		}
	}
	for i := range bindings {
		role := shape.Child(bindings[i].Object, "roleRef")
		if shape.Text(role, "kind") != "ClusterRole" {
			continue
		}
		if err := f.get(ctx, resourceNamed(rbacGroup, "v1", "clusterroles"), "ClusterRole", shape.Text(role, "name"), RefOf(&bindings[i])); err != nil {
			return err
		}
	}
	for ref, obj := range f.found {
		if ref.Kind == "ClusterRole" && granted(obj) {
			delete(f.found, ref)
		}
	}
	return nil
}

// classes keeps what pods, claims and Ingresses choose by name.
func (f *follower) classes(ctx context.Context) error {
	for i := range f.objects {
		obj := &f.objects[i]
		why := RefOf(obj)
		pod := podSpec(obj)
		wanted := []struct{ group, resource, kind, name string }{
			{"scheduling.k8s.io", "priorityclasses", "PriorityClass", shape.Text(pod, "priorityClassName")},
			{"node.k8s.io", "runtimeclasses", "RuntimeClass", shape.Text(pod, "runtimeClassName")},
		}
		storage := func(name string) {
			wanted = append(wanted, struct{ group, resource, kind, name string }{"storage.k8s.io", "storageclasses", "StorageClass", name})
		}
		storage(shape.Text(claimSpec(obj), "storageClassName"))
		if isKind(obj, "apps", "StatefulSet") {
			for _, template := range shape.List(obj.Object, "spec", "volumeClaimTemplates") {
				storage(shape.Text(template, "spec", "storageClassName"))
			}
		}
		if isKind(obj, "networking.k8s.io", "Ingress") {
			wanted = append(wanted, struct{ group, resource, kind, name string }{"networking.k8s.io", "ingressclasses", "IngressClass", shape.Text(obj.Object, "spec", "ingressClassName")})
		}
		for _, w := range wanted {
			if w.name == "" || strings.HasPrefix(w.name, "system-") || w.name == "openshift-user-critical" || w.name == "k8s-cluster-critical" {
				continue
			}
			if err := f.get(ctx, resourceNamed(w.group, "v1", w.resource), w.kind, w.name, why); err != nil {
				return err
			}
		}
	}
	return nil
}

// definitions keeps the definition of every custom kind that was collected.
func (f *follower) definitions(ctx context.Context) error {
	for i := range f.objects {
		ref := RefOf(&f.objects[i])
		resource := f.resources[ref.GroupKind()]
		if resource == "" || !strings.Contains(ref.Group, ".") || strings.HasSuffix(ref.Group, ".k8s.io") && builtIn(ref.Group) {
			continue
		}
		if err := f.get(ctx, resourceNamed("apiextensions.k8s.io", "v1", "customresourcedefinitions"), "CustomResourceDefinition", resource+"."+ref.Group, ref); err != nil {
			return err
		}
	}
	return nil
}

// builtIn tells groups of Kubernetes itself, which have no definitions.
func builtIn(group string) bool {
	switch group {
	case "networking.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io", "scheduling.k8s.io", "discovery.k8s.io",
		"coordination.k8s.io", "events.k8s.io", "node.k8s.io", "admissionregistration.k8s.io", "resource.k8s.io":
		return true
	}
	return false
}

// webhooks keeps the configurations whose webhook is a Service in the namespaces.
func (f *follower) webhooks(ctx context.Context) error {
	for resource, kind := range map[string]string{
		"validatingwebhookconfigurations": "ValidatingWebhookConfiguration", "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
	} {
		items, err := f.list(ctx, resourceNamed("admissionregistration.k8s.io", "v1", resource), kind)
		if err != nil {
			return err
		}
		for i := range items {
			for _, hook := range shape.List(items[i].Object, "webhooks") {
				service := shape.Child(hook, "clientConfig", "service")
				if namespace := shape.Text(service, "namespace"); slices.Contains(f.namespaces, namespace) {
					f.keep(&items[i], Ref{Version: "v1", Kind: "Service", Namespace: namespace, Name: shape.Text(service, "name")})
				}
			}
		}
	}
	return nil
}

package workload

import (
	"fmt"
	"regexp"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

const labelNamespaceName = "kubernetes.io/metadata.name"

// mapReferences follows renamed namespaces wherever an object's fields name them:
// in fields called namespace, in lists of namespaces, in selectors of namespaces
// by name, in names of accounts, and in the name that an ExternalName leads to.
// Labels, selectors of pods and data are the user's words and stay.
func mapReferences(t *transformer, s *subject) error {
	if len(t.options.Namespaces) == 0 {
		return nil
	}
	w := &referenceWalk{t: t, s: s}
	for key, value := range s.obj.Object {
		switch key {
		case "metadata", "status", "apiVersion", "kind", "data", "stringData", "binaryData", "immutable":
			continue
		}
		w.walk(key, key, s.obj.Object, value)
	}
	mapSubjects(w)
	mapAnnotations(w)
	if isKind(s.obj, "", "Service") {
		spec := shape.Child(s.obj.Object, "spec")
		if name := shape.Text(spec, "externalName"); name != "" {
			w.replace("spec.externalName", spec, "externalName", t.serviceName(name, false))
		}
	}
	sort.Strings(s.rewritten)
	return nil
}

type referenceWalk struct {
	t *transformer
	s *subject
}

// replace sets a field to its new value and says so.
func (w *referenceWalk) replace(path string, in map[string]any, key, value string) {
	if old := shape.Text(in, key); old != value {
		in[key] = value
		w.s.rewritten = append(w.s.rewritten, fmt.Sprintf("%s: %s → %s", path, old, value))
	}
}

func (w *referenceWalk) walk(path, key string, in map[string]any, value any) {
	switch value := value.(type) {
	case string:
		if key == "namespace" {
			w.replace(path, in, key, w.t.namespace(value))
		}
	case map[string]any:
		w.walkMap(path, key, value)
	case []any:
		if namesNamespaces(key) {
			w.replaceList(path, value)
			return
		}
		for i, item := range value {
			if m, ok := item.(map[string]any); ok {
				w.walkMap(fmt.Sprintf("%s[%d]", path, i), "", m)
			}
		}
	}
}

func (w *referenceWalk) walkMap(path, key string, in map[string]any) {
	switch key {
	case "labels", "annotations", "nodeSelector", "limits", "requests", "hard", "data", "stringData":
		return
	case "matchLabels":
		if name := shape.Text(in, labelNamespaceName); name != "" {
			w.replace(path+"["+labelNamespaceName+"]", in, labelNamespaceName, w.t.namespace(name))
		}
		return
	case "selector":
		if plainStrings(in) {
			return
		}
	}
	if shape.Text(in, "key") == labelNamespaceName {
		if values, ok := in["values"].([]any); ok {
			w.replaceList(path+".values", values)
		}
	}
	for name, value := range in {
		w.walk(path+"."+name, name, in, value)
	}
}

func (w *referenceWalk) replaceList(path string, items []any) {
	for i, item := range items {
		if old, ok := item.(string); ok {
			if name := w.t.namespace(old); name != old {
				items[i] = name
				w.s.rewritten = append(w.s.rewritten, fmt.Sprintf("%s[%d]: %s → %s", path, i, old, name))
			}
			continue
		}
		if m, ok := item.(map[string]any); ok {
			w.walkMap(fmt.Sprintf("%s[%d]", path, i), "", m)
		}
	}
}

func namesNamespaces(key string) bool {
	switch key {
	case "namespaces", "matchNames", "targetNamespaces", "watchNamespaces", "namespaceNames", "allowedNamespaces":
		return true
	}
	return false
}

func plainStrings(in map[string]any) bool {
	for _, value := range in {
		if _, ok := value.(string); !ok {
			return false
		}
	}
	return true
}

// mapSubjects follows renamed namespaces into the ways to name accounts by text.
func mapSubjects(w *referenceWalk) {
	const account, accounts = "system:serviceaccount:", "system:serviceaccounts:"
	if w.s.obj.GroupVersionKind().Group != "rbac.authorization.k8s.io" {
		return
	}
	for i, subject := range shape.List(w.s.obj.Object, "subjects") {
		name, path := shape.Text(subject, "name"), fmt.Sprintf("subjects[%d].name", i)
		switch shape.Text(subject, "kind") {
		case "User":
			if rest, ok := strings.CutPrefix(name, account); ok {
				namespace, user, _ := strings.Cut(rest, ":")
				w.replace(path, subject, "name", account+w.t.namespace(namespace)+":"+user)
			}
		case "Group":
			if namespace, ok := strings.CutPrefix(name, accounts); ok {
				w.replace(path, subject, "name", accounts+w.t.namespace(namespace))
			}
		}
	}
}

// mapAnnotations follows renamed namespaces into annotations that are known to hold
// namespace/name.
func mapAnnotations(w *referenceWalk) {
	annotations := shape.Child(w.s.obj.Object, "metadata", "annotations")
	for _, key := range []string{
		"cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret",
		"nginx.ingress.kubernetes.io/auth-secret", "nginx.ingress.kubernetes.io/auth-tls-secret",
		"nginx.ingress.kubernetes.io/proxy-ssl-secret",
	} {
		if namespace, name, found := strings.Cut(shape.Text(annotations, key), "/"); found {
			w.replace("metadata.annotations["+key+"]", annotations, key, w.t.namespace(namespace)+"/"+name)
		}
	}
}

// mapServiceNames follows renamed namespaces into DNS names of Services, in the
// environment and arguments of containers and in ConfigMaps, where asked.
func mapServiceNames(t *transformer, s *subject) error {
	if !t.options.RewriteServiceNames || len(t.options.Namespaces) == 0 {
		return nil
	}
	w := &referenceWalk{t: t, s: s}
	if isKind(s.obj, "", "ConfigMap") {
		data := shape.Child(s.obj.Object, "data")
		for key := range data {
			if value := t.serviceNames(shape.Text(data, key)); value != shape.Text(data, key) {
				data[key] = value
				s.rewritten = append(s.rewritten, "data."+key)
			}
		}
	}
	for _, container := range shape.Containers(s.obj) {
		at := "container " + shape.Text(container, "name")
		for _, env := range shape.List(container, "env") {
			if value := shape.Text(env, "value"); value != "" {
				w.replace(at+" env "+shape.Text(env, "name"), env, "value", t.serviceNames(value))
			}
		}
		for _, field := range []string{"command", "args"} {
			items, _ := container[field].([]any)
			for i, item := range items {
				if old, ok := item.(string); ok {
					if value := t.serviceNames(old); value != old {
						items[i] = value
						s.rewritten = append(s.rewritten, fmt.Sprintf("%s %s[%d]", at, field, i))
					}
				}
			}
		}
	}
	return nil
}

// serviceNames replaces every host name in a text.
func (t *transformer) serviceNames(text string) string {
	return t.hostNames.ReplaceAllStringFunc(text, func(name string) string { return t.serviceName(name, true) })
}

func hostNames() *regexp.Regexp {
	return regexp.MustCompile(`[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?`)
}

// serviceName replaces the namespace in the DNS name of a Service or of a pod
// behind one. Without .svc it must be a Service that moves.
func (t *transformer) serviceName(name string, short bool) string {
	parts := strings.Split(name, ".")
	for i := 1; i < len(parts); i++ {
		to := t.namespace(parts[i])
		if to == parts[i] {
			continue
		}
		cluster := i+1 < len(parts) && parts[i+1] == "svc"
		known := short && i == 1 && len(parts) == 2 && t.services[parts[1]+"/"+parts[0]]
		if cluster || known {
			parts[i] = to
			break
		}
	}
	return strings.Join(parts, ".")
}

func servicesOf(objects []unstructured.Unstructured) map[string]bool {
	names := make(map[string]bool)
	for i := range objects {
		if isKind(&objects[i], "", "Service") {
			names[objects[i].GetNamespace()+"/"+objects[i].GetName()] = true
		}
	}
	return names
}

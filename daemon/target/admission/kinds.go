package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/godwit-io/godwit/daemon/workload"
)

func ownGroup(group string) bool {
	return group == "godwit.io" || group == "stork.libopenstorage.org"
}

// custom is true for groups of custom resources: neither Kubernetes' nor
// OpenShift's, whose rights are for their own roles to give, nor ours.
func custom(group string) bool {
	switch group {
	case "", "*", "apps", "autoscaling", "batch", "extensions", "policy":
		return false
	case "gateway.networking.k8s.io", "snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io":
		// Custom resources under Kubernetes' name.
		return true
	}
	if group == "x-k8s.io" || strings.HasSuffix(group, ".x-k8s.io") {
		return true
	}
	for _, taken := range []string{".k8s.io", ".openshift.io", ".openshift.com"} {
		if strings.HasSuffix(group, taken) {
			return false
		}
	}
	return !ownGroup(group)
}

// reaches lists custom resources whose operators, as they are commonly set up,
// do with the rights of a cluster's admin what the object says. "*" stands for
// every kind of the group.
func reaches(gk schema.GroupKind) bool {
	kinds := map[string][]string{
		"argoproj.io":                 {"Application", "ApplicationSet", "AppProject"},
		"helm.cattle.io":              {"*"},
		"helm.toolkit.fluxcd.io":      {"*"},
		"kustomize.toolkit.fluxcd.io": {"*"},
		"operators.coreos.com":        {"*"},
		"pkg.crossplane.io":           {"*"},
		"rbac.upbound.io":             {"*"},
		"infra.contrib.fluxcd.io":     {"*"},
		"velero.io":                   {"*"},
		"kyverno.io":                  {"*"},
	}[gk.Group]
	return slices.Contains(kinds, "*") || slices.Contains(kinds, gk.Kind)
}

// judgeKind asks whether a namespace's admin could have made the object.
func (v verdict) judgeKind(ctx context.Context) (string, error) {
	gk := v.object.GroupVersionKind().GroupKind()
	if tightens(gk) {
		return v.judgeLimit()
	}
	if custom(gk.Group) && !reaches(gk) {
		return "", nil
	}
	granted, err := v.cluster.NamespaceAdmin(ctx)
	if err != nil {
		return "", err
	}
	wanted := []rbacv1.PolicyRule{{
		APIGroups: []string{gk.Group}, Resources: []string{v.kind.Resource}, Verbs: []string{"create", "update", "patch", "delete"},
	}}
	if covered, _ := validation.Covers(granted, wanted); covered {
		return "", nil
	}
	if custom(gk.Group) {
		return fmt.Sprintf("what %s asks for is done with its operator's rights, which reach beyond the namespace: "+
			"grant it to this cluster's ClusterRole \"admin\" (label rbac.authorization.k8s.io/aggregate-to-admin) if a namespace's admin may have it", gk) + adminRemedy, nil
	}
	return fmt.Sprintf("this cluster's ClusterRole \"admin\" does not let the admin of a namespace write %s", gk) + adminRemedy, nil
}

// tightens is true for what bounds a namespace: one more can only tighten it.
func tightens(gk schema.GroupKind) bool {
	return gk == schema.GroupKind{Kind: "ResourceQuota"} || gk == schema.GroupKind{Kind: "LimitRange"}
}

// judgeLimit keeps the target's own bounds as they are.
func (v verdict) judgeLimit() (string, error) {
	if v.now == nil || v.Owner != "" && v.now.GetAnnotations()[workload.AnnotationOwner] == v.Owner {
		return "", nil
	}
	return fmt.Sprintf("a %s of this name bounds the namespace here already, and is not this pair's to change%s", v.object.GetKind(), adminRemedy), nil
}

// judgeReach refuses what takes hold of things outside the namespace.
func (v verdict) judgeReach(context.Context) (string, error) {
	gk := v.object.GroupVersionKind().GroupKind()
	if gk == (schema.GroupKind{Kind: "Service"}) {
		if ips, _, _ := unstructured.NestedSlice(v.then.Object, "spec", "externalIPs"); len(ips) > 0 {
			return "spec.externalIPs would take over traffic to addresses that are not the namespace's" + adminRemedy, nil
		}
	}
	if gk.Group == "apps" && gk.Kind == "StatefulSet" {
		templates, _, _ := unstructured.NestedSlice(v.then.Object, "spec", "volumeClaimTemplates")
		for _, template := range templates {
			if fields, ok := template.(map[string]any); ok && picksVolume(fields) {
				return "a volumeClaimTemplate names the PersistentVolume it wants, which may be another's" + adminRemedy, nil
			}
		}
	}
	for _, pod := range podsIn(v.then.Object) {
		if slices.ContainsFunc(volumeTemplates(pod.spec), picksVolume) {
			return "an ephemeral volume names the PersistentVolume it wants, which may be another's" + adminRemedy, nil
		}
	}
	return "", nil
}

func picksVolume(template map[string]any) bool {
	name, _, _ := unstructured.NestedString(template, "spec", "volumeName")
	return name != ""
}

func volumeTemplates(podSpec map[string]any) []map[string]any {
	var found []map[string]any
	volumes, _ := podSpec["volumes"].([]any)
	for _, volume := range volumes {
		fields, ok := volume.(map[string]any)
		if !ok {
			continue
		}
		if template, there, _ := unstructured.NestedMap(fields, "ephemeral", "volumeClaimTemplate"); there {
			found = append(found, template)
		}
	}
	return found
}

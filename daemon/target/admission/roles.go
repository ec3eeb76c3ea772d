package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// judgeRoles holds what roles grant against what a namespace's admin may do.
func (v verdict) judgeRoles(ctx context.Context) (string, error) {
	if v.object.GroupVersionKind().Group != rbacv1.GroupName {
		return "", nil
	}
	switch v.object.GetKind() {
	case "Role":
		var role rbacv1.Role
		if problem := read(v.then, &role); problem != "" {
			return problem, nil
		}
		return v.judgeRules(ctx, "the role", role.Rules)
	case "RoleBinding":
		var binding rbacv1.RoleBinding
		if problem := read(v.then, &binding); problem != "" {
			return problem, nil
		}
		return v.judgeBinding(ctx, binding)
	}
	return fmt.Sprintf("a namespaced pair cannot bring a %s%s", v.object.GetKind(), adminRemedy), nil
}

func (v verdict) judgeBinding(ctx context.Context, b rbacv1.RoleBinding) (string, error) {
	for _, s := range b.Subjects {
		if s.Name == "system:unauthenticated" || s.Name == "system:anonymous" {
			return "it grants rights to whoever asks, without any login" + adminRemedy, nil
		}
	}
	if b.RoleRef.APIGroup != rbacv1.GroupName || b.RoleRef.Kind != "Role" && b.RoleRef.Kind != "ClusterRole" || b.RoleRef.Name == "" {
		return "it does not say which role it grants", nil
	}
	what := b.RoleRef.Kind + " " + b.RoleRef.Name
	rules, found, err := v.cluster.RulesBehind(ctx, b.Namespace, b.RoleRef)
	if err != nil {
		return "", err
	}
	if !found {
		return fmt.Sprintf("%s, which it grants, is not on this cluster, and whatever comes by that name later would be granted: make it here, then try again", what), nil
	}
	return v.judgeRules(ctx, what, rules)
}

// judgeRules admits rules that the cluster's ClusterRole "admin" covers, and
// whatever a role may say of custom resources in the namespace.
func (v verdict) judgeRules(ctx context.Context, what string, rules []rbacv1.PolicyRule) (string, error) {
	granted, err := v.cluster.NamespaceAdmin(ctx)
	if err != nil {
		return "", err
	}
	_, more := validation.Covers(granted, rules)
	more = slices.DeleteFunc(more, ofCustomResources)
	if len(more) == 0 {
		return "", nil
	}
	return fmt.Sprintf("%s grants more than the admin of a namespace has here: %s%s", what, describe(more), adminRemedy), nil
}

func ofCustomResources(r rbacv1.PolicyRule) bool {
	return len(r.NonResourceURLs) == 0 && len(r.APIGroups) > 0 && !slices.ContainsFunc(r.APIGroups, func(g string) bool { return !custom(g) })
}

func describe(rules []rbacv1.PolicyRule) string {
	const most = 3
	var lines []string
	for _, r := range rules {
		if len(lines) == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(rules)-most))
			break
		}
		what := strings.Join(r.NonResourceURLs, ", ")
		for _, resource := range r.Resources {
			what = resource
			if group := strings.Join(r.APIGroups, ","); group != "" {
				what += "." + group
			}
		}
		lines = append(lines, strings.Join(r.Verbs, ",")+" "+what)
	}
	return strings.Join(lines, "; ")
}

// read turns an object into its type, and a malformed one into a refusal.
func read(obj *unstructured.Unstructured, into any) string {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, into); err != nil {
		return fmt.Sprintf("it is malformed: %v", err)
	}
	return ""
}

package target_test

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/pairing"
)

// refusesRoles is a policy of this cluster that lets dry runs pass, as nothing that
// a preflight can foresee.
func (v *victim) refusesRoles(t *testing.T) {
	t.Helper()
	fail := admissionv1.Fail
	v.create(t, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "no-roles"},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{rbacv1.GroupName}, APIVersions: []string{"v1"}, Resources: []string{"roles"}},
			}}}},
			Validations: []admissionv1.Validation{{Expression: "(has(request.dryRun) && request.dryRun) || object.metadata.name != 'barred'", Message: "not this role"}},
		},
	}, &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "no-roles"},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "no-roles", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
	})
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		probe := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "barred"}}
		err := v.client.Create(ctx, probe)
		if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		return false, v.client.Delete(ctx, probe)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A binding that was admitted for a role that comes along does not stand without it.
func TestBindingsDoNotDangle(t *testing.T) {
	v := newVictim(t)
	v.refusesRoles(t)
	role := func(name string) string {
		return rbacHead + "kind: Role\nmetadata: {name: " + name + ", namespace: cms}\nrules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]\n---\n"
	}
	binding := func(name, role string) string {
		return rbacHead + "kind: RoleBinding\nmetadata: {name: " + name + ", namespace: cms}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: " + role + "}\nsubjects: [{kind: ServiceAccount, name: app, namespace: cms}]\n---\n"
	}
	for name, scope := range map[string]pairing.Scope{"namespaced": {Namespaces: []string{"cms"}}, "admin": {Admin: true}} {
		t.Run(name, func(t *testing.T) {
			a := v.pair(t, scope)
			a.rounds = len(name) // The bucket is shared.
			status, err := a.bring(t, role("barred")+role("fine-"+name)+binding("dangling", "barred")+binding("sound-"+name, "fine-"+name), nil)
			if err != nil || len(status.Resources) != 4 {
				t.Fatalf("%+v, %v", status, err)
			}
			for _, r := range status.Resources {
				lost := r.Name == "barred" || r.Name == "dangling"
				if r.OK == lost {
					t.Errorf("%+v", r)
				}
				if r.Name == "dangling" && !strings.Contains(r.Reason, "it grants Role.rbac.authorization.k8s.io cms/barred, which came along and could not be applied") {
					t.Errorf("%s", r.Reason)
				}
			}
			var standing rbacv1.RoleBinding
			if err := v.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "dangling"}, &standing); !apierrors.IsNotFound(err) {
				t.Errorf("the binding stands: %v", err)
			}
		})
	}
}

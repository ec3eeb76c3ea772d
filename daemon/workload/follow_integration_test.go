package workload

import (
	"context"
	"slices"
	"strings"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

const leaning = `
{apiVersion: v1, kind: Namespace, metadata: {name: lean}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: app, namespace: lean}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: lean-reads}
rules: [{apiGroups: [""], resources: [nodes], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: lean-by-role-binding}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: lean-of-others}
rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: lean-reads}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: lean-reads}
subjects:
- {kind: ServiceAccount, name: app, namespace: lean}
- {kind: ServiceAccount, name: stranger, namespace: elsewhere}
- {kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:lean"}
- {kind: User, apiGroup: rbac.authorization.k8s.io, name: jane}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: lean-of-others}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: lean-of-others}
subjects: [{kind: ServiceAccount, name: stranger, namespace: elsewhere}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: here, namespace: lean}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: lean-by-role-binding}
subjects: [{kind: ServiceAccount, name: app, namespace: lean}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: built-in, namespace: lean}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: app, namespace: lean}]
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: lean-high}, value: 1000}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: lean-fast}, provisioner: example.com/x}
---
{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: lean-front}, spec: {controller: example.com/x}}
---
{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: lean-of-others}, spec: {controller: example.com/x}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: lean}
spec: {ingressClassName: lean-front, defaultBackend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: lean}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {priorityClassName: lean-high, containers: [{name: c, image: busybox}]}
  volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: lean-fast, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: lean-guard}
webhooks:
- {name: guard.example.com, clientConfig: {service: {name: guard, namespace: lean}}, admissionReviewVersions: [v1], sideEffects: None, failurePolicy: Ignore, rules: []}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: lean-of-others}
webhooks:
- {name: guard.example.com, clientConfig: {service: {name: guard, namespace: elsewhere}}, admissionReviewVersions: [v1], sideEffects: None, failurePolicy: Ignore, rules: []}
`

// TestCollectFollows collects what others lean on for an admin pair, and tells of
// it for any other.
func TestCollectFollows(t *testing.T) {
	c := cluster(t, nil)
	define(t, c, "lean.test", "Widget")
	put(t, c, leaning+"\n---\n{apiVersion: lean.test/v1, kind: Widget, metadata: {name: w, namespace: lean}}")
	t.Cleanup(func() {
		// Other tests delete namespaces, which waits for nothing of this.
		for _, ref := range []Ref{{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration", Name: "lean-guard"}} {
			if err := Undo(context.WithoutCancel(t.Context()), c, Applied{Ref: ref, Action: Created, Manager: "somebody"}, UndoOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
	})
	want := []string{
		"ClusterRole.rbac.authorization.k8s.io lean-by-role-binding", "ClusterRole.rbac.authorization.k8s.io lean-reads",
		"ClusterRoleBinding.rbac.authorization.k8s.io lean-reads", "CustomResourceDefinition.apiextensions.k8s.io widgets.lean.test",
		"IngressClass.networking.k8s.io lean-front", "PriorityClass.scheduling.k8s.io lean-high",
		"StorageClass.storage.k8s.io lean-fast", "ValidatingWebhookConfiguration.admissionregistration.k8s.io lean-guard",
	}
	leanedOn := func(refs []Ref) []string {
		var out []string
		for _, ref := range refs {
			if ref.Namespace == "" && ref.Kind != "Namespace" && ref.Name != "" {
				out = append(out, ref.String())
			}
		}
		slices.Sort(out)
		return out
	}
	for _, admin := range []bool{true, false} {
		got, err := Collect(t.Context(), c, Selection{Namespaces: []string{"lean"}, ClusterScoped: admin})
		if err != nil {
			t.Fatal(err)
		}
		var moved, told []Ref
		for i := range got.Objects {
			moved = append(moved, RefOf(&got.Objects[i]))
			if got.Objects[i].GetKind() == "ClusterRoleBinding" {
				if subjects := got.Objects[i].Object["subjects"].([]any); len(subjects) != 2 {
					t.Errorf("subjects of others move: %v", subjects)
				}
			}
		}
		for _, s := range got.Skipped {
			if s.Rule == RuleClusterScoped {
				told = append(told, s.Ref)
				if !strings.Contains(s.Reason, "leans on it") {
					t.Errorf("%s: %s", s.Ref, s.Reason)
				}
			}
		}
		if admin {
			requireSame(t, "moved", leanedOn(moved), want)
			requireSame(t, "told", leanedOn(told), nil)
			continue
		}
		requireSame(t, "moved", leanedOn(moved), nil)
		requireSame(t, "told", leanedOn(told), want)
	}
}

// TestCollectSelects takes a PropagationPolicy's selectors.
func TestCollectSelects(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "selects")
	put(t, c, `
{apiVersion: apps/v1, kind: Deployment, metadata: {name: nginx, namespace: selects}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: nginx}]}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: other, namespace: selects}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: nginx}]}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: nginx-svc, namespace: selects}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: nginx, namespace: selects}}
`)
	got, err := Collect(t.Context(), c, Selection{Namespaces: []string{"selects"}, ResourceSelectors: []api.ResourceSelector{
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "nginx"}, {APIVersion: "v1", Kind: "Service", Name: "nginx-svc"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	objects, _ := names(got)
	requireSame(t, "objects", objects, []string{"Deployment.apps nginx", "Namespace selects", "Service nginx-svc"})
}

package target

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	security "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/target/admission"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
)

// policyOf is what a pair may bring to this cluster.
func (a *Agent) policyOf(p pairing.Peer) admission.Policy {
	return admission.Policy{Scope: p.Scope, Owner: p.PairID, OwnNamespace: a.Namespace}
}

// decide holds one object against what the pair may bring, with what else comes
// in the same round. An error is not the object's fault and may be over soon.
func (x *run) decide(ctx context.Context, object unstructured.Unstructured, coming []workload.Moved) (admission.Decision, error) {
	d, err := x.policy().Decide(ctx, &premises{Agent: x.Agent, run: x, coming: coming}, object)
	var no *refusedByServer
	if errors.As(err, &no) {
		return admission.Decision{Refused: no.Error()}, nil
	}
	return d, err
}

// premises is this cluster as admission asks about it.
type premises struct {
	*Agent
	run     *run
	coming  []workload.Moved
	granted []rbacv1.PolicyRule
}

var _ admission.Cluster = (*premises)(nil)

// refusedByServer is a final no of the API server to a trial of the write.
type refusedByServer struct{ error }

// Unwrap gives the server's words.
func (r *refusedByServer) Unwrap() error { return r.error }

// Kind is admission.Cluster's.
func (c *premises) Kind(_ context.Context, gvk schema.GroupVersionKind) (admission.Kind, error) {
	m, err := c.mapping(gvk)
	if meta.IsNoMatchError(err) {
		return admission.Kind{}, nil
	}
	if err != nil {
		return admission.Kind{}, fmt.Errorf("ask how %s is served: %w", gvk, err)
	}
	return admission.Kind{Resource: m.Resource.Resource, Namespaced: m.Scope.Name() == meta.RESTScopeNameNamespace, Served: true}, nil
}

// mapping looks again at a kind that was not there when the mapper last looked.
func (c *premises) mapping(gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	m, err := c.Objects.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if resettable, ok := c.Objects.Mapper.(interface{ Reset() }); ok && meta.IsNoMatchError(err) {
		resettable.Reset()
		m, err = c.Objects.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	return m, err
}

// Standing is admission.Cluster's. Where something stands, the server itself
// says what the write would make of it.
func (c *premises) Standing(ctx context.Context, obj *unstructured.Unstructured) (now, then *unstructured.Unstructured, err error) {
	m, err := c.mapping(obj.GroupVersionKind())
	if err != nil {
		return nil, nil, fmt.Errorf("ask how %s is served: %w", obj.GroupVersionKind(), err)
	}
	var resource dynamic.ResourceInterface = c.Objects.Dynamic.Resource(m.Resource)
	if namespace := obj.GetNamespace(); namespace != "" {
		resource = c.Objects.Dynamic.Resource(m.Resource).Namespace(namespace)
	}
	now, err = resource.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, obj, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read what stands there: %w", err)
	}
	trial := obj.DeepCopy()
	trial.SetManagedFields(nil)
	trial.SetResourceVersion("")
	trial.SetUID("")
	// As the write leaves them, too.
	workload.LeaveAddresses(trial, now)
	then, err = resource.Apply(ctx, obj.GetName(), trial, metav1.ApplyOptions{FieldManager: managedBy, Force: true, DryRun: []string{metav1.DryRunAll}})
	switch {
	case err == nil:
		return now, then, nil
	case workload.Retryable(err):
		return nil, nil, fmt.Errorf("try the write: %w", err)
	}
	return nil, nil, &refusedByServer{fmt.Errorf("the cluster does not take it beside what stands there: %w: delete that if it may be replaced, then try again", err)}
}

// NamespaceAdmin is admission.Cluster's.
func (c *premises) NamespaceAdmin(ctx context.Context) ([]rbacv1.PolicyRule, error) {
	if c.granted != nil {
		return c.granted, nil
	}
	var role rbacv1.ClusterRole
	if err := c.Live.Get(ctx, types.NamespacedName{Name: "admin"}, &role); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read ClusterRole admin: %w", err)
	}
	c.granted = role.Rules
	return c.granted, nil
}

// RulesBehind is admission.Cluster's. A role that comes in the same round, and
// may come, counts with the one that stands there.
func (c *premises) RulesBehind(ctx context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, bool, error) {
	var rules []rbacv1.PolicyRule
	var err error
	if ref.Kind == "ClusterRole" {
		var role rbacv1.ClusterRole
		err = c.Live.Get(ctx, types.NamespacedName{Name: ref.Name}, &role)
		rules = role.Rules
	} else {
		var role rbacv1.Role
		err = c.Live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: ref.Name}, &role)
		rules = role.Rules
	}
	if client.IgnoreNotFound(err) != nil {
		return nil, false, fmt.Errorf("read %s %s: %w", ref.Kind, ref.Name, err)
	}
	stands := err == nil
	coming, comes, err := c.comingRole(ctx, namespace, ref)
	return append(rules, coming...), stands || comes, err
}

func (c *premises) comingRole(ctx context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, bool, error) {
	want := workload.Ref{Group: rbacv1.GroupName, Kind: "Role", Namespace: namespace, Name: ref.Name}
	for _, moved := range c.coming {
		have := workload.RefOf(&moved.Unstructured)
		if have.Version = want.Version; ref.Kind != want.Kind || have != want {
			continue
		}
		d, err := c.run.decide(ctx, moved.Unstructured, nil)
		if err != nil || d.Refused != "" || d.Leave {
			return nil, false, err
		}
		var role rbacv1.Role
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(d.Object.Object, &role); err != nil {
			return nil, false, fmt.Errorf("read the Role %s that comes: %w", ref.Name, err)
		}
		return role.Rules, true, nil
	}
	return nil, false, nil
}

// PodSecurity is admission.Cluster's.
func (c *premises) PodSecurity(ctx context.Context, namespace string) (string, error) {
	var ns corev1.Namespace
	if err := c.Live.Get(ctx, types.NamespacedName{Name: namespace}, &ns); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("read namespace %s: %w", namespace, err)
	}
	return ns.Labels[security.EnforceLevelLabel], nil
}

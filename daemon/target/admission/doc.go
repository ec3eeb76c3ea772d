// Package admission decides which objects a pair may bring to this cluster.
//
// Its words: an admin pair may bring what it covers; a namespaced pair may do
// in its namespaces what the cluster's own ClusterRole "admin" lets a person
// do there, and no more. What it brings is judged as it would stand after the
// write, together with what stands there already, since a write of one field
// can turn another's privileged pod into one's own.
//
// The controller that writes the objects may grant anything to anybody, so
// Kubernetes does not stop an object that is admitted here. The package never
// writes, and an error is never an admission.
package admission

import (
	"context"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/godwit-io/godwit/pairing"
)

// Kind is how the cluster serves a kind.
type Kind struct {
	// Resource is the plural that roles name.
	Resource   string
	Namespaced bool
	// Served is false where the cluster has no such kind.
	Served bool
}

// Cluster is what is asked of the cluster that the objects come to.
type Cluster interface {
	// Kind says how a kind is served.
	Kind(ctx context.Context, gvk schema.GroupVersionKind) (Kind, error)
	// Standing returns what stands there now, nil if nothing does, and what
	// would stand there after the object is applied.
	Standing(ctx context.Context, obj *unstructured.Unstructured) (now, then *unstructured.Unstructured, err error)
	// NamespaceAdmin is what a namespace's admin may do: the rules of the
	// cluster's own ClusterRole "admin".
	NamespaceAdmin(ctx context.Context) ([]rbacv1.PolicyRule, error)
	// RulesBehind returns the rules that a role gives; false if there is no such role.
	RulesBehind(ctx context.Context, namespace string, role rbacv1.RoleRef) ([]rbacv1.PolicyRule, bool, error)
	// PodSecurity is the level that the namespace enforces, empty if it says none.
	PodSecurity(ctx context.Context, namespace string) (string, error)
}

// Policy is what one pair may bring.
type Policy struct {
	Scope pairing.Scope
	// Owner is what the annotation of the pair's own objects says.
	Owner string
	// OwnNamespace is Godwit's, into which no pair brings anything.
	OwnNamespace string
}

// Decision is what becomes of an object.
type Decision struct {
	// Refused says why the object may not be brought, and what to do; empty if it may.
	Refused string
	// Leave means that what stands there is to stay as it is, and that this is well.
	Leave bool
	// Object is what may be brought.
	Object unstructured.Unstructured
}

const adminRemedy = "; if it has to come along, pair with a token made by \"godwitctl create token --admin\""

func refuse(format string, args ...any) (Decision, error) {
	return Decision{Refused: fmt.Sprintf(format, args...)}, nil
}

// CoverNamespace says whether volumes and objects may be brought to the
// namespaces at all. Errors are pairing.ErrNamespace.
func (p Policy) CoverNamespace(namespaces ...string) error {
	for _, namespace := range namespaces {
		if namespace == p.OwnNamespace {
			return fmt.Errorf("%w: %q is Godwit's own: nothing is brought there", pairing.ErrNamespace, namespace)
		}
		if !p.Scope.Admin && strings.HasPrefix(namespace, "kube-") {
			return fmt.Errorf("%w: %q is Kubernetes' own, and only for pairs made by \"godwitctl create token --admin\"", pairing.ErrNamespace, namespace)
		}
	}
	return p.Scope.Covers(namespaces...)
}

// Decide says what becomes of one object.
func (p Policy) Decide(ctx context.Context, c Cluster, obj unstructured.Unstructured) (Decision, error) {
	gk := obj.GroupVersionKind().GroupKind()
	if ownGroup(gk.Group) {
		return refuse("objects of %s make this cluster's data mover act: a round does not bring them", gk.Group)
	}
	isNamespace := gk == schema.GroupKind{Kind: "Namespace"}
	namespace := obj.GetNamespace()
	if isNamespace {
		namespace = obj.GetName()
	}
	if namespace != "" {
		if err := p.CoverNamespace(namespace); err != nil {
			return refuse("%s", err)
		}
	}
	switch {
	case p.Scope.Admin:
		return Decision{Object: obj}, nil
	case namespace == "":
		return refuse("a namespaced pair cannot bring objects without a namespace" + adminRemedy)
	case isNamespace:
		return bareNamespace(ctx, c, obj)
	}
	return p.decideNamespaced(ctx, c, obj)
}

func (p Policy) decideNamespaced(ctx context.Context, c Cluster, obj unstructured.Unstructured) (Decision, error) {
	kind, err := c.Kind(ctx, obj.GroupVersionKind())
	if err != nil {
		return Decision{}, err
	}
	if !kind.Served {
		return refuse("this cluster does not serve %s: install its definition here, then try again", obj.GroupVersionKind())
	}
	if !kind.Namespaced {
		return refuse("%s is cluster-scoped, and a namespaced pair cannot bring such objects%s", obj.GetKind(), adminRemedy)
	}
	now, then, err := c.Standing(ctx, &obj)
	if err != nil {
		return Decision{}, err
	}
	v := verdict{Policy: p, cluster: c, kind: kind, object: obj, now: now, then: then}
	for _, judge := range []func(context.Context) (string, error){v.judgeKind, v.judgeRoles, v.judgePods, v.judgeReach} {
		problem, err := judge(ctx)
		if err != nil {
			return Decision{}, err
		}
		if problem != "" {
			return Decision{Refused: problem}, nil
		}
	}
	return Decision{Object: obj}, nil
}

// verdict is one object of a namespaced pair in the making of its decision.
type verdict struct {
	Policy
	cluster   Cluster
	kind      Kind
	object    unstructured.Unstructured
	now, then *unstructured.Unstructured
}

// bareNamespace makes a namespace that is not there, without labels and
// annotations: those choose the rules for pods, for the network and for
// admission that hold in it, which are the target's to choose.
func bareNamespace(ctx context.Context, c Cluster, obj unstructured.Unstructured) (Decision, error) {
	now, _, err := c.Standing(ctx, &obj)
	if err != nil {
		return Decision{}, err
	}
	if now != nil {
		return Decision{Leave: true}, nil
	}
	bare := unstructured.Unstructured{Object: map[string]any{}}
	bare.SetGroupVersionKind(obj.GroupVersionKind())
	bare.SetName(obj.GetName())
	return Decision{Object: bare}, nil
}

package target

import (
	"context"
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/target/admission"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/daemon/workload/shape"
	"github.com/godwit-io/godwit/pairing"
)

// closedPolicy is the NetworkPolicy that closes a namespace of a drill.
const closedPolicy = "godwit-drill"

// namespaces are those that the drill opens, sorted.
func (x *drill) namespaces() []string { return slices.Sorted(maps.Values(x.d.Spec.Namespaces)) }

// observeNamespaces sees whether the namespaces are the drill's, and closed.
func (x *drill) observeNamespaces(ctx context.Context) error {
	own, err := x.ownNamespaces(ctx)
	if err != nil {
		return err
	}
	x.observed.Left = len(own) > 0
	closed := 0
	for _, ns := range own {
		var policy networkingv1.NetworkPolicy
		err := x.Live.Get(ctx, types.NamespacedName{Namespace: ns.Name, Name: closedPolicy}, &policy)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read NetworkPolicy %s/%s: %w", ns.Name, closedPolicy, err)
		}
		if err == nil && ns.DeletionTimestamp.IsZero() && equality.Semantic.DeepEqual(policy.Spec, x.closed()) {
			closed++
		}
	}
	x.observed.Closed = closed == len(x.namespaces())
	return nil
}

// ownNamespaces are those of the drill that are there. One that is somebody else's
// is told.
func (x *drill) ownNamespaces(ctx context.Context) ([]*corev1.Namespace, error) {
	var own []*corev1.Namespace
	policy := admission.Policy{Scope: pairing.Scope{Namespaces: x.namespaces()}, OwnNamespace: x.Namespace}
	for _, name := range slices.Compact(x.namespaces()) {
		if err := policy.CoverNamespace(name); err != nil {
			x.observed.Taken = err.Error()
			continue
		}
		var ns corev1.Namespace
		err := x.Live.Get(ctx, types.NamespacedName{Name: name}, &ns)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("read namespace %s: %w", name, err)
		case ns.Labels[api.LabelDrill] != string(x.d.UID):
			x.observed.Taken = "namespace " + name + " is there already, and is not this drill's: name one that is not there, which the drill makes and removes"
		default:
			own = append(own, &ns)
		}
	}
	return own, nil
}

// closeNamespaces makes the namespaces, and closes each before anything is in it.
func (x *drill) closeNamespaces(ctx context.Context) error {
	for _, name := range slices.Compact(x.namespaces()) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{api.LabelDrill: string(x.d.UID), labelManaged: managedBy},
		}}
		if err := x.Client.Create(ctx, ns); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make namespace %s: %w", name, err)
		}
		policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: closedPolicy}}
		err := x.Live.Get(ctx, client.ObjectKeyFromObject(policy), policy)
		switch {
		case apierrors.IsNotFound(err):
			policy.Spec = x.closed()
			err = x.Client.Create(ctx, policy)
		case err == nil && !equality.Semantic.DeepEqual(policy.Spec, x.closed()):
			policy.Spec = x.closed()
			err = x.Client.Update(ctx, policy)
		}
		if err != nil {
			return fmt.Errorf("close namespace %s: %w", name, err)
		}
	}
	return nil
}

// closed lets the drill's pods reach each other and the cluster's DNS, and nobody
// else reach them.
func (x *drill) closed() networkingv1.NetworkPolicySpec {
	own := []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{api.LabelDrill: string(x.d.UID)}}}}
	dns := []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: metav1.NamespaceSystem}}}}
	port, udp, tcp := intstr.FromInt32(53), corev1.ProtocolUDP, corev1.ProtocolTCP
	return networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: own}},
		Egress: []networkingv1.NetworkPolicyEgressRule{
			{To: own},
			{To: dns, Ports: []networkingv1.NetworkPolicyPort{{Protocol: &udp, Port: &port}, {Protocol: &tcp, Port: &port}}},
		},
	}
}

// workloadsUp counts what is ready of what the workloads of the namespaces want.
func (a *Agent) workloadsUp(ctx context.Context, namespaces []string) (figures string, up bool, err error) {
	var ready, wanted int32
	current := true
	count := func(have, want int32, seen bool) {
		ready, wanted, current = ready+min(have, want), wanted+want, current && seen
	}
	for _, namespace := range slices.Compact(namespaces) {
		var deployments appsv1.DeploymentList
		var sets appsv1.StatefulSetList
		var daemons appsv1.DaemonSetList
		for _, list := range []client.ObjectList{&deployments, &sets, &daemons} {
			if err := a.Live.List(ctx, list, client.InNamespace(namespace)); err != nil {
				return "", false, fmt.Errorf("see what is ready in namespace %s: %w", namespace, err)
			}
		}
		for _, d := range deployments.Items {
			count(d.Status.ReadyReplicas, replicas(d.Spec.Replicas), d.Status.ObservedGeneration >= d.Generation)
		}
		for _, s := range sets.Items {
			count(s.Status.ReadyReplicas, replicas(s.Spec.Replicas), s.Status.ObservedGeneration >= s.Generation)
		}
		for _, d := range daemons.Items {
			count(d.Status.NumberReady, d.Status.DesiredNumberScheduled, d.Status.ObservedGeneration >= d.Generation)
		}
	}
	return fmt.Sprintf("%d/%d", ready, wanted), current && ready == wanted, nil
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// policy is what the round's objects may do here. A drill keeps to its own
// namespaces, whatever its pair may bring elsewhere.
func (x *run) policy() admission.Policy {
	p := x.policyOf(x.peer)
	// A preflight judges objects of which there is no Standby yet.
	if x.s != nil && x.s.Spec.Drill != nil {
		p.Scope = pairing.Scope{Namespaces: slices.Sorted(maps.Values(x.s.Spec.Drill.Namespaces))}
	}
	return p
}

// instructDrill maps the namespaces for a drill, with the names of services in
// them, and deletes nothing.
func (x *run) instructDrill(i *workload.Instructions) {
	d := x.s.Spec.Drill
	if d == nil {
		return
	}
	i.Namespaces, i.RewriteServiceNames = d.Namespaces, true
	i.Purge, i.Forget, i.SkipServiceUpdate = nil, false, false
}

// isolate takes out of a drill what would open its namespaces, or take addresses
// and host names from the application that runs elsewhere.
func (x *run) isolate(t *workload.Transformed) {
	if x.s.Spec.Drill == nil {
		return
	}
	t.Objects = slices.DeleteFunc(t.Objects, func(m workload.Moved) bool { return opens(m.GroupVersionKind().Group, m.GetKind()) })
	for i := range t.Objects {
		if o := &t.Objects[i].Unstructured; o.GetKind() == "Service" && o.GroupVersionKind().Group == "" {
			insideOnly(o)
		}
	}
}

// opens is true for kinds by which traffic comes in or is let out.
func opens(group, kind string) bool {
	switch group {
	case "gateway.networking.k8s.io", "route.openshift.io", "cilium.io", "crd.projectcalico.org", "projectcalico.org", "policy.networking.k8s.io":
		return true
	}
	return kind == "NetworkPolicy" || kind == "Ingress" || kind == "EndpointSlice" || kind == "Endpoints"
}

// insideOnly makes a Service that nobody outside of the cluster reaches.
func insideOnly(o *unstructured.Unstructured) {
	spec := shape.Child(o.Object, "spec")
	if kind := shape.Text(spec, "type"); kind != "LoadBalancer" && kind != "NodePort" {
		delete(spec, "externalIPs")
		return
	}
	spec["type"] = string(corev1.ServiceTypeClusterIP)
	for _, field := range []string{"externalIPs", "externalTrafficPolicy", "healthCheckNodePort", "loadBalancerIP", "loadBalancerClass", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts"} {
		delete(spec, field)
	}
	for _, port := range shape.List(spec, "ports") {
		delete(port, "nodePort")
	}
}

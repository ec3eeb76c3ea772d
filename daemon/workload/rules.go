package workload

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// Rule says why a kind or an object is left out of a collection.
type Rule struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	// Remade means that the target's own controllers make such objects again, so
	// that nothing is lost with them.
	Remade bool `json:"remade,omitempty"`
}

// Names of the rules that callers act on.
const (
	RuleForbidden = "forbidden"
	RuleNotServed = "not-served"
)

// rule is a Rule with what it holds for. Exactly one of the functions is set,
// or none where the collection itself decides.
type rule struct {
	Rule
	kind   func(w wish, k kind) bool
	object func(v *view, obj *unstructured.Unstructured) bool
}

// Rules lists every rule by which Collect leaves something out, in the order in
// which they are asked.
func Rules() []Rule {
	var out []Rule
	for _, r := range rules() {
		out = append(out, r.Rule)
	}
	return out
}

func rules() []rule {
	return append(kindRules(), objectRules()...)
}

func kindRules() []rule {
	return []rule{
		{Rule: Rule{Name: RuleForbidden, Reason: "Godwit may not read this kind: grant get and list on it, or name it in excludeResourceTypes"}},
		{Rule: Rule{Name: RuleNotServed, Reason: "the cluster listed this kind but no longer serves it"}},
		{Rule: Rule{Name: RuleClusterScoped, Reason: "belongs to the whole cluster, and only an admin pair may bring it"}},
		{Rule: Rule{Name: "excluded-type", Reason: "named in excludeResourceTypes"},
			kind: func(w wish, k kind) bool { return w.excludes(k) }},
		{Rule: Rule{Name: "optional-type", Reason: "a Job would run again on the target: name Job in includeOptionalResourceTypes to move it"},
			kind: func(w wish, k kind) bool { return k.is("batch", "Job") && !w.includesOptional("job") }},
		{Rule: Rule{Name: "own-objects", Reason: "belongs to the data mover of this cluster"},
			kind: groups("godwit.io", "stork.libopenstorage.org")},
		{Rule: Rule{Name: "events", Reason: "tells what happened in this cluster", Remade: true},
			kind: kinds("Event", "", "events.k8s.io")},
		{Rule: Rule{Name: "leases", Reason: "locks and heartbeats of processes of this cluster", Remade: true},
			kind: groups("coordination.k8s.io")},
		{Rule: Rule{Name: "revisions", Reason: "made again by the controller whose history it is", Remade: true},
			kind: kinds("ControllerRevision", "apps")},
		{Rule: Rule{Name: "snapshots", Reason: "names storage of this cluster; the data moves as images"},
			kind: groups("snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io", "cbt.storage.k8s.io")},
		{Rule: Rule{Name: "storage-capacity", Reason: "measured by the storage driver of this cluster", Remade: true},
			kind: groups("storage.k8s.io")},
		{Rule: Rule{Name: "readings", Reason: "computed when asked for, not stored", Remade: true},
			kind: func(_ wish, k kind) bool {
				return k.gvk.Group == "packages.operators.coreos.com" ||
					k.gvk.Group == "metrics.k8s.io" || strings.HasSuffix(k.gvk.Group, ".metrics.k8s.io")
			}},
		{Rule: Rule{Name: "views", Reason: "another view of objects that are collected", Remade: true},
			kind: func(_ wish, k kind) bool {
				if k.gvk.Group == "image.openshift.io" {
					return strings.HasPrefix(k.gvk.Kind, "ImageStream") && k.gvk.Kind != "ImageStream" || k.gvk.Kind == "ImageTag"
				}
				return k.gvk.Group == "authorization.openshift.io" || k.gvk.Group == "project.openshift.io"
			}},
	}
}

func objectRules() []rule {
	return []rule{
		{Rule: Rule{Name: "being-deleted", Reason: "is being deleted", Remade: true},
			object: func(_ *view, o *unstructured.Unstructured) bool { return o.GetDeletionTimestamp() != nil }},
		{Rule: Rule{Name: "skip-resource", Reason: "carries the annotation skip-resource"},
			object: func(_ *view, o *unstructured.Unstructured) bool { return SkipAsked(o.GetAnnotations()) }},
		{Rule: Rule{Name: "holder", Reason: "is there only while Godwit reads a volume", Remade: true},
			object: func(_ *view, o *unstructured.Unstructured) bool { return o.GetLabels()[labelRole] != "" }},
		{Rule: Rule{Name: "excluded-label", Reason: "carries a label of excludeSelectors"}, object: excludedLabel},
		{Rule: Rule{Name: "not-selected", Reason: "matches none of resourceSelectors"}, object: notSelected},
		{Rule: Rule{Name: "controlled", Reason: "made again by its controller", Remade: true}, object: controlled},
		{Rule: Rule{Name: "finished", Reason: "has run to its end and would run again on the target"}, object: finished},
		{Rule: Rule{Name: "helm-hook", Reason: "a Job or Pod of a Helm hook, which would run again on the target"},
			object: func(_ *view, o *unstructured.Unstructured) bool {
				_, hook := o.GetAnnotations()["helm.sh/hook"]
				return hook && (isKind(o, "batch", "Job") || isKind(o, "", "Pod"))
			}},
		{Rule: Rule{Name: "made-by-cluster", Reason: "every cluster makes its own", Remade: true}, object: madeByCluster},
		{Rule: Rule{Name: "service-account-token", Reason: "a token or registry login that only this cluster accepts", Remade: true}, object: tokenSecret},
		{Rule: Rule{Name: "serving-cert", Reason: "a certificate that OpenShift's service CA of this cluster made for a Service; a target without OpenShift needs one of its own", Remade: true},
			object: func(_ *view, o *unstructured.Unstructured) bool {
				return isKind(o, "", "Secret") && servingCert(o.GetAnnotations())
			}},
		{Rule: Rule{Name: "endpoints", Reason: "made again from a Service and its pods", Remade: true}, object: madeEndpoints},
		{Rule: Rule{Name: "leader-lock", Reason: "a lock held by a process of this cluster", Remade: true},
			object: func(_ *view, o *unstructured.Unstructured) bool {
				_, locked := o.GetAnnotations()["control-plane.alpha.kubernetes.io/leader"]
				return locked
			}},
		{Rule: Rule{Name: "system-role", Reason: "granted by every cluster itself", Remade: true}, object: systemRole},
		{Rule: Rule{Name: "network-policy-cidr", Reason: "names addresses of this cluster's network: set includeNetworkPolicyWithCIDR to move it"}, object: cidrPolicy},
		{Rule: Rule{Name: "claim-not-bound", Reason: "the claim is not bound, so there is no volume to move"},
			object: func(_ *view, o *unstructured.Unstructured) bool {
				return isKind(o, "", "PersistentVolumeClaim") && shape.Text(o.Object, "status", "phase") != "Bound"
			}},
		{Rule: Rule{Name: "copied", Reason: "a copy that the operator life cycle manager makes again", Remade: true},
			object: func(_ *view, o *unstructured.Unstructured) bool {
				_, copied := o.GetLabels()["olm.copiedFrom"]
				return copied
			}},
		{Rule: Rule{Name: "owned", Reason: "made again by its owner, which is collected", Remade: true}, object: owned},
	}
}

// groups holds for every kind of these API groups.
func groups(names ...string) func(wish, kind) bool {
	return func(_ wish, k kind) bool {
		for _, name := range names {
			if k.gvk.Group == name {
				return true
			}
		}
		return false
	}
}

// kinds holds for one kind in these API groups.
func kinds(name string, groups ...string) func(wish, kind) bool {
	return func(_ wish, k kind) bool {
		for _, group := range groups {
			if k.is(group, name) {
				return true
			}
		}
		return false
	}
}

func isKind(obj *unstructured.Unstructured, group, kind string) bool {
	return obj.GroupVersionKind().GroupKind() == schema.GroupKind{Group: group, Kind: kind}
}

func excludedLabel(v *view, obj *unstructured.Unstructured) bool {
	labels := obj.GetLabels()
	for key, value := range v.selection.ExcludeSelectors {
		if got, ok := labels[key]; ok && got == value {
			return true
		}
	}
	return false
}

// notSelected lets claims through, which move with their volumes.
func notSelected(v *view, obj *unstructured.Unstructured) bool {
	return len(v.selectors) > 0 && !isKind(obj, "", "PersistentVolumeClaim") && !matchesAny(v.selectors, obj, RefOf(obj))
}

// controlled holds for what the built-in controllers keep in number. It holds
// even with ignoreOwnerReferencesCheck, as in stork: a ReplicaSet beside its
// Deployment would only be adopted or fought over.
func controlled(_ *view, obj *unstructured.Unstructured) bool {
	gk := obj.GroupVersionKind().GroupKind()
	switch gk {
	case schema.GroupKind{Kind: "Pod"},
		schema.GroupKind{Kind: "ReplicationController"},
		schema.GroupKind{Group: "apps", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "batch", Kind: "Job"}:
	default:
		return false
	}
	for _, ref := range obj.GetOwnerReferences() {
		if ref.Controller != nil && *ref.Controller {
			return true
		}
	}
	return false
}

func finished(_ *view, obj *unstructured.Unstructured) bool {
	if isKind(obj, "", "Pod") {
		phase := shape.Text(obj.Object, "status", "phase")
		return phase == "Succeeded" || phase == "Failed"
	}
	if !isKind(obj, "batch", "Job") {
		return false
	}
	for _, condition := range shape.List(obj.Object, "status", "conditions") {
		kind := shape.Text(condition, "type")
		if (kind == "Complete" || kind == "Failed") && shape.Text(condition, "status") == "True" {
			return true
		}
	}
	return false
}

func madeByCluster(_ *view, obj *unstructured.Unstructured) bool {
	name := obj.GetName()
	switch obj.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Kind: "ConfigMap"}:
		return name == "kube-root-ca.crt" || name == "openshift-service-ca.crt" || name == "istio-ca-root-cert"
	case schema.GroupKind{Kind: "ResourceQuota"}:
		return name == "gke-resource-quotas"
	case schema.GroupKind{Kind: "ServiceAccount"}:
		return defaultAccount(obj)
	case schema.GroupKind{Kind: "Service"},
		schema.GroupKind{Kind: "Endpoints"},
		schema.GroupKind{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:
		return name == "kubernetes" && obj.GetNamespace() == "default"
	}
	return false
}

// defaultAccount holds for an account that every namespace gets, unless somebody
// gave it a registry login.
func defaultAccount(obj *unstructured.Unstructured) bool {
	name := obj.GetName()
	if name != "default" && name != "builder" && name != "deployer" {
		return false
	}
	for _, login := range shape.List(obj.Object, "imagePullSecrets") {
		if !strings.HasPrefix(shape.Text(login, "name"), name+"-dockercfg") {
			return false
		}
	}
	return true
}

func tokenSecret(_ *view, obj *unstructured.Unstructured) bool {
	if !isKind(obj, "", "Secret") {
		return false
	}
	switch shape.Text(obj.Object, "type") {
	case "kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token":
		return true
	case "kubernetes.io/dockercfg":
		for _, account := range []string{"builder", "default", "deployer"} {
			if strings.HasPrefix(obj.GetName(), account+"-dockercfg-") {
				return true
			}
		}
		_, generated := obj.GetAnnotations()["openshift.io/internal-registry-auth-token.service-account"]
		return generated
	}
	return false
}

// servingCert tells of what a service CA keeps about the Service that asked.
func servingCert(annotations map[string]string) bool {
	for _, prefix := range []string{"service.alpha.openshift.io/", "service.beta.openshift.io/"} {
		if annotations[prefix+"originating-service-name"] != "" {
			return true
		}
	}
	return false
}

// madeEndpoints tells endpoints of a Service with a selector from those that
// somebody wrote by hand.
func madeEndpoints(v *view, obj *unstructured.Unstructured) bool {
	if asked(obj.GetAnnotations(), "include-resource") {
		return false
	}
	if isKind(obj, "discovery.k8s.io", "EndpointSlice") {
		manager := obj.GetLabels()["endpointslice.kubernetes.io/managed-by"]
		return strings.HasSuffix(manager, "-controller.k8s.io")
	}
	if !isKind(obj, "", "Endpoints") {
		return false
	}
	if obj.GetLabels()["endpoints.kubernetes.io/managed-by"] == "endpoint-controller" {
		return true
	}
	for _, subset := range shape.List(obj.Object, "subsets") {
		for _, addresses := range []string{"addresses", "notReadyAddresses"} {
			for _, address := range shape.List(subset, addresses) {
				if shape.Child(address, "targetRef") != nil {
					return true
				}
			}
		}
	}
	return v.selecting[types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}]
}

func systemRole(_ *view, obj *unstructured.Unstructured) bool {
	if obj.GroupVersionKind().Group != "rbac.authorization.k8s.io" {
		return false
	}
	name := obj.GetName()
	return strings.HasPrefix(name, "system:") && !strings.HasPrefix(name, "system:openshift:scc")
}

func cidrPolicy(v *view, obj *unstructured.Unstructured) bool {
	if v.selection.IncludeNetworkPolicyWithCIDR || !isKind(obj, "networking.k8s.io", "NetworkPolicy") {
		return false
	}
	for rules, peers := range map[string]string{"ingress": "from", "egress": "to"} {
		for _, policy := range shape.List(obj.Object, "spec", rules) {
			for _, peer := range shape.List(policy, peers) {
				if shape.Child(peer, "ipBlock") != nil {
					return true
				}
			}
		}
	}
	return false
}

// owned holds for an object whose owner moves and will make it again. Claims,
// Secrets and ConfigMaps move all the same: their owner would make them empty, or
// with another password than the one in the data.
func owned(v *view, obj *unstructured.Unstructured) bool {
	if v.selection.IgnoreOwnerReferencesCheck {
		return false
	}
	switch obj.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Kind: "PersistentVolumeClaim"},
		schema.GroupKind{Kind: "Secret"},
		schema.GroupKind{Kind: "ConfigMap"}:
		return false
	}
	for _, ref := range obj.GetOwnerReferences() {
		if v.comesBack(ref.UID) {
			return true
		}
	}
	return false
}

package workload

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Wave is a set of objects that may be written side by side, once all objects of
// earlier waves stand.
type Wave struct {
	Name    string
	Objects []unstructured.Unstructured
}

// rank is a wave's place. The order is the order of the constants.
type rank int

const (
	rankDefinitions rank = iota
	rankClasses
	rankNamespaces
	rankLimits
	rankAccounts
	rankConfig
	rankRoles
	rankBindings
	rankClaims
	rankServices
	rankWorkloads
	rankRest
	rankWebhooks
)

func (r rank) String() string {
	return [...]string{
		"custom resource definitions", "classes", "namespaces", "quotas and limits", "service accounts",
		"configuration", "roles", "role bindings", "claims", "services and policies",
		"workloads", "all else", "admission webhooks",
	}[r]
}

// Order sorts objects into the waves in which they are to be written. Empty waves
// are left out. Within a wave the order is by kind, namespace and name.
func Order(objects []unstructured.Unstructured) []Wave {
	byRank := make(map[rank][]unstructured.Unstructured)
	for _, obj := range objects {
		r := rankOf(obj.GroupVersionKind().GroupKind())
		byRank[r] = append(byRank[r], obj)
	}
	var waves []Wave
	for r := rankDefinitions; r <= rankWebhooks; r++ {
		members := byRank[r]
		if len(members) == 0 {
			continue
		}
		slices.SortStableFunc(members, func(a, b unstructured.Unstructured) int {
			return strings.Compare(RefOf(&a).String(), RefOf(&b).String())
		})
		waves = append(waves, Wave{Name: r.String(), Objects: members})
	}
	return waves
}

// rankOf puts what a pod needs before it, and what needs to be there when pods
// start (network policies, disruption budgets) before them too. Custom resources
// come late: their operators are workloads, and they admit them by webhook. The
// configurations of webhooks come last of all: until then nothing waits for pods
// that are only being started.
func rankOf(gk schema.GroupKind) rank {
	switch gk.Group {
	case "apiextensions.k8s.io":
		return rankDefinitions
	case "":
		return rankOfCore(gk.Kind)
	case "rbac.authorization.k8s.io":
		if strings.HasSuffix(gk.Kind, "Binding") {
			return rankBindings
		}
		return rankRoles
	case "scheduling.k8s.io", "storage.k8s.io", "node.k8s.io":
		return rankClasses
	case "admissionregistration.k8s.io":
		return rankWebhooks
	case "networking.k8s.io":
		if gk.Kind == "IngressClass" {
			return rankClasses
		}
		return rankServices
	case "discovery.k8s.io", "policy", "gateway.networking.k8s.io", "route.openshift.io":
		return rankServices
	case "apps", "batch", "apps.openshift.io":
		return rankWorkloads
	}
	return rankRest
}

func rankOfCore(kind string) rank {
	switch kind {
	case "Namespace":
		return rankNamespaces
	case "ResourceQuota", "LimitRange":
		return rankLimits
	case "ServiceAccount":
		return rankAccounts
	case "ConfigMap", "Secret":
		return rankConfig
	case "PersistentVolumeClaim":
		return rankClaims
	case "Service", "Endpoints":
		return rankServices
	case "Pod", "ReplicationController":
		return rankWorkloads
	}
	return rankRest
}

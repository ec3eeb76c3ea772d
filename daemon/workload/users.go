package workload

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Uses says whether a claim is one of those that are asked about.
type Uses func(namespace, claim string) bool

// UsersOf lists the workloads that run, or may at any moment, with a volume of any
// of the claims.
func UsersOf(ctx context.Context, c Cluster, namespaces []string, uses Uses) ([]Stopped, error) {
	claims, err := claimsIn(ctx, c, namespaces, uses)
	if err != nil {
		return nil, err
	}
	return runningWhere(ctx, c, Selection{Namespaces: namespaces}, func(obj *unstructured.Unstructured) bool {
		return usesAny(obj, uses, claims[obj.GetNamespace()])
	})
}

// claimsIn are the names of the claims that are there, by namespace.
func claimsIn(ctx context.Context, c Cluster, namespaces []string, uses Uses) (map[string][]string, error) {
	mapping, err := c.Mapper.RESTMapping(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim").GroupKind(), "v1")
	if err != nil {
		return nil, fmt.Errorf("ask how claims are served: %w", err)
	}
	found := map[string][]string{}
	for _, namespace := range namespaces {
		list, err := c.Dynamic.Resource(mapping.Resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the claims of namespace %s: %w", namespace, err)
		}
		for i := range list.Items {
			if name := list.Items[i].GetName(); uses(namespace, name) {
				found[namespace] = append(found[namespace], name)
			}
		}
	}
	return found, nil
}

// usesAny looks at the volumes of the pods that a workload makes, and at the claims
// that a StatefulSet makes for each of them.
func usesAny(obj *unstructured.Unstructured, uses Uses, claims []string) bool {
	volumes, _, err := unstructured.NestedSlice(podSpec(obj), "volumes")
	if err != nil {
		return false
	}
	for _, v := range volumes {
		volume, _ := v.(map[string]any)
		name, found, err := unstructured.NestedString(volume, "persistentVolumeClaim", "claimName")
		if err == nil && found && uses(obj.GetNamespace(), name) {
			return true
		}
	}
	templates, _, err := unstructured.NestedSlice(obj.Object, "spec", "volumeClaimTemplates")
	if err != nil {
		return false
	}
	for _, t := range templates {
		template, _ := t.(map[string]any)
		name, _, err := unstructured.NestedString(template, "metadata", "name")
		if err != nil {
			continue
		}
		for _, claim := range claims {
			ordinal, found := strings.CutPrefix(claim, name+"-"+obj.GetName()+"-")
			if found && strings.Trim(ordinal, "0123456789") == "" {
				return true
			}
		}
	}
	return false
}

// ClaimOf is the claim that a pod has a volume of, among those that are asked about;
// empty for none, and for a pod that has ended.
func ClaimOf(pod *corev1.Pod, uses Uses) string {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return ""
	}
	for _, volume := range pod.Spec.Volumes {
		name := ""
		switch {
		case volume.PersistentVolumeClaim != nil:
			name = volume.PersistentVolumeClaim.ClaimName
		case volume.Ephemeral != nil:
			name = pod.Name + "-" + volume.Name
		}
		if name != "" && uses(pod.Namespace, name) {
			return name
		}
	}
	return ""
}

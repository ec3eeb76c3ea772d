package workload

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestOrder(t *testing.T) {
	var in []unstructured.Unstructured
	for _, document := range []string{
		"Widget example.com/v1", "Deployment apps/v1", "RoleBinding rbac.authorization.k8s.io/v1",
		"NetworkPolicy networking.k8s.io/v1", "Secret v1", "PersistentVolumeClaim v1", "Service v1",
		"Role rbac.authorization.k8s.io/v1", "HorizontalPodAutoscaler autoscaling/v2", "ServiceAccount v1",
		"ResourceQuota v1", "ConfigMap v1", "Namespace v1", "CustomResourceDefinition apiextensions.k8s.io/v1",
	} {
		kind, version, _ := strings.Cut(document, " ")
		obj := unstructured.Unstructured{Object: map[string]any{}}
		obj.SetAPIVersion(version)
		obj.SetKind(kind)
		obj.SetName("x")
		in = append(in, obj)
	}
	var got []string
	for _, wave := range Order(in) {
		var kinds []string
		for _, obj := range wave.Objects {
			kinds = append(kinds, obj.GetKind())
		}
		got = append(got, wave.Name+": "+strings.Join(kinds, " "))
	}
	want := []string{
		"custom resource definitions: CustomResourceDefinition",
		"namespaces: Namespace",
		"quotas and limits: ResourceQuota",
		"service accounts: ServiceAccount",
		"configuration: ConfigMap Secret",
		"roles: Role",
		"role bindings: RoleBinding",
		"claims: PersistentVolumeClaim",
		"services and policies: NetworkPolicy Service",
		"workloads: Deployment",
		"all else: HorizontalPodAutoscaler Widget",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

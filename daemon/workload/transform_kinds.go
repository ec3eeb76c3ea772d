package workload

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// mapSubjects follows renamed namespaces into the three ways to name accounts.
func mapSubjects(t *transformer, obj *unstructured.Unstructured) error {
	if !isKind(obj, "rbac.authorization.k8s.io", "RoleBinding") {
		return nil
	}
	const account, accounts = "system:serviceaccount:", "system:serviceaccounts:"
	for _, subject := range list(obj.Object, "subjects") {
		name := text(subject, "name")
		switch text(subject, "kind") {
		case "ServiceAccount":
			if namespace := text(subject, "namespace"); namespace != "" {
				subject["namespace"] = t.namespace(namespace)
			}
		case "User":
			if rest, ok := strings.CutPrefix(name, account); ok {
				namespace, user, _ := strings.Cut(rest, ":")
				subject["name"] = account + t.namespace(namespace) + ":" + user
			}
		case "Group":
			if namespace, ok := strings.CutPrefix(name, accounts); ok {
				subject["name"] = accounts + t.namespace(namespace)
			}
		}
	}
	return nil
}

// mapStorageClasses follows renamed classes into claims and into the templates
// that make claims.
func mapStorageClasses(t *transformer, obj *unstructured.Unstructured) error {
	t.mapClaimClass(claimSpec(obj))
	if isKind(obj, "apps", "StatefulSet") {
		for _, template := range list(obj.Object, "spec", "volumeClaimTemplates") {
			t.mapClaimClass(child(template, "spec"))
		}
	}
	for _, volume := range list(podSpec(obj), "volumes") {
		t.mapClaimClass(child(volume, "ephemeral", "volumeClaimTemplate", "spec"))
	}
	return nil
}

func (t *transformer) mapClaimClass(spec map[string]any) {
	if class := text(spec, "storageClassName"); class != "" {
		spec["storageClassName"] = t.storageClass(class)
	}
}

func claimSpec(obj *unstructured.Unstructured) map[string]any {
	if !isKind(obj, "", "PersistentVolumeClaim") {
		return nil
	}
	return child(obj.Object, "spec")
}

// podSpec returns the pod that the object is, or that it makes; nil if neither.
func podSpec(obj *unstructured.Unstructured) map[string]any {
	switch obj.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Kind: "Pod"}:
		return child(obj.Object, "spec")
	case schema.GroupKind{Group: "batch", Kind: "CronJob"}:
		return child(obj.Object, "spec", "jobTemplate", "spec", "template", "spec")
	case schema.GroupKind{Kind: "ReplicationController"},
		schema.GroupKind{Group: "apps", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"},
		schema.GroupKind{Group: "apps", Kind: "DaemonSet"},
		schema.GroupKind{Group: "apps", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "apps.openshift.io", Kind: "DeploymentConfig"},
		schema.GroupKind{Group: "batch", Kind: "Job"}:
		return child(obj.Object, "spec", "template", "spec")
	}
	return nil
}

// cleanService drops the addresses and ports that the source gave out. A headless
// Service has none; its "None" is a wish.
func cleanService(t *transformer, obj *unstructured.Unstructured) error {
	if !isKind(obj, "", "Service") {
		return nil
	}
	spec := child(obj.Object, "spec")
	if t.options.SkipServiceUpdate || asked(obj.GetAnnotations(), "skip-modify-resource") {
		return nil
	}
	if text(spec, "clusterIP") == "None" {
		return nil
	}
	for _, field := range []string{"clusterIP", "clusterIPs", "loadBalancerIP", "healthCheckNodePort"} {
		delete(spec, field)
	}
	for _, port := range list(spec, "ports") {
		delete(port, "nodePort")
	}
	return nil
}

// bindClaim points the claim at its volume on the target. What it was filled from
// in the source, and how it chose its volume there, are settled by the volume.
func bindClaim(t *transformer, obj *unstructured.Unstructured) error {
	spec := claimSpec(obj)
	if spec == nil {
		return nil
	}
	for _, field := range []string{"volumeName", "dataSource", "dataSourceRef", "selector"} {
		delete(spec, field)
	}
	volume, ok := t.options.Volumes[types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}]
	if !ok {
		return nil
	}
	if volume.PersistentVolume != "" {
		spec["volumeName"] = volume.PersistentVolume
	}
	if volume.StorageClass != "" {
		spec["storageClassName"] = volume.StorageClass
	}
	return nil
}

// cleanServiceAccount drops the names of tokens and registry logins that only the
// source's controllers could make.
func cleanServiceAccount(_ *transformer, obj *unstructured.Unstructured) error {
	if !isKind(obj, "", "ServiceAccount") {
		return nil
	}
	delete(obj.Object, "secrets")
	filter(obj.Object, "imagePullSecrets", func(login map[string]any) bool {
		return !strings.HasPrefix(text(login, "name"), obj.GetName()+"-dockercfg-")
	})
	return nil
}

// cleanJob drops the UID by which a Job knows its pods. A Job whose user chose the
// selector keeps it.
func cleanJob(_ *transformer, obj *unstructured.Unstructured) error {
	if !isKind(obj, "batch", "Job") {
		return nil
	}
	spec := child(obj.Object, "spec")
	if manual, ok := spec["manualSelector"].(bool); ok && manual {
		return nil
	}
	delete(spec, "selector")
	dropLabels(child(obj.Object, "metadata"), jobLabels()...)
	dropLabels(child(spec, "template", "metadata"), jobLabels()...)
	return nil
}

func jobLabels() []string {
	return []string{
		"controller-uid", "job-name",
		"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name",
	}
}

func dropLabels(metadata map[string]any, keys ...string) {
	labels := child(metadata, "labels")
	for _, key := range keys {
		delete(labels, key)
	}
	if labels != nil && len(labels) == 0 {
		delete(metadata, "labels")
	}
}

// cleanPod drops from a bare Pod what admission and the scheduler of the source
// put there, and which the target would refuse or not have.
func cleanPod(_ *transformer, obj *unstructured.Unstructured) error {
	if !isKind(obj, "", "Pod") {
		return nil
	}
	spec := child(obj.Object, "spec")
	for _, field := range []string{"nodeName", "priority", "ephemeralContainers"} {
		delete(spec, field)
	}
	token := func(name string) bool { return strings.HasPrefix(name, "kube-api-access-") }
	filter(spec, "volumes", func(volume map[string]any) bool { return !token(text(volume, "name")) })
	for _, containers := range []string{"containers", "initContainers"} {
		for _, container := range list(spec, containers) {
			filter(container, "volumeMounts", func(mount map[string]any) bool { return !token(text(mount, "name")) })
		}
	}
	return nil
}

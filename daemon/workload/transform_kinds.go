package workload

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// mapStorageClasses follows renamed classes into claims and into the templates
// that make claims.
func mapStorageClasses(t *transformer, obj *unstructured.Unstructured) error {
	t.mapClaimClass(claimSpec(obj))
	if isKind(obj, "apps", "StatefulSet") {
		for _, template := range shape.List(obj.Object, "spec", "volumeClaimTemplates") {
			t.mapClaimClass(shape.Child(template, "spec"))
		}
	}
	for _, volume := range shape.List(podSpec(obj), "volumes") {
		t.mapClaimClass(shape.Child(volume, "ephemeral", "volumeClaimTemplate", "spec"))
	}
	if isKind(obj, "", "ResourceQuota") {
		t.mapQuotas(shape.Child(obj.Object, "spec"))
	}
	return nil
}

// mapQuotas renames the limits that a quota sets for single classes.
func (t *transformer) mapQuotas(spec map[string]any) {
	const suffix = ".storageclass.storage.k8s.io/"
	hard := shape.Child(spec, "hard")
	if hard == nil {
		return
	}
	renamed := make(map[string]any, len(hard))
	for key, value := range hard {
		if class, what, found := strings.Cut(key, suffix); found {
			key = t.storageClass(class) + suffix + what
		}
		renamed[key] = value
	}
	spec["hard"] = renamed
}

func (t *transformer) mapClaimClass(spec map[string]any) {
	if class := shape.Text(spec, "storageClassName"); class != "" {
		spec["storageClassName"] = t.storageClass(class)
	}
}

func claimSpec(obj *unstructured.Unstructured) map[string]any {
	if !isKind(obj, "", "PersistentVolumeClaim") {
		return nil
	}
	return shape.Child(obj.Object, "spec")
}

// podSpec returns the spec of the pod that the object is, or that it makes; nil if
// neither.
func podSpec(obj *unstructured.Unstructured) map[string]any {
	return shape.Child(shape.PodTemplate(obj), "spec")
}

// cleanService drops the address that the source's load balancer gave out. The
// cluster's own addresses and node ports are KeepAddresses' affair.
func cleanService(t *transformer, obj *unstructured.Unstructured) error {
	if !isKind(obj, "", "Service") || t.options.SkipServiceUpdate || asked(obj.GetAnnotations(), "skip-modify-resource") {
		return nil
	}
	delete(shape.Child(obj.Object, "spec"), "loadBalancerIP")
	return nil
}

// cleanRoute drops a host that OpenShift made of the source cluster's own domain.
func cleanRoute(_ *transformer, obj *unstructured.Unstructured) error {
	const generated = "openshift.io/host.generated"
	if isKind(obj, "route.openshift.io", "Route") && obj.GetAnnotations()[generated] == "true" {
		delete(shape.Child(obj.Object, "spec"), "host")
		removeAnnotations(obj, generated)
	}
	return nil
}

// cleanClaim drops what a claim was filled from in the source, and how it chose its
// volume there: both are settled by the volume.
func cleanClaim(_ *transformer, obj *unstructured.Unstructured) error {
	if spec := claimSpec(obj); spec != nil {
		for _, field := range []string{"volumeName", "dataSource", "dataSourceRef", "selector"} {
			delete(spec, field)
		}
	}
	return nil
}

// bindClaim points the claim at its volume on the target.
func bindClaim(t *transformer, obj *unstructured.Unstructured) error {
	spec := claimSpec(obj)
	if spec == nil {
		return nil
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
	if len(volume.AccessModes) > 0 {
		modes := make([]any, 0, len(volume.AccessModes))
		for _, mode := range volume.AccessModes {
			modes = append(modes, mode)
		}
		spec["accessModes"] = modes
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
	shape.Filter(obj.Object, "imagePullSecrets", func(login map[string]any) bool {
		return !strings.HasPrefix(shape.Text(login, "name"), obj.GetName()+"-dockercfg-")
	})
	return nil
}

// cleanJob drops the UID by which a Job knows its pods. A Job whose user chose the
// selector keeps it.
func cleanJob(_ *transformer, obj *unstructured.Unstructured) error {
	if !isKind(obj, "batch", "Job") {
		return nil
	}
	spec := shape.Child(obj.Object, "spec")
	if manual, ok := spec["manualSelector"].(bool); ok && manual {
		return nil
	}
	delete(spec, "selector")
	dropLabels(shape.Child(obj.Object, "metadata"), jobLabels()...)
	dropLabels(shape.Child(spec, "template", "metadata"), jobLabels()...)
	return nil
}

func jobLabels() []string {
	return []string{
		"controller-uid", "job-name",
		"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name",
	}
}

func dropLabels(metadata map[string]any, keys ...string) {
	labels := shape.Child(metadata, "labels")
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
	spec := shape.Child(obj.Object, "spec")
	for _, field := range []string{"nodeName", "priority", "ephemeralContainers"} {
		delete(spec, field)
	}
	token := func(name string) bool { return strings.HasPrefix(name, "kube-api-access-") }
	shape.Filter(spec, "volumes", func(volume map[string]any) bool { return !token(shape.Text(volume, "name")) })
	for _, containers := range []string{"containers", "initContainers"} {
		for _, container := range shape.List(spec, containers) {
			shape.Filter(container, "volumeMounts", func(mount map[string]any) bool { return !token(shape.Text(mount, "name")) })
		}
	}
	return nil
}

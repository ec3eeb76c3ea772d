// Package convert changes objects from API versions that Kubernetes has removed to
// those that a cluster serves.
//
// Its words: a Step is one row of the table, from one group, version and kind to
// another. It changes an object only where nothing of its meaning is lost, also
// where defaults differ; anything else is an Unserved error, and the object stays
// as it was.
package convert

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Unserved says that the cluster does not serve the object's kind, and that
// nothing could be made of it that the cluster does serve.
type Unserved struct {
	GVK    schema.GroupVersionKind
	Reason string
}

// Error names the kind.
func (e *Unserved) Error() string {
	return fmt.Sprintf("the target does not serve %s, Kind=%s%s", e.GVK.GroupVersion(), e.GVK.Kind, e.Reason)
}

// Step is one row of the table.
type Step struct {
	From, To schema.GroupVersionKind
	change   func(object map[string]any) error
}

// ToServed changes the object, if need be, to a version that is served. It returns
// the step that did, or nil. On an Unserved error the object is as it was.
func ToServed(obj *unstructured.Unstructured, serves func(schema.GroupVersionKind) bool) (*Step, error) {
	from := obj.GroupVersionKind()
	if serves(from) {
		return nil, nil
	}
	reason := ", and Godwit knows no conversion: install what serves it, or convert it by hand"
	for _, step := range Table() {
		if step.From != from || !serves(step.To) {
			continue
		}
		err := step.apply(obj)
		if err == nil {
			return &step, nil
		}
		reason = fmt.Sprintf(", and it cannot become %s: %v", step.To.GroupVersion(), err)
	}
	return nil, &Unserved{GVK: from, Reason: reason}
}

// To changes the object to a version that somebody asks for.
func To(obj *unstructured.Unstructured, wanted schema.GroupVersion) (*Step, error) {
	from := obj.GroupVersionKind()
	for _, step := range Table() {
		if step.From == from && step.To.GroupVersion() == wanted {
			if err := step.apply(obj); err != nil {
				return nil, fmt.Errorf("it cannot become %s: %w", wanted, err)
			}
			return &step, nil
		}
	}
	return nil, fmt.Errorf("no conversion from %s to %s is known", from.GroupVersion(), wanted)
}

func (s Step) apply(obj *unstructured.Unstructured) error {
	changed := obj.DeepCopy()
	if s.change != nil {
		if err := s.change(changed.Object); err != nil {
			return err
		}
	}
	changed.SetGroupVersionKind(s.To)
	obj.Object = changed.Object
	return nil
}

// Table lists the removed versions and what becomes of them.
func Table() []Step {
	var out []Step
	row := func(kind, to string, change func(map[string]any) error, froms ...string) {
		for _, from := range froms {
			out = append(out, Step{From: gvk(from, kind), To: gvk(to, kind), change: change})
		}
	}
	row("Ingress", "networking.k8s.io/v1", ingress, "extensions/v1beta1", "networking.k8s.io/v1beta1")
	row("IngressClass", "networking.k8s.io/v1", nil, "networking.k8s.io/v1beta1")
	row("NetworkPolicy", "networking.k8s.io/v1", nil, "extensions/v1beta1")
	row("Deployment", "apps/v1", deployment, "extensions/v1beta1")
	row("Deployment", "apps/v1", deploymentBeta, "apps/v1beta1")
	row("Deployment", "apps/v1", nil, "apps/v1beta2")
	row("DaemonSet", "apps/v1", daemonSet, "extensions/v1beta1")
	row("DaemonSet", "apps/v1", nil, "apps/v1beta2")
	row("ReplicaSet", "apps/v1", selected, "extensions/v1beta1")
	row("ReplicaSet", "apps/v1", nil, "apps/v1beta2")
	row("StatefulSet", "apps/v1", statefulSet, "apps/v1beta1")
	row("StatefulSet", "apps/v1", nil, "apps/v1beta2")
	row("ControllerRevision", "apps/v1", nil, "apps/v1beta1", "apps/v1beta2")
	row("CronJob", "batch/v1", nil, "batch/v1beta1", "batch/v2alpha1")
	row("CronJob", "batch/v1beta1", nil, "batch/v2alpha1")
	out = append(out, Step{From: gvk("batch/v2alpha1", "ScheduledJob"), To: gvk("batch/v1", "CronJob")})
	row("PodDisruptionBudget", "policy/v1", disruptionBudget, "policy/v1beta1")
	row("HorizontalPodAutoscaler", "autoscaling/v2", nil, "autoscaling/v2beta2")
	row("HorizontalPodAutoscaler", "autoscaling/v2", autoscaler, "autoscaling/v2beta1")
	row("EndpointSlice", "discovery.k8s.io/v1", endpointSlice, "discovery.k8s.io/v1beta1")
	for _, kind := range []string{"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} {
		row(kind, "rbac.authorization.k8s.io/v1", rbac, "rbac.authorization.k8s.io/v1alpha1")
		row(kind, "rbac.authorization.k8s.io/v1", nil, "rbac.authorization.k8s.io/v1beta1")
	}
	row("PriorityClass", "scheduling.k8s.io/v1", nil, "scheduling.k8s.io/v1alpha1", "scheduling.k8s.io/v1beta1")
	row("StorageClass", "storage.k8s.io/v1", nil, "storage.k8s.io/v1beta1")
	for _, kind := range []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"} {
		row(kind, "admissionregistration.k8s.io/v1", webhooks, "admissionregistration.k8s.io/v1beta1")
	}
	return out
}

func gvk(groupVersion, kind string) schema.GroupVersionKind {
	gv, err := schema.ParseGroupVersion(groupVersion)
	if err != nil {
		return schema.GroupVersionKind{Kind: kind}
	}
	return gv.WithKind(kind)
}

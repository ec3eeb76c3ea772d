package workload

import (
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// startOrHold lets a workload run, or keeps it from running in a way that a later
// start can take back from the object alone.
func startOrHold(t *transformer, s *subject) error {
	obj, start := s.obj, t.options.StartApplications
	var err error
	switch obj.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Kind: "ReplicationController"},
		schema.GroupKind{Group: "apps", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"},
		schema.GroupKind{Group: "apps", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "apps.openshift.io", Kind: "DeploymentConfig"}:
		err = setReplicas(obj, start)
	case schema.GroupKind{Group: "batch", Kind: "CronJob"},
		schema.GroupKind{Group: "batch", Kind: "Job"}:
		err = setSuspend(obj, start)
	case schema.GroupKind{Group: "apps", Kind: "DaemonSet"}:
		err = setNodeSelector(obj, start)
	case schema.GroupKind{Kind: "Pod"}:
		setGate(obj, start)
	case schema.GroupKind{Group: "keda.sh", Kind: "ScaledObject"}, schema.GroupKind{Group: "keda.sh", Kind: "ScaledJob"}:
		pauseKeda(obj, start)
		return nil
	case schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:
		return restAutoscaler(obj, start)
	default:
		return startOrHoldCustom(t, s)
	}
	if err != nil || start {
		return err
	}
	labels := obj.GetLabels()
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[AnnotationMigrated] = "true"
	obj.SetLabels(labels)
	return nil
}

// startOrHoldCustom goes by the registration of the kind, if there is one.
func startOrHoldCustom(t *transformer, s *subject) error {
	h := t.options.Edits.holdingOf(s.obj.GroupVersionKind().GroupKind())
	if h == nil {
		return nil
	}
	if h.stash && !t.options.StartApplications {
		put, err := stashed(s.obj)
		if err != nil {
			return err
		}
		s.obj = put
		return nil
	}
	return h.apply(s.obj, t.options.StartApplications)
}

// setReplicas holds at zero and remembers the number. A workload that stands at
// zero with a remembered number was held by an earlier run, so the number is
// carried on, and used at a start.
func setReplicas(obj *unstructured.Unstructured, start bool) error {
	replicas, set, err := unstructured.NestedInt64(obj.Object, "spec", "replicas")
	if err != nil {
		return err
	}
	if !set {
		replicas = 1
	}
	remembered, err := rememberedReplicas(obj)
	if err != nil {
		return err
	}
	if replicas == 0 && remembered > 0 {
		replicas = remembered
	}
	removeAnnotations(obj, AnnotationReplicas, annotationReplicasOld)
	if start {
		if !set {
			return nil
		}
		return unstructured.SetNestedField(obj.Object, replicas, "spec", "replicas")
	}
	annotate(obj, AnnotationReplicas, strconv.FormatInt(replicas, 10))
	return unstructured.SetNestedField(obj.Object, int64(0), "spec", "replicas")
}

func rememberedReplicas(obj *unstructured.Unstructured) (int64, error) {
	for _, key := range []string{AnnotationReplicas, annotationReplicasOld} {
		value, ok := obj.GetAnnotations()[key]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("annotation %s is %q, not a number of replicas: correct or remove it", key, value)
		}
		return n, nil
	}
	return 0, nil
}

// setSuspend suspends and remembers what was set, so that a CronJob that its user
// had suspended stays so after a start.
func setSuspend(obj *unstructured.Unstructured, start bool) error {
	suspended, _, err := unstructured.NestedBool(obj.Object, "spec", "suspend")
	if err != nil {
		return err
	}
	if value, ok := obj.GetAnnotations()[AnnotationSuspend]; ok && suspended {
		if suspended, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("annotation %s is %q, neither true nor false: correct or remove it", AnnotationSuspend, value)
		}
	}
	removeAnnotations(obj, AnnotationSuspend)
	if start {
		return unstructured.SetNestedField(obj.Object, suspended, "spec", "suspend")
	}
	annotate(obj, AnnotationSuspend, strconv.FormatBool(suspended))
	return unstructured.SetNestedField(obj.Object, true, "spec", "suspend")
}

// setNodeSelector holds a DaemonSet with a selector that no node has, since it
// knows no number of replicas.
func setNodeSelector(obj *unstructured.Unstructured, start bool) error {
	spec := podSpec(obj)
	if spec == nil {
		return fmt.Errorf("the DaemonSet has no spec.template.spec")
	}
	selector := shape.Child(spec, "nodeSelector")
	if start {
		delete(selector, Held)
		if selector != nil && len(selector) == 0 {
			delete(spec, "nodeSelector")
		}
		return nil
	}
	if selector == nil {
		selector = make(map[string]any)
		spec["nodeSelector"] = selector
	}
	selector[Held] = "true"
	return nil
}

// setGate holds a Pod with a scheduling gate: the one field of a Pod that may be
// taken back later without making it again.
func setGate(obj *unstructured.Unstructured, start bool) {
	spec := shape.Child(obj.Object, "spec")
	shape.Filter(spec, "schedulingGates", func(gate map[string]any) bool { return shape.Text(gate, "name") != Held })
	if start || spec == nil {
		return
	}
	gate := map[string]any{"name": Held}
	if others, ok := spec["schedulingGates"].([]any); ok {
		spec["schedulingGates"] = append(others, gate)
		return
	}
	spec["schedulingGates"] = []any{gate}
}

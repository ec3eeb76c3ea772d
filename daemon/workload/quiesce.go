package workload

import (
	"context"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Stopped is a workload that Stop keeps from running, with all that Resume needs.
type Stopped struct {
	Ref Ref
	// Replicas that it had; nil for what has none.
	Replicas *int64
	// Suspended is what spec.suspend was; nil for what has none.
	Suspended *bool
}

// stoppable are the kinds that make pods, and that can be told not to.
func stoppable() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		// What makes workloads comes before what it makes.
		{Group: "batch", Version: "v1", Kind: "CronJob"},
		{Group: "apps.openshift.io", Version: "v1", Kind: "DeploymentConfig"},
		{Group: "apps", Version: "v1", Kind: "Deployment"},
		{Group: "apps", Version: "v1", Kind: "StatefulSet"},
		{Group: "apps", Version: "v1", Kind: "DaemonSet"},
		{Group: "apps", Version: "v1", Kind: "ReplicaSet"},
		{Version: "v1", Kind: "ReplicationController"},
		{Group: "batch", Version: "v1", Kind: "Job"},
	}
}

// Running lists the workloads of the selected namespaces that run pods, or may at
// any moment, and how each of them is.
func Running(ctx context.Context, c Cluster, s Selection) ([]Stopped, error) {
	return runningWhere(ctx, c, s, func(*unstructured.Unstructured) bool { return true })
}

func runningWhere(ctx context.Context, c Cluster, s Selection, wanted func(*unstructured.Unstructured) bool) ([]Stopped, error) {
	var all []Stopped
	for _, gvk := range stoppable() {
		mapping, err := c.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ask how %s is served: %w", gvk.Kind, err)
		}
		for _, namespace := range s.Namespaces {
			list, err := c.Dynamic.Resource(mapping.Resource).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.Set(s.Selectors).String()})
			if err != nil {
				return nil, fmt.Errorf("list %s of namespace %s: %w", gvk.Kind, namespace, err)
			}
			for i := range list.Items {
				obj := &list.Items[i]
				if w, runs := runs(obj); runs && mayStop(s, obj) && wanted(obj) {
					all = append(all, w)
				}
			}
		}
	}
	return all, nil
}

// mayStop leaves alone what does not move, and what its own controller would only
// start again: that one is stopped instead.
func mayStop(s Selection, obj *unstructured.Unstructured) bool {
	for k, v := range s.ExcludeSelectors {
		if got, ok := obj.GetLabels()[k]; ok && got == v {
			return false
		}
	}
	controlled := metav1.GetControllerOf(obj) != nil && obj.GetKind() != "Job"
	return !controlled && !SkipAsked(obj.GetAnnotations()) && obj.GetDeletionTimestamp() == nil
}

func runs(obj *unstructured.Unstructured) (Stopped, bool) {
	w := Stopped{Ref: RefOf(obj)}
	switch obj.GetKind() {
	case "DaemonSet":
		selector, _ := podSpec(obj)["nodeSelector"].(map[string]any)
		_, isHeld := selector[Held]
		return w, !isHeld
	case "CronJob", "Job":
		suspended, _, err := unstructured.NestedBool(obj.Object, "spec", "suspend")
		w.Suspended = &suspended
		return w, err == nil && !suspended && !finishedJob(obj)
	}
	replicas, set, err := unstructured.NestedInt64(obj.Object, "spec", "replicas")
	if !set {
		replicas = 1
	}
	w.Replicas = &replicas
	return w, err == nil && replicas > 0
}

func finishedJob(obj *unstructured.Unstructured) bool {
	if obj.GetKind() != "Job" {
		return false
	}
	conditions, _, err := unstructured.NestedSlice(obj.Object, "status", "conditions")
	if err != nil {
		return false
	}
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && (m["type"] == "Complete" || m["type"] == "Failed") && m["status"] == "True" {
			return true
		}
	}
	return false
}

// Stop keeps one workload from running. What it had is also written on it, where
// a round that is collected meanwhile, and its owner, find it. Doing it again does
// nothing.
func Stop(ctx context.Context, c Cluster, w Stopped) error {
	return change(ctx, c, w, func(obj *unstructured.Unstructured) (bool, error) {
		if _, running := runs(obj); !running {
			return false, nil
		}
		switch {
		case w.Replicas != nil:
			annotate(obj, AnnotationReplicas, strconv.FormatInt(*w.Replicas, 10))
			return true, unstructured.SetNestedField(obj.Object, int64(0), "spec", "replicas")
		case w.Suspended != nil:
			annotate(obj, AnnotationSuspend, strconv.FormatBool(*w.Suspended))
			return true, unstructured.SetNestedField(obj.Object, true, "spec", "suspend")
		}
		return true, setNodeSelector(obj, false)
	})
}

// Resume puts one workload back as it was. One that somebody else has started in
// the meantime keeps what it was given.
func Resume(ctx context.Context, c Cluster, w Stopped) error {
	return change(ctx, c, w, func(obj *unstructured.Unstructured) (bool, error) {
		_, running := runs(obj)
		switch {
		case w.Replicas != nil:
			_, marked := obj.GetAnnotations()[AnnotationReplicas]
			removeAnnotations(obj, AnnotationReplicas)
			if running || !marked {
				return marked, nil
			}
			return true, unstructured.SetNestedField(obj.Object, *w.Replicas, "spec", "replicas")
		case w.Suspended != nil:
			_, marked := obj.GetAnnotations()[AnnotationSuspend]
			removeAnnotations(obj, AnnotationSuspend)
			if running || !marked {
				return marked, nil
			}
			return true, unstructured.SetNestedField(obj.Object, *w.Suspended, "spec", "suspend")
		}
		return !running, setNodeSelector(obj, true)
	})
}

// change writes a workload only as it was read. One that is gone needs nothing.
func change(ctx context.Context, c Cluster, w Stopped, edit func(*unstructured.Unstructured) (bool, error)) error {
	resource, err := resourceOf(c, w.Ref)
	if err != nil {
		return fmt.Errorf("%s: %w", w.Ref, err)
	}
	err = onConflict(func() error {
		obj, err := get(ctx, resource, w.Ref.Name)
		if err != nil || obj == nil {
			return err
		}
		changed, err := edit(obj)
		if err != nil || !changed {
			return err
		}
		_, err = resource.Update(ctx, obj, metav1.UpdateOptions{FieldManager: "godwit"})
		return err
	})
	if err != nil {
		return fmt.Errorf("stop or start %s: %w", w.Ref, err)
	}
	return nil
}

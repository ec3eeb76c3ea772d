package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// The settings by which objects are held and started.
const (
	SettingReplicas = "replicas"
	SettingSuspend  = "suspend"
	// SettingHold is of what has neither: DaemonSets, Pods and autoscalers.
	SettingHold = "hold"
	// SettingFields are those that a registration names.
	SettingFields = "fields"
	// SettingStash is of custom resources that wait in a ConfigMap.
	SettingStash = "stash"
)

// Turned is an object that was started or held.
type Turned struct {
	Ref     Ref
	Setting string
	// Value is what a setting of one value has now.
	Value string
}

// Turn starts what Migrations brought into a namespace and hold there, or holds
// it. Only objects that a Migration wrote are touched, and each is started as it
// was before it was held. It tells what it changed, also beside an error, which
// joins one for each object that it could not turn.
func Turn(ctx context.Context, c Cluster, namespace string, registrations []api.ApplicationResource, start bool) ([]Turned, error) {
	held, err := readHoldings(registrations)
	if err != nil {
		return nil, err
	}
	x := &turning{cluster: c, namespace: namespace, start: start, edits: &Edits{held: held}}
	steps := []func(context.Context) error{x.stashes, x.customs, x.workloads, x.autoscalers}
	if !start {
		// What would start others again is held before them.
		slices.Reverse(steps)
	}
	var all []error
	for _, step := range steps {
		all = append(all, step(ctx))
	}
	return x.turned, errors.Join(all...)
}

type turning struct {
	cluster   Cluster
	namespace string
	start     bool
	edits     *Edits
	turned    []Turned
}

func (x *turning) workloads(ctx context.Context) error {
	kinds := append(stoppable(), schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	if x.start {
		slices.Reverse(kinds)
	}
	return x.turnKinds(ctx, kinds)
}

func (x *turning) autoscalers(ctx context.Context) error {
	return x.turnKinds(ctx, []schema.GroupVersionKind{
		{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
		{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"},
		{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledJob"},
	})
}

func (x *turning) customs(ctx context.Context) error {
	var kinds []schema.GroupVersionKind
	seen := make(map[schema.GroupKind]bool)
	for _, h := range x.edits.held {
		if (len(h.options) > 0 || h.stash) && !seen[h.kind] {
			seen[h.kind] = true
			kinds = append(kinds, h.kind.WithVersion(""))
		}
	}
	return x.turnKinds(ctx, kinds)
}

func (x *turning) turnKinds(ctx context.Context, kinds []schema.GroupVersionKind) error {
	var all []error
	for _, gvk := range kinds {
		objects, err := x.list(ctx, gvk)
		if err != nil {
			all = append(all, err)
			continue
		}
		for i := range objects {
			all = append(all, x.turn(ctx, RefOf(&objects[i])))
		}
	}
	return errors.Join(all...)
}

// list gives the objects of a kind that a Migration wrote; none where the cluster
// does not serve it.
func (x *turning) list(ctx context.Context, gvk schema.GroupVersionKind) ([]unstructured.Unstructured, error) {
	var versions []string
	if gvk.Version != "" {
		versions = []string{gvk.Version}
	}
	mapping, err := x.cluster.Mapper.RESTMapping(gvk.GroupKind(), versions...)
	switch {
	case meta.IsNoMatchError(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("ask how %s is served: %w", gvk.Kind, err)
	case mapping.Scope.Name() != meta.RESTScopeNameNamespace:
		return nil, nil
	}
	list, err := x.cluster.Dynamic.Resource(mapping.Resource).Namespace(x.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list %s of namespace %s: %w", gvk.Kind, x.namespace, err)
	}
	return slices.DeleteFunc(list.Items, func(obj unstructured.Unstructured) bool { return !mayTurn(&obj) }), nil
}

// mayTurn leaves alone what no Migration wrote, and what its own controller makes:
// that has the annotations of its owner.
func mayTurn(obj *unstructured.Unstructured) bool {
	return obj.GetAnnotations()[AnnotationMigrated] == "true" && metav1.GetControllerOf(obj) == nil &&
		obj.GetDeletionTimestamp() == nil && !finishedJob(obj)
}

func (x *turning) turn(ctx context.Context, ref Ref) error {
	resource, err := resourceOf(x.cluster, ref)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	var now *Turned
	err = onConflict(func() error {
		now = nil
		obj, err := get(ctx, resource, ref.Name)
		if err != nil || obj == nil || !mayTurn(obj) {
			return err
		}
		done, err := x.edit(obj)
		if err != nil || done == nil {
			return err
		}
		if _, err = resource.Update(ctx, obj, metav1.UpdateOptions{FieldManager: "godwit"}); err == nil {
			now = done
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", map[bool]string{true: "start", false: "stop"}[x.start], ref, err)
	}
	if now != nil {
		x.turned = append(x.turned, *now)
	}
	return nil
}

// edit starts or holds the object, and says by which setting; nil for one that is
// as it should be.
func (x *turning) edit(obj *unstructured.Unstructured) (*Turned, error) {
	if !x.start {
		if err := x.mayHold(obj); err != nil {
			return nil, err
		}
	}
	before := obj.DeepCopy()
	t := &transformer{options: TransformOptions{Instructions: Instructions{StartApplications: x.start}, Edits: x.edits}}
	if err := startOrHold(t, &subject{obj: obj, from: RefOf(obj)}); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(before.Object, obj.Object) {
		return nil, nil //nolint:nilnil // nothing to do is no error
	}
	if x.start {
		dropLabels(shape.Child(obj.Object, "metadata"), AnnotationMigrated)
	}
	return turnedOf(obj), nil
}

// mayHold refuses what Kubernetes or the kind's operator does not let be held once
// it was started.
func (x *turning) mayHold(obj *unstructured.Unstructured) error {
	if isKind(obj, "", "Pod") {
		gated := slices.ContainsFunc(shape.List(obj.Object, "spec", "schedulingGates"), func(gate map[string]any) bool { return shape.Text(gate, "name") == Held })
		if phase := shape.Text(obj.Object, "status", "phase"); !gated && phase != "Succeeded" && phase != "Failed" {
			return errors.New("no workload made this pod, and a pod that was started cannot be held: delete it")
		}
	}
	if h := x.edits.holdingOf(obj.GroupVersionKind().GroupKind()); h != nil && h.stash {
		return errors.New("its kind is held by not being there: delete it, and start it again from its ConfigMap")
	}
	return nil
}

func turnedOf(obj *unstructured.Unstructured) *Turned {
	done := &Turned{Ref: RefOf(obj), Setting: SettingFields}
	switch obj.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Kind: "ReplicationController"}, schema.GroupKind{Group: "apps", Kind: "Deployment"},
		schema.GroupKind{Group: "apps", Kind: "StatefulSet"}, schema.GroupKind{Group: "apps", Kind: "ReplicaSet"},
		schema.GroupKind{Group: "apps.openshift.io", Kind: "DeploymentConfig"}:
		replicas, set, err := unstructured.NestedInt64(obj.Object, "spec", "replicas")
		if done.Setting = SettingReplicas; err == nil && set {
			done.Value = strconv.FormatInt(replicas, 10)
		}
	case schema.GroupKind{Group: "batch", Kind: "CronJob"}, schema.GroupKind{Group: "batch", Kind: "Job"}:
		suspended, _, err := unstructured.NestedBool(obj.Object, "spec", "suspend")
		if done.Setting = SettingSuspend; err == nil {
			done.Value = strconv.FormatBool(suspended)
		}
	case schema.GroupKind{Group: "apps", Kind: "DaemonSet"}, schema.GroupKind{Kind: "Pod"},
		schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"},
		schema.GroupKind{Group: "keda.sh", Kind: "ScaledObject"}, schema.GroupKind{Group: "keda.sh", Kind: "ScaledJob"}:
		done.Setting = SettingHold
	}
	return done
}

// stashes makes the custom resources that wait in ConfigMaps. The ConfigMaps stay,
// so that a custom resource that is deleted to stop it can be made again.
func (x *turning) stashes(ctx context.Context) error {
	if !x.start {
		return nil
	}
	configMaps := x.cluster.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(x.namespace)
	list, err := configMaps.List(ctx, metav1.ListOptions{LabelSelector: labelStash + "=true"})
	if err != nil {
		return fmt.Errorf("list what waits in ConfigMaps of namespace %s: %w", x.namespace, err)
	}
	var all []error
	for i := range list.Items {
		if cm := &list.Items[i]; mayTurn(cm) {
			if err := x.unstash(ctx, cm); err != nil {
				all = append(all, fmt.Errorf("start what waits in ConfigMap %s/%s: %w", x.namespace, cm.GetName(), err))
			}
		}
	}
	return errors.Join(all...)
}

func (x *turning) unstash(ctx context.Context, cm *unstructured.Unstructured) error {
	data, _, err := unstructured.NestedString(cm.Object, "data", keyStash)
	if err != nil {
		return err
	}
	obj := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(data), &obj.Object); err != nil {
		return fmt.Errorf("key %s: %w", keyStash, err)
	}
	// Whoever may write ConfigMaps must not have others make what they themselves
	// may not.
	group := obj.GroupVersionKind().Group
	if obj.GetNamespace() != x.namespace || !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io") {
		return fmt.Errorf("it holds %s, and only custom resources of namespace %s are started from there", RefOf(obj), x.namespace)
	}
	for _, key := range []string{AnnotationMigrated, AnnotationMigrationName, AnnotationMigrationNamespace, AnnotationMigrationTime} {
		annotate(obj, key, cm.GetAnnotations()[key])
	}
	if h := x.edits.holdingOf(obj.GroupVersionKind().GroupKind()); h != nil {
		if err := h.apply(obj, true); err != nil {
			return err
		}
	}
	resource, err := resourceOf(x.cluster, RefOf(obj))
	if err != nil {
		return err
	}
	_, err = resource.Create(ctx, obj, metav1.CreateOptions{FieldManager: "godwit"})
	if err == nil {
		x.turned = append(x.turned, Turned{Ref: RefOf(obj), Setting: SettingStash})
	}
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

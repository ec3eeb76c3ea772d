package lacks

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// quotas sums up what comes to each namespace, and holds it against the quotas
// there and those that come too. Too many objects are refused whatever starts;
// pods only once they start.
func (s *search) quotas(ctx context.Context) error {
	for _, namespace := range s.namespaces() {
		quotas, err := s.quotasOf(ctx, namespace)
		if err != nil {
			return err
		}
		if len(quotas) == 0 {
			continue
		}
		objects, err := s.objectDemand(ctx, namespace)
		if err != nil {
			return err
		}
		pods, err := s.podDemand(ctx, namespace)
		if err != nil {
			return err
		}
		for i := range quotas {
			s.holdAgainst(&quotas[i], objects, pods)
		}
	}
	return nil
}

func (s *search) namespaces() []string {
	all := make(map[string]bool)
	for i := range s.coming.Objects {
		if namespace := s.coming.Objects[i].GetNamespace(); namespace != "" {
			all[namespace] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// quotasOf are those that will hold: the namespace's own, changed by those that
// come.
func (s *search) quotasOf(ctx context.Context, namespace string) ([]corev1.ResourceQuota, error) {
	var list corev1.ResourceQuotaList
	if err := s.Live.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list quotas of namespace %s: %w", namespace, err)
	}
	quotas := list.Items
	for i := range s.coming.Objects {
		obj := &s.coming.Objects[i].Unstructured
		if obj.GetKind() != "ResourceQuota" || obj.GetNamespace() != namespace || !s.writes(workload.RefOf(obj)) {
			continue
		}
		var coming corev1.ResourceQuota
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &coming); err != nil {
			continue // The survey of the object tells.
		}
		at := slices.IndexFunc(quotas, func(q corev1.ResourceQuota) bool { return q.Name == coming.Name })
		if at < 0 {
			quotas = append(quotas, coming)
			continue
		}
		quotas[at].Spec = coming.Spec
	}
	return quotas, nil
}

func (s *search) holdAgainst(q *corev1.ResourceQuota, objects, pods corev1.ResourceList) {
	ref := workload.Ref{Version: "v1", Kind: "ResourceQuota", Namespace: q.Namespace, Name: q.Name}
	if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
		s.lack(ref, QuotaUnknown, false, "it holds for some pods only (scopes), and whether those that come fit into it is not foreseen")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(q.Spec.Hard)) {
		hard, used := q.Spec.Hard[name], q.Status.Used[name]
		wanted, ofPods := objects[name], false
		if more, found := pods[name]; found {
			wanted.Add(more)
			ofPods = true
		}
		total := used.DeepCopy()
		total.Add(wanted)
		if wanted.Sign() <= 0 || total.Cmp(hard) <= 0 {
			continue
		}
		s.lack(ref, QuotaExceeded, !ofPods || s.coming.Starts, "%s is limited to %s, of which %s is used, and %s more comes: raise the quota on the target, or bring less",
			name, hard.String(), used.String(), wanted.String())
	}
}

// objectDemand counts the objects that would be new, by the names that quotas have
// for them.
func (s *search) objectDemand(ctx context.Context, namespace string) (corev1.ResourceList, error) {
	demand := make(corev1.ResourceList)
	for i := range s.coming.Objects {
		obj := &s.coming.Objects[i].Unstructured
		ref := workload.RefOf(obj)
		action, told := s.coming.Actions[ref]
		if obj.GetNamespace() != namespace || told && action != workload.Created {
			continue
		}
		if ref.Kind == "PersistentVolumeClaim" {
			// Claims move with their volumes, and no action tells of them.
			there, err := s.there(ctx, &corev1.PersistentVolumeClaim{}, namespace, ref.Name)
			if err != nil {
				return nil, err
			}
			if there {
				continue
			}
		}
		plural, _ := meta.UnsafeGuessKindToResource(obj.GroupVersionKind())
		name := "count/" + plural.Resource
		if ref.Group != "" {
			name += "." + ref.Group
		}
		add(demand, corev1.ResourceName(name), *apiresource.NewQuantity(1, apiresource.DecimalSI))
		if ref.Group == "" {
			add(demand, corev1.ResourceName(plural.Resource), *apiresource.NewQuantity(1, apiresource.DecimalSI))
			addOfKind(demand, obj)
		}
	}
	// Pods are counted by who makes them.
	delete(demand, corev1.ResourcePods)
	delete(demand, "count/pods")
	return demand, nil
}

func addOfKind(demand corev1.ResourceList, obj *unstructured.Unstructured) {
	one := *apiresource.NewQuantity(1, apiresource.DecimalSI)
	switch obj.GetKind() {
	case "Service":
		kind := shape.Text(obj.Object, "spec", "type")
		if kind == "LoadBalancer" {
			add(demand, corev1.ResourceServicesLoadBalancers, one)
		}
		if kind == "LoadBalancer" || kind == "NodePort" {
			ports := int64(len(shape.List(obj.Object, "spec", "ports")))
			add(demand, corev1.ResourceServicesNodePorts, *apiresource.NewQuantity(ports, apiresource.DecimalSI))
		}
	case "PersistentVolumeClaim":
		size, err := apiresource.ParseQuantity(shape.Text(obj.Object, "spec", "resources", "requests", "storage"))
		if err != nil {
			return
		}
		add(demand, corev1.ResourceRequestsStorage, size)
		if class := shape.Text(obj.Object, "spec", "storageClassName"); class != "" {
			add(demand, corev1.ResourceName(class+".storageclass.storage.k8s.io/requests.storage"), size)
			add(demand, corev1.ResourceName(class+".storageclass.storage.k8s.io/persistentvolumeclaims"), one)
		}
	}
}

// podDemand sums up the pods that would run, less those that the same objects run
// here already.
func (s *search) podDemand(ctx context.Context, namespace string) (corev1.ResourceList, error) {
	demand := make(corev1.ResourceList)
	for i := range s.pods {
		p := &s.pods[i]
		if p.pod.Namespace != namespace || p.count == 0 {
			continue
		}
		addPods(demand, &p.pod, p.count)
		if s.coming.Actions[p.ref] == workload.Updated {
			if err := s.subtract(ctx, demand, p); err != nil {
				return nil, err
			}
		}
	}
	return demand, nil
}

// subtract takes off what the object that stands here asks for.
func (s *search) subtract(ctx context.Context, demand corev1.ResourceList, p *podsOf) error {
	var live unstructured.Unstructured
	live.SetGroupVersionKind(p.obj.GroupVersionKind())
	there, err := s.there(ctx, &live, p.ref.Namespace, p.ref.Name)
	if err != nil || !there {
		return err
	}
	var pod corev1.Pod
	content := map[string]any{"spec": shape.PodTemplate(&live)["spec"]}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &pod); err != nil {
		return nil //nolint:nilerr // what stands there makes no pods that could be counted
	}
	addPods(demand, &pod, -s.countOf(&live, &pod))
	return nil
}

func addPods(demand corev1.ResourceList, pod *corev1.Pod, count int64) {
	times := func(q apiresource.Quantity) apiresource.Quantity {
		product := q.DeepCopy()
		product.Mul(count)
		return product
	}
	one := *apiresource.NewQuantity(1, apiresource.DecimalSI)
	add(demand, corev1.ResourcePods, times(one))
	add(demand, "count/pods", times(one))
	for name, quantity := range resource.PodRequests(pod, resource.PodResourcesOptions{}) {
		add(demand, corev1.ResourceName("requests."+string(name)), times(quantity))
		if !strings.Contains(string(name), "/") {
			add(demand, name, times(quantity))
		}
	}
	for name, quantity := range resource.PodLimits(pod, resource.PodResourcesOptions{}) {
		add(demand, corev1.ResourceName("limits."+string(name)), times(quantity))
	}
}

func add(demand corev1.ResourceList, name corev1.ResourceName, quantity apiresource.Quantity) {
	sum := demand[name]
	sum.Add(quantity)
	demand[name] = sum
}

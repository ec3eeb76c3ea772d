package lacks

import (
	"context"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// class is one that an object chooses by name.
type class struct {
	ref         workload.Ref
	group, kind string
	name        string
	obj         client.Object
	fails       bool
	consequence string
}

// classes names those that neither come nor stand here.
func (s *search) classes(ctx context.Context) error {
	known := make(map[string]bool)
	for _, c := range append(s.podClasses(), s.otherClasses()...) {
		if c.name == "" || s.comes(c.group, c.kind, "", c.name) {
			continue
		}
		key := c.kind + "/" + c.name
		there, asked := known[key]
		if !asked {
			var err error
			if there, err = s.there(ctx, c.obj, "", c.name); err != nil {
				return err
			}
			known[key] = there
		}
		if !there {
			s.lack(c.ref, NoClass, c.fails, "%s %s is not on the target, %s: create it there, bring it by an admin pair, or change the name by spec.overrides", c.kind, c.name, c.consequence)
		}
	}
	return nil
}

func (s *search) podClasses() []class {
	var out []class
	for _, p := range s.pods {
		runtimeClass := ""
		if p.pod.Spec.RuntimeClassName != nil {
			runtimeClass = *p.pod.Spec.RuntimeClassName
		}
		priority := p.pod.Spec.PriorityClassName
		if strings.HasPrefix(priority, "system-") {
			priority = "" // Every cluster has these.
		}
		const refused = "and no pod that asks for it is admitted"
		out = append(out,
			class{p.ref, schedulingv1.GroupName, "PriorityClass", priority, &schedulingv1.PriorityClass{}, p.count > 0, refused},
			class{p.ref, nodev1.GroupName, "RuntimeClass", runtimeClass, &nodev1.RuntimeClass{}, p.count > 0, refused})
	}
	return out
}

func (s *search) otherClasses() []class {
	var out []class
	storage := func(ref workload.Ref, spec map[string]any) {
		name := shape.Text(spec, "storageClassName")
		out = append(out, class{ref, storagev1.GroupName, "StorageClass", name, &storagev1.StorageClass{}, false, "and new volumes of it will not be made"})
	}
	for i := range s.coming.Objects {
		obj := &s.coming.Objects[i].Unstructured
		ref := workload.RefOf(obj)
		if !s.writes(ref) {
			continue
		}
		switch {
		case ref.Group == "apps" && ref.Kind == "StatefulSet":
			for _, template := range shape.List(obj.Object, "spec", "volumeClaimTemplates") {
				storage(ref, shape.Child(template, "spec"))
			}
		case ref.Group == networkingv1.GroupName && ref.Kind == "Ingress":
			name := shape.Text(obj.Object, "spec", "ingressClassName")
			out = append(out, class{ref, networkingv1.GroupName, "IngressClass", name, &networkingv1.IngressClass{}, false, "and no ingress controller will serve it"})
		}
		for _, volume := range shape.List(shape.Child(shape.PodTemplate(obj), "spec"), "volumes") {
			storage(ref, shape.Child(volume, "ephemeral", "volumeClaimTemplate", "spec"))
		}
	}
	return out
}

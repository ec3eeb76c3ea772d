package workload

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// Ref names one object, or, with an empty Name, a whole kind.
type Ref struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

// RefOf names the object.
func RefOf(obj *unstructured.Unstructured) Ref {
	gvk := obj.GroupVersionKind()
	return Ref{
		Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind,
		Namespace: obj.GetNamespace(), Name: obj.GetName(),
	}
}

// GVK is the object's group, version and kind.
func (r Ref) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}

// GroupKind is the object's group and kind.
func (r Ref) GroupKind() schema.GroupKind {
	return schema.GroupKind{Group: r.Group, Kind: r.Kind}
}

// String reads as kubectl would be asked for it: "Deployment.apps cms/mysql".
func (r Ref) String() string {
	s := r.GroupKind().String()
	switch {
	case r.Name == "" && r.Namespace == "":
		return s
	case r.Name == "":
		return s + " in " + r.Namespace
	case r.Namespace == "":
		return s + " " + r.Name
	}
	return s + " " + r.Namespace + "/" + r.Name
}

// Discovery tells which kinds a cluster serves. *discovery.DiscoveryClient is one.
// Kinds that could be read must be returned even beside an error.
type Discovery interface {
	ServerPreferredNamespacedResources() ([]*metav1.APIResourceList, error)
	ServerGroupsAndResources() ([]*metav1.APIGroup, []*metav1.APIResourceList, error)
}

// Mapper finds the resource of a kind. Apply writes custom resources right after
// their definitions, so it must look again by itself at what it did not find, or
// have a Reset method, as restmapper.NewDeferredDiscoveryRESTMapper has.
type Mapper interface {
	RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error)
}

// Cluster is how one cluster is reached. Collect needs no Mapper; Apply needs no
// Discovery; Undo needs both, since it looks into a namespace before deleting it.
type Cluster struct {
	Discovery Discovery
	Dynamic   dynamic.Interface
	Mapper    Mapper
}

func namespaceResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
}

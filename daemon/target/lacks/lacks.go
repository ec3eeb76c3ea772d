// Package lacks finds what this cluster does not have for objects that are to
// come: nodes for their pods, classes, images, room in quotas, and the leave of
// admission for their pods.
//
// Its words: a Lack is one such thing. It fails the run where an object or the
// first pod would certainly be refused; where pods would only wait, it is told and
// stops nothing. What cannot be known from the API server, such as whether a
// registry can be reached, is said to be unknown. The package asks by reads and
// dry runs, and never writes.
package lacks

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// The reasons of Lacks.
const (
	NoNode         = "NoNode"
	SharedUIDs     = "SharedUIDs"
	NoClass        = "ClassNotFound"
	PodsRefused    = "PodsRefused"
	QuotaExceeded  = "QuotaExceeded"
	QuotaUnknown   = "QuotaUnknown"
	NoPullSecret   = "PullSecretNotFound"
	ImageUnknown   = "ImageUnknown"
	ImageNeverHere = "ImageNotOnNodes"
)

// Finder asks one cluster.
type Finder struct {
	// Live reads past any cache, Client makes dry runs.
	Live   client.Reader
	Client client.Client
}

// Coming is what is to come.
type Coming struct {
	Objects []workload.Moved
	// Actions are what would become of the objects; those that it does not name
	// would be created.
	Actions map[workload.Ref]workload.Action
	// Starts is true where pods are to run at once.
	Starts bool
}

// Found is what the cluster lacks, and what is known of the images.
type Found struct {
	Lacks  []workload.Lack
	Images []workload.Image
}

// search is one Find in the making.
type search struct {
	Finder
	coming Coming
	// known are the objects that come and are not refused, without their versions.
	known map[workload.Ref]bool
	nodes []corev1.Node
	pods  []podsOf
	found Found
}

// podsOf is an object with the pods that it makes.
type podsOf struct {
	ref workload.Ref
	obj *unstructured.Unstructured
	// pod is what the object makes, as this cluster would have it where that is known.
	pod corev1.Pod
	// count is how many at once.
	count int64
}

// Find looks for all of it. An error says that the cluster could not be asked.
func (f Finder) Find(ctx context.Context, c Coming) (Found, error) {
	s := &search{Finder: f, coming: c}
	var nodes corev1.NodeList
	if err := f.Live.List(ctx, &nodes); err != nil {
		return Found{}, fmt.Errorf("list nodes: %w", err)
	}
	s.nodes, s.known = nodes.Items, make(map[workload.Ref]bool)
	for i := range c.Objects {
		ref := workload.RefOf(&c.Objects[i].Unstructured)
		refused := c.Actions[ref] == workload.Refused
		ref.Version = ""
		s.known[ref] = !refused
	}
	s.gatherPods()
	for _, look := range []func(context.Context) error{s.uids, s.classes, s.admission, s.places, s.images, s.quotas} {
		if err := look(ctx); err != nil {
			return Found{}, err
		}
	}
	return s.found, nil
}

func (s *search) lack(ref workload.Ref, reason string, fails bool, format string, args ...any) {
	s.found.Lacks = append(s.found.Lacks, workload.Lack{Ref: ref, Reason: reason, Fails: fails, Message: ref.String() + ": " + fmt.Sprintf(format, args...)})
}

// writes tells whether the object would be written at all.
func (s *search) writes(ref workload.Ref) bool {
	switch s.coming.Actions[ref] {
	case workload.Kept, workload.Refused, workload.Unchanged:
		return false
	}
	return true
}

// gatherPods reads the pods of all that would be written. What is malformed is
// told by the survey of the object itself.
func (s *search) gatherPods() {
	for i := range s.coming.Objects {
		obj := &s.coming.Objects[i].Unstructured
		template := shape.PodTemplate(obj)
		if template == nil || !s.writes(workload.RefOf(obj)) {
			continue
		}
		p := podsOf{ref: workload.RefOf(obj), obj: obj}
		content := map[string]any{"spec": template["spec"]}
		if metadata := shape.Child(template, "metadata"); metadata != nil {
			content["metadata"] = map[string]any{"labels": metadata["labels"], "annotations": metadata["annotations"]}
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &p.pod); err != nil {
			continue
		}
		p.pod.Namespace = obj.GetNamespace()
		delete(p.pod.Spec.NodeSelector, workload.Held)
		addClaims(&p.pod, obj)
		p.count = s.countOf(obj, &p.pod)
		s.pods = append(s.pods, p)
	}
}

// addClaims gives the pod the volumes that its StatefulSet would add.
func addClaims(pod *corev1.Pod, obj *unstructured.Unstructured) {
	if obj.GetKind() != "StatefulSet" {
		return
	}
	for _, template := range shape.List(obj.Object, "spec", "volumeClaimTemplates") {
		name := shape.Text(template, "metadata", "name")
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}})
	}
}

// countOf is how many pods the object keeps at once. Of what runs by the clock it
// is none.
func (s *search) countOf(obj *unstructured.Unstructured, pod *corev1.Pod) int64 {
	number := func(path ...string) int64 {
		n, found, err := unstructured.NestedInt64(obj.Object, path...)
		if !found || err != nil {
			return 1
		}
		return n
	}
	if !s.coming.Starts {
		return 0
	}
	switch obj.GetKind() {
	case "CronJob":
		return 0
	case "Pod":
		return 1
	case "DaemonSet":
		return int64(len(s.fitting(pod)))
	case "Job":
		if suspended, _, _ := unstructured.NestedBool(obj.Object, "spec", "suspend"); suspended {
			return 0
		}
		return min(number("spec", "parallelism"), max(number("spec", "completions"), 1))
	}
	return number("spec", "replicas")
}

// comes tells whether such an object is among those that come.
func (s *search) comes(group, kind, namespace, name string) bool {
	return s.known[workload.Ref{Group: group, Kind: kind, Namespace: namespace, Name: name}]
}

// there tells whether the object stands in this cluster. A kind that it does not
// serve does not.
func (s *search) there(ctx context.Context, obj client.Object, namespace, name string) (bool, error) {
	err := s.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %T %s: %w", obj, name, err)
	}
	return true, nil
}

package workload

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// ClaimVolume is what a claim gets on the target.
type ClaimVolume struct {
	// PersistentVolume is the name of the volume to bind to.
	PersistentVolume string
	// StorageClass is that volume's class; empty means by TransformOptions' map.
	StorageClass string
}

// TransformOptions says how objects change on their way to another cluster.
type TransformOptions struct {
	// Namespaces and StorageClasses rename; what they do not name stays as it is.
	Namespaces, StorageClasses map[string]string
	// StartApplications lets workloads run; otherwise they are held at zero, and
	// keep in annotations what they were.
	StartApplications bool
	// SkipServiceUpdate keeps the addresses and node ports of Services.
	SkipServiceUpdate bool
	// MigrationName, MigrationNamespace and Time are the stamp of this run. All
	// are required, and every call of one run must give the same.
	MigrationName, MigrationNamespace string
	Time                              time.Time
	// Volumes is keyed by the claim's namespace and name on the target.
	Volumes map[types.NamespacedName]ClaimVolume
}

// transformer changes one object after the other; it only reads its options.
type transformer struct {
	options TransformOptions
}

// step is one link of the chain.
type step struct {
	name  string
	apply func(t *transformer, obj *unstructured.Unstructured) error
	// once marks a step whose result could be its own input again, as when two
	// names are exchanged. It is left out for objects with this run's stamp.
	once bool
}

// chain is in the order in which the steps run: what belongs to the source goes
// first, then names change, then each kind is looked at with its new names.
func chain() []step {
	return []step{
		{name: "metadata", apply: cleanMetadata},
		{name: "namespace", apply: mapNamespace, once: true},
		{name: "subjects", apply: mapSubjects, once: true},
		{name: "storage class", apply: mapStorageClasses, once: true},
		{name: "namespace object", apply: cleanNamespace},
		{name: "service", apply: cleanService},
		{name: "claim", apply: bindClaim},
		{name: "service account", apply: cleanServiceAccount},
		{name: "job", apply: cleanJob},
		{name: "pod", apply: cleanPod},
		{name: "start", apply: startOrHold},
		{name: "stamp", apply: stamp},
	}
}

// Transform returns the objects as the target shall have them, in the same order.
// It changes none of its arguments, and transforming its result again with the
// same options changes nothing.
//
// Two objects that would become one are an error: the second would silently
// replace the first.
//
// Names inside other objects, such as service DNS names in a ConfigMap, are not
// followed: only metadata.namespace and the subjects of role bindings are.
func Transform(objects []unstructured.Unstructured, o TransformOptions) ([]unstructured.Unstructured, error) {
	if o.MigrationName == "" || o.MigrationNamespace == "" || o.Time.IsZero() {
		return nil, fmt.Errorf("transform objects: the name, namespace and time of the migration must be given")
	}
	t := &transformer{options: o}
	from := make(map[Ref]Ref, len(objects))
	out := make([]unstructured.Unstructured, 0, len(objects))
	for i := range objects {
		obj := objects[i].DeepCopy()
		ref := RefOf(obj)
		done := t.stamped(obj)
		for _, s := range chain() {
			if s.once && done {
				continue
			}
			if err := s.apply(t, obj); err != nil {
				return nil, fmt.Errorf("transform %s: %s: %w", ref, s.name, err)
			}
		}
		to := RefOf(obj)
		to.Version = ""
		if other, taken := from[to]; taken {
			return nil, fmt.Errorf("transform objects: %s and %s would both become %s: map their namespaces to different names", other, ref, to)
		}
		from[to] = ref
		out = append(out, *obj)
	}
	return out, nil
}

func (t *transformer) stamps() map[string]string {
	return map[string]string{
		AnnotationMigrated:           "true",
		AnnotationMigrationName:      t.options.MigrationName,
		AnnotationMigrationNamespace: t.options.MigrationNamespace,
		AnnotationMigrationTime:      t.options.Time.UTC().Format(migrationTimeFormat),
	}
}

// stamped tells whether this very run has transformed the object before. An
// object that an earlier run brought to the source carries another time.
func (t *transformer) stamped(obj *unstructured.Unstructured) bool {
	annotations := obj.GetAnnotations()
	for key, value := range t.stamps() {
		if annotations[key] != value {
			return false
		}
	}
	return true
}

func stamp(t *transformer, obj *unstructured.Unstructured) error {
	for key, value := range t.stamps() {
		annotate(obj, key, value)
	}
	return nil
}

func annotate(obj *unstructured.Unstructured, key, value string) {
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = make(map[string]string)
	}
	annotations[key] = value
	obj.SetAnnotations(annotations)
}

func removeAnnotations(obj *unstructured.Unstructured, keys ...string) {
	annotations := obj.GetAnnotations()
	for _, key := range keys {
		delete(annotations, key)
	}
	if len(annotations) == 0 {
		annotations = nil
	}
	obj.SetAnnotations(annotations)
}

// cleanMetadata keeps what a user may have written. The legacy annotation for the
// storage class is moved to its field first, since it is the older spelling of
// the same wish.
func cleanMetadata(_ *transformer, obj *unstructured.Unstructured) error {
	if obj.GetName() == "" || obj.GetKind() == "" || obj.GetAPIVersion() == "" {
		return fmt.Errorf("the object lacks its apiVersion, kind or name")
	}
	const legacyClass = "volume.beta.kubernetes.io/storage-class"
	if class, ok := obj.GetAnnotations()[legacyClass]; ok && isKind(obj, "", "PersistentVolumeClaim") {
		if err := unstructured.SetNestedField(obj.Object, class, "spec", "storageClassName"); err != nil {
			return err
		}
	}
	metadata := map[string]any{"name": obj.GetName()}
	if namespace := obj.GetNamespace(); namespace != "" {
		metadata["namespace"] = namespace
	}
	labels, annotations := withoutResidue(obj.GetLabels()), withoutResidue(obj.GetAnnotations())
	obj.Object["metadata"] = metadata
	obj.SetLabels(labels)
	obj.SetAnnotations(annotations)
	delete(obj.Object, "status")
	return nil
}

func (t *transformer) namespace(name string) string {
	if to, ok := t.options.Namespaces[name]; ok && to != "" {
		return to
	}
	return name
}

func (t *transformer) storageClass(name string) string {
	if to, ok := t.options.StorageClasses[name]; ok && to != "" {
		return to
	}
	return name
}

func mapNamespace(t *transformer, obj *unstructured.Unstructured) error {
	if isKind(obj, "", "Namespace") {
		obj.SetName(t.namespace(obj.GetName()))
		return nil
	}
	if namespace := obj.GetNamespace(); namespace != "" {
		obj.SetNamespace(t.namespace(namespace))
	}
	return nil
}

// cleanNamespace drops the finalizers that every cluster sets itself.
func cleanNamespace(_ *transformer, obj *unstructured.Unstructured) error {
	if isKind(obj, "", "Namespace") {
		delete(obj.Object, "spec")
	}
	return nil
}

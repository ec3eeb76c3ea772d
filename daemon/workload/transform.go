package workload

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// ClaimVolume is what a claim gets on the target.
type ClaimVolume struct {
	// PersistentVolume is the name of the volume to bind to.
	PersistentVolume string
	// StorageClass is that volume's class; empty means by TransformOptions' map.
	StorageClass string
	// AccessModes are that volume's; none leaves the claim's as they are.
	AccessModes []string
}

// TransformOptions says how objects change on their way to another cluster.
type TransformOptions struct {
	Instructions
	// Edits are the users' rules; nil is none.
	Edits *Edits
	// MigrationName, MigrationNamespace and Time are the stamp of this run. All
	// are required, and every call of one run must give the same.
	MigrationName, MigrationNamespace string
	Time                              time.Time
	// Volumes is keyed by the claim's namespace and name on the target.
	Volumes map[types.NamespacedName]ClaimVolume
	// Serves tells what the target serves; nil leaves API versions as they are.
	Serves func(schema.GroupVersionKind) bool
}

// Transformed is what became of the objects.
type Transformed struct {
	Objects []Moved
	// LeftOut are objects that the target cannot have, or that rules skip.
	LeftOut []Skipped
	// Warnings name rules that do nothing.
	Warnings []string

	defined map[schema.GroupVersionKind]bool
}

// Defines tells whether a definition among the objects makes the object's kind.
func (t Transformed) Defines(ref Ref) bool { return t.defined[ref.GVK()] }

// Moved is one object as the target shall have it.
type Moved struct {
	unstructured.Unstructured
	// From is its name in the source.
	From Ref
	// By names the users' rules that changed it, Rewritten the references to
	// renamed namespaces that were followed.
	By, Rewritten []string
	// Owners are those of its owners that move too.
	Owners []Owner
}

// Plain returns the objects alone.
func (t Transformed) Plain() []unstructured.Unstructured {
	out := make([]unstructured.Unstructured, 0, len(t.Objects))
	for i := range t.Objects {
		out = append(out, t.Objects[i].Unstructured)
	}
	return out
}

// transformer changes one object after the other; it only reads its options.
type transformer struct {
	options   TransformOptions
	steps     []step
	services  map[string]bool
	hostNames *regexp.Regexp
	defined   map[schema.GroupVersionKind]bool
	warnings  map[string]bool
}

// subject is one object on its way through the chain.
type subject struct {
	obj           *unstructured.Unstructured
	from          Ref
	by, rewritten []string
	leftOut       *Skipped
}

// step is one link of the chain.
type step struct {
	name  string
	apply func(t *transformer, s *subject) error
	// again marks a step that also runs for objects with this run's stamp. The
	// others' results could be their own input again, as when two names are
	// exchanged.
	again bool
	// edits marks a step of users' rules, which may not rename the object.
	edits bool
}

// chain is in the order in which the steps run: what belongs to the source goes
// first, then names change, then users' rules see each object as it would be
// without them, the latter ones winning.
func chain() []step {
	plain := func(f func(*transformer, *unstructured.Unstructured) error) func(*transformer, *subject) error {
		return func(t *transformer, s *subject) error { return f(t, s.obj) }
	}
	return []step{
		{name: "source's own metadata dropped", apply: plain(cleanMetadata)},
		{name: "API version that the target serves", apply: convertVersion},
		{name: "namespace mapping", apply: plain(mapNamespace)},
		{name: "references to mapped namespaces", apply: mapReferences},
		{name: "service names in mapped namespaces", apply: mapServiceNames},
		{name: "storage class mapping", apply: plain(mapStorageClasses)},
		{name: "namespace", apply: plain(cleanNamespace)},
		{name: "service", apply: plain(cleanService)},
		{name: "route", apply: plain(cleanRoute)},
		{name: "claim", apply: plain(cleanClaim)},
		{name: "service account", apply: plain(cleanServiceAccount)},
		{name: "job", apply: plain(cleanJob)},
		{name: "pod", apply: plain(cleanPod)},
		{name: "aggregated role", apply: plain(cleanClusterRole)},
		{name: "webhook", apply: plain(cleanWebhook)},
		{name: "ResourceTransformation", apply: editByStork, edits: true},
		{name: "velero-plugin-for-migration", apply: editByPlugin},
		{name: "change-image-name", apply: editImages, edits: true},
		{name: "resource modifiers", apply: editByModifiers, edits: true},
		{name: "overrides", apply: editByOverrides, edits: true},
		{name: "claim's volume", apply: plain(bindClaim), again: true},
		{name: "start or hold", apply: startOrHold, again: true},
		{name: "stamp", apply: plain(stamp), again: true},
	}
}

// Chain names the steps of Transform in their order.
func Chain() []string {
	var names []string
	for _, s := range chain() {
		names = append(names, s.name)
	}
	return names
}

// Transform returns the objects as the target shall have them, in the same order.
// It changes none of its arguments, and transforming its result again with the
// same options changes nothing.
//
// Two objects that would become one are an error: the second would silently
// replace the first. The error joins one for each object that cannot be changed.
func Transform(objects []unstructured.Unstructured, o TransformOptions) (Transformed, error) {
	return transformBy(chain(), objects, o)
}

func transformBy(steps []step, objects []unstructured.Unstructured, o TransformOptions) (Transformed, error) {
	var out Transformed
	if o.MigrationName == "" || o.MigrationNamespace == "" || o.Time.IsZero() {
		return out, fmt.Errorf("transform objects: the name, namespace and time of the migration must be given")
	}
	if o.Edits == nil {
		var err error
		if o.Edits, err = ReadEdits(o.Instructions, Local{}); err != nil {
			return out, err
		}
	}
	t := &transformer{
		options: o, steps: steps, services: servicesOf(objects), hostNames: hostNames(),
		defined: definedBy(objects), warnings: make(map[string]bool),
	}
	from := make(map[Ref]Ref, len(objects))
	var sources []*unstructured.Unstructured
	var all []error
	for i := range objects {
		s, err := t.transform(&objects[i])
		if err != nil {
			all = append(all, err)
			continue
		}
		if s.leftOut != nil {
			out.LeftOut = append(out.LeftOut, *s.leftOut)
			continue
		}
		to := RefOf(s.obj)
		to.Version = ""
		if other, taken := from[to]; taken {
			all = append(all, fmt.Errorf("transform objects: %s and %s would both become %s: map their namespaces to different names", other, s.from, to))
			continue
		}
		from[to] = s.from
		sources = append(sources, &objects[i])
		out.Objects = append(out.Objects, Moved{Unstructured: *s.obj, From: s.from, By: s.by, Rewritten: s.rewritten})
	}
	ownersOf(sources, out.Objects)
	if o.Edits.plugin != nil {
		for _, warning := range o.Edits.plugin.Warnings() {
			t.warnings[warning] = true
		}
	}
	out.defined = t.defined
	out.Warnings = slices.Sorted(maps.Keys(t.warnings))
	return out, errors.Join(all...)
}

func (t *transformer) transform(object *unstructured.Unstructured) (*subject, error) {
	s := &subject{obj: object.DeepCopy(), from: RefOf(object)}
	done := t.stamped(s.obj)
	for _, step := range t.steps {
		if done && !step.again {
			continue
		}
		before := RefOf(s.obj)
		if err := step.apply(t, s); err != nil {
			return nil, fmt.Errorf("transform %s: %s: %w", s.from, step.name, err)
		}
		if s.leftOut != nil {
			return s, nil
		}
		if after := RefOf(s.obj); step.edits && after != before {
			return nil, fmt.Errorf("transform %s: %s: the rules make it %s: rules may not change apiVersion, kind, name or namespace (%s)",
				s.from, step.name, after, strings.Join(s.by, ", "))
		}
	}
	return s, nil
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

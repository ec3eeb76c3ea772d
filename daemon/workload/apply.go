package workload

import (
	"context"
	"fmt"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// Action is what Apply did with an object.
type Action string

// The actions.
const (
	// Created: nothing of that name stood there.
	Created Action = "Created"
	// Updated: something stood there and was changed.
	Updated Action = "Updated"
	// Unchanged: what stood there was as wanted; nothing was written.
	Unchanged Action = "Unchanged"
	// Kept: what stands there carries the annotation skip-resource.
	Kept Action = "Skipped"
)

const (
	// attempts bounds how often a write that met a concurrent one is tried again
	// at once. Callers that see a conflict after these should back off.
	attempts = 5
	// noVersion is a resource version that no object ever has. With it a write
	// fails if an object stands where none was seen.
	noVersion = "1"
)

// ApplyOptions says in whose name objects are written.
type ApplyOptions struct {
	// FieldManager owns the fields that are applied. Required.
	FieldManager string
	// Owner, if set, is written to AnnotationOwner.
	Owner string
	// Record, if set, is called before every write with what is about to happen,
	// without After. The write happens only if it returns nil. Where a run is
	// repeated, the first record of an object is the one to undo.
	Record func(ctx context.Context, intent Applied) error
}

// Applied is the record of one write. It can be kept as JSON. Before and After may
// hold Secrets, so it must be kept as a Secret is.
type Applied struct {
	Ref     Ref    `json:"ref"`
	Action  Action `json:"action"`
	Manager string `json:"manager"`
	Owner   string `json:"owner,omitempty"`
	// Before is what stood there, set for Updated.
	Before *unstructured.Unstructured `json:"before,omitempty"`
	// After is what stood there then, set for Created and Updated; nil in a record
	// made before the write.
	After *unstructured.Unstructured `json:"after,omitempty"`
}

// Apply writes one object by server-side apply and tells what it did. Fields that
// others own and the object also sets are taken over; fields that it does not set
// stay as they are. Nothing is ever deleted in order to be created again: where a
// field cannot be changed in place the error is ErrImmutable and says what to do.
func Apply(ctx context.Context, c Cluster, obj unstructured.Unstructured, o ApplyOptions) (Applied, error) {
	ref := RefOf(&obj)
	if o.FieldManager == "" {
		return Applied{}, fmt.Errorf("apply %s: no field manager is given", ref)
	}
	resource, err := resourceOf(c, ref)
	if err != nil {
		return Applied{}, fmt.Errorf("apply %s: %w", ref, err)
	}
	var done Applied
	err = onConflict(func() error {
		var err error
		done, err = applyOnce(ctx, resource, &obj, o)
		return err
	})
	if err != nil {
		return Applied{}, fmt.Errorf("apply %s: %w", ref, err)
	}
	return done, nil
}

// applyOnce holds to what it saw: the write fails with a conflict if anybody wrote
// in between, so that Before is exactly what the write replaced.
func applyOnce(ctx context.Context, resource dynamic.ResourceInterface, obj *unstructured.Unstructured, o ApplyOptions) (Applied, error) {
	done := Applied{Ref: RefOf(obj), Manager: o.FieldManager, Owner: o.Owner}
	live, err := get(ctx, resource, obj.GetName())
	if err != nil {
		return Applied{}, err
	}
	patch := prepare(obj, live, o)
	switch {
	case live == nil:
		done.Action = Created
		patch.SetResourceVersion(noVersion)
	case live.GetDeletionTimestamp() != nil:
		return Applied{}, ErrBeingDeleted
	case asked(live.GetAnnotations(), "skip-resource"):
		done.Action = Kept
		return done, nil
	default:
		done.Action, done.Before = Updated, live
		patch.SetResourceVersion(live.GetResourceVersion())
		same, err := o.changesNothing(ctx, resource, patch, live)
		if err != nil {
			return Applied{}, refused(err, obj, live)
		}
		if same {
			done.Action, done.Before = Unchanged, nil
			return done, nil
		}
	}
	if o.Record != nil {
		if err := o.Record(ctx, done); err != nil {
			return Applied{}, fmt.Errorf("record what stands there before the write: %w", err)
		}
	}
	after, err := resource.Apply(ctx, obj.GetName(), patch, o.forced())
	if err != nil {
		return Applied{}, refused(err, obj, live)
	}
	if live != nil && after.GetResourceVersion() == live.GetResourceVersion() {
		done.Action, done.Before = Unchanged, nil
		return done, nil
	}
	done.After = after
	return done, nil
}

func (o ApplyOptions) forced() metav1.ApplyOptions {
	return metav1.ApplyOptions{FieldManager: o.FieldManager, Force: true}
}

// changesNothing asks the server, so that no record is made of a write that is
// none. Without a journal the write itself tells the same at half the cost.
func (o ApplyOptions) changesNothing(ctx context.Context, resource dynamic.ResourceInterface, patch, live *unstructured.Unstructured) (bool, error) {
	if o.Record == nil {
		return false, nil
	}
	options := o.forced()
	options.DryRun = []string{metav1.DryRunAll}
	would, err := resource.Apply(ctx, patch.GetName(), patch, options)
	if apierrors.IsBadRequest(err) {
		// A webhook with side effects bars dry runs; the write itself will tell.
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return apiequality.Semantic.DeepEqual(would.Object, live.Object), nil
}

// prepare returns what is sent: the object without what only a server sets.
func prepare(obj, live *unstructured.Unstructured, o ApplyOptions) *unstructured.Unstructured {
	patch := obj.DeepCopy()
	metadata := child(patch.Object, "metadata")
	for _, field := range []string{
		"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
		"deletionTimestamp", "deletionGracePeriodSeconds",
	} {
		delete(metadata, field)
	}
	delete(patch.Object, "status")
	if o.Owner != "" {
		annotate(patch, AnnotationOwner, o.Owner)
	}
	if live != nil && isKind(patch, "", "ServiceAccount") {
		keepLogins(patch, live)
	}
	return patch
}

// keepLogins joins the registry logins of both, since the list is applied whole
// and the target's account has its own registry's.
func keepLogins(patch, live *unstructured.Unstructured) {
	const field = "imagePullSecrets"
	var joined []any
	seen := make(map[string]bool)
	for _, login := range append(list(live.Object, field), list(patch.Object, field)...) {
		if name := text(login, "name"); !seen[name] {
			seen[name] = true
			joined = append(joined, map[string]any{"name": name})
		}
	}
	if len(joined) > 0 {
		patch.Object[field] = joined
	}
}

func resourceOf(c Cluster, ref Ref) (dynamic.ResourceInterface, error) {
	mapping, err := c.Mapper.RESTMapping(ref.GroupKind(), ref.Version)
	if resettable, ok := c.Mapper.(interface{ Reset() }); ok && meta.IsNoMatchError(err) {
		// What the mapper remembers may be older than the kind's definition.
		resettable.Reset()
		mapping, err = c.Mapper.RESTMapping(ref.GroupKind(), ref.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("the cluster does not serve %s %s/%s: %w", ref.Kind, ref.Group, ref.Version, err)
	}
	resource := c.Dynamic.Resource(mapping.Resource)
	if ref.Namespace == "" {
		return resource, nil
	}
	return resource.Namespace(ref.Namespace), nil
}

// get returns nil for an object that is not there.
func get(ctx context.Context, resource dynamic.ResourceInterface, name string) (*unstructured.Unstructured, error) {
	live, err := resource.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what stands there: %w", err)
	}
	return live, nil
}

func onConflict(try func() error) error {
	var err error
	for range attempts {
		if err = try(); !apierrors.IsConflict(err) {
			return err
		}
	}
	return err
}

package workload

import (
	"context"
	"fmt"

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
	// Recreated: something stood there, and was deleted and made anew.
	Recreated Action = "Recreated"
	// Unchanged: what stood there was as wanted; nothing was written.
	Unchanged Action = "Unchanged"
	// Kept: what stands there carries the annotation skip-resource, or conflicts
	// of its kind are resolved by Skip.
	Kept Action = "Skipped"
	// Deleted: an earlier run brought it, and the source no longer has it.
	Deleted Action = "Deleted"
	// Refused: the pair may not bring it.
	Refused Action = "Refused"
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
	// Conflicts is for what stands there and was not written by Owner.
	Conflicts Conflicts
	// GiveUpAddresses applies a Service without those addresses and node ports that
	// the server refuses.
	GiveUpAddresses bool
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
	// Before is what stood there, set for Updated, Recreated and Deleted.
	Before *unstructured.Unstructured `json:"before,omitempty"`
	// After is what stood there then, set for Created, Updated and Recreated; nil
	// in a record made before the write.
	After *unstructured.Unstructured `json:"after,omitempty"`
}

// writes tells whether the cluster is not as it was.
func (a Action) writes() bool {
	return a == Created || a == Updated || a == Recreated || a == Deleted
}

// Apply writes one object by server-side apply and tells what it did. Fields that
// it does not set stay as they are; those that others own are a *DisputeError, or
// are taken over, by the resolution of conflicts of its kind. Nothing is deleted
// in order to be created again unless that is the resolution: where a field cannot
// be changed in place the error is ErrImmutable and says what to do.
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
		live, err := get(ctx, resource, obj.GetName())
		if err != nil {
			return err
		}
		intent, err := o.decide(ctx, resource, &obj, live)
		if err != nil {
			return err
		}
		if o.Record != nil && intent.record.Action.writes() {
			if err := o.Record(ctx, intent.record); err != nil {
				return fmt.Errorf("record what stands there before the write: %w", err)
			}
		}
		done, err = o.carryOut(ctx, resource, intent)
		return err
	})
	if err != nil {
		return Applied{}, fmt.Errorf("apply %s: %w", ref, err)
	}
	return done, nil
}

// intent is what a write would do, and how.
type intent struct {
	record Applied
	live   *unstructured.Unstructured
	patch  *unstructured.Unstructured
	// would is what the server says would stand there; nil where it was not asked.
	would *unstructured.Unstructured
}

// decide finds out what has to be done with the object where live stands, nil for
// nothing. It writes nothing.
func (o ApplyOptions) decide(ctx context.Context, resource dynamic.ResourceInterface, obj, live *unstructured.Unstructured) (intent, error) {
	i := intent{record: Applied{Ref: RefOf(obj), Manager: o.FieldManager, Owner: o.Owner}, live: live, patch: prepare(obj, live, o)}
	if live == nil {
		i.record.Action = Created
		i.patch.SetResourceVersion(noVersion)
		return i, nil
	}
	resolution := o.resolution(live)
	switch {
	case live.GetDeletionTimestamp() != nil:
		return i, ErrBeingDeleted
	case asked(live.GetAnnotations(), "skip-resource"), resolution == resolveSkip:
		i.record.Action = Kept
		return i, nil
	case unchanged(i.patch, live, o):
		i.record.Action = Unchanged
		return i, nil
	}
	i.patch.SetResourceVersion(live.GetResourceVersion())
	return o.try(ctx, resource, i, resolution)
}

// try asks the server what the write would make of what stands there.
func (o ApplyOptions) try(ctx context.Context, resource dynamic.ResourceInterface, i intent, resolution resolution) (intent, error) {
	i.record.Action = Updated
	would, err := o.trial(ctx, resource, &i, resolution != resolveAbort)
	err = refused(err, i.patch, i.live)
	switch {
	case err == nil && would != nil && sameObject(would, i.live):
		i.record.Action = Unchanged
		return i, nil
	case err == nil && resolution == resolveRecreate, resolution == resolveRecreate && isImmutable(err):
		if holdsOthers(i.live) {
			return i, fmt.Errorf("%w: Recreate would delete what %s holds: use Overwrite for this kind (spec.conflictResolutionByKind)", ErrHoldsData, i.record.Ref)
		}
		i.record.Action, i.patch = Recreated, prepare(i.patch, nil, o)
		i.patch.SetResourceVersion(noVersion)
	case err != nil:
		return i, err
	}
	i.record.Before, i.would = i.live, would
	return i, nil
}

// trial is a dry run. It goes without the stamps of this run first: alone they are
// no reason to write.
func (o ApplyOptions) trial(ctx context.Context, resource dynamic.ResourceInterface, i *intent, force bool) (*unstructured.Unstructured, error) {
	options := metav1.ApplyOptions{FieldManager: o.FieldManager, Force: force, DryRun: []string{metav1.DryRunAll}}
	attempt := i.patch
	if o.Owner != "" && i.live.GetAnnotations()[AnnotationOwner] == o.Owner {
		attempt = withStampsOf(i.patch, i.live)
	}
	would, err := resource.Apply(ctx, attempt.GetName(), attempt, options)
	if disputes := disputesIn(err); len(disputes) > 0 {
		if !onlyLastApplied(disputes) {
			return nil, &DisputeError{Ref: i.record.Ref, Disputes: disputes}
		}
		// The record of another kubectl apply says nothing of this object.
		removeAnnotations(i.patch, annotationLastApplied)
		removeAnnotations(attempt, annotationLastApplied)
		would, err = resource.Apply(ctx, attempt.GetName(), attempt, options)
	}
	if apierrors.IsBadRequest(err) {
		// A webhook with side effects bars dry runs; the write itself will tell.
		return nil, nil
	}
	return would, err
}

// carryOut does what was decided. It holds to what was seen: the write fails with
// a conflict if anybody wrote in between, so that Before is exactly what the write
// replaced.
func (o ApplyOptions) carryOut(ctx context.Context, resource dynamic.ResourceInterface, i intent) (Applied, error) {
	done := i.record
	if !done.Action.writes() {
		return done, nil
	}
	if done.Action == Recreated {
		if err := deleteAsSeen(ctx, resource, i.live); err != nil {
			return Applied{}, err
		}
	}
	options := metav1.ApplyOptions{FieldManager: o.FieldManager, Force: i.live == nil || done.Action == Recreated || o.resolution(i.live) != resolveAbort}
	after, err := resource.Apply(ctx, i.patch.GetName(), i.patch, options)
	if disputes := disputesIn(err); len(disputes) > 0 {
		return Applied{}, &DisputeError{Ref: done.Ref, Disputes: disputes}
	}
	if err != nil {
		return Applied{}, refused(err, i.patch, i.live)
	}
	if done.Action == Updated && after.GetResourceVersion() == i.live.GetResourceVersion() {
		done.Action, done.Before = Unchanged, nil
		return done, nil
	}
	done.After = after
	return done, nil
}

// deleteAsSeen deletes an object only as it was when it was looked at. One that
// is gone or waits for a finalizer is told by the write that follows.
func deleteAsSeen(ctx context.Context, resource dynamic.ResourceInterface, live *unstructured.Unstructured) error {
	uid, version, foreground := live.GetUID(), live.GetResourceVersion(), metav1.DeletePropagationBackground
	err := resource.Delete(ctx, live.GetName(), metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
		PropagationPolicy: &foreground,
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// prepare returns what is sent: the object without what only a server sets.
func prepare(obj, live *unstructured.Unstructured, o ApplyOptions) *unstructured.Unstructured {
	patch := obj.DeepCopy()
	metadata, _ := patch.Object["metadata"].(map[string]any)
	for _, field := range []string{
		"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
		"deletionTimestamp", "deletionGracePeriodSeconds",
	} {
		delete(metadata, field)
	}
	delete(patch.Object, "status")
	if live != nil && o.GiveUpAddresses {
		// It may stand since KeepAddresses looked, made by a write whose answer was lost.
		LeaveAddresses(patch, live)
	}
	annotate(patch, AnnotationHash, hashOf(patch))
	if o.Owner != "" {
		annotate(patch, AnnotationOwner, o.Owner)
	}
	if live != nil && isKind(patch, "", "ServiceAccount") {
		keepLogins(patch, live)
	}
	return patch
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

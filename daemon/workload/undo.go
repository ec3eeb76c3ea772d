package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// UndoOptions widens what Undo may do.
type UndoOptions struct {
	// Force discards changes that others made to the object since. It does not
	// permit ErrHoldsData.
	Force bool
}

// Undo takes one write back: what was created is deleted, what was updated is put
// back, fields and their owners. Doing it again does nothing. A run is undone
// newest write first.
//
// It returns a *ChangedError, and leaves the object alone, when somebody else
// changed it since. What the cluster's own controllers filled in is no such
// change. It returns ErrHoldsData for a namespace that holds what this run did not
// make, and for a claim whose volume would be deleted with it.
func Undo(ctx context.Context, c Cluster, a Applied, o UndoOptions) error {
	var undo func(context.Context, Cluster, dynamic.ResourceInterface, Applied, UndoOptions) error
	switch a.Action {
	case Unchanged, Kept:
		return nil
	case Created:
		undo = undoCreate
	case Updated:
		undo = undoUpdate
	case Recreated:
		undo = undoRecreate
	case Deleted:
		undo = undoDelete
	default:
		return fmt.Errorf("undo %s: unknown action %q", a.Ref, a.Action)
	}
	if a.Action != Created && a.Before == nil {
		return fmt.Errorf("undo %s: the record does not say what stood there before", a.Ref)
	}
	resource, err := resourceOf(c, a.Ref)
	if err == nil {
		err = onConflict(func() error { return undo(ctx, c, resource, a, o) })
	}
	if err != nil {
		return fmt.Errorf("undo %s: %w", a.Ref, err)
	}
	return nil
}

func undoCreate(ctx context.Context, c Cluster, resource dynamic.ResourceInterface, a Applied, o UndoOptions) error {
	live, err := get(ctx, resource, a.Ref.Name)
	if err != nil {
		return err
	}
	if live == nil || live.GetDeletionTimestamp() != nil || !made(a, live) {
		return nil
	}
	if changed := changedSince(a, a.After, live); changed != nil && !o.Force {
		return changed
	}
	if err := harmless(ctx, c, live); err != nil {
		return err
	}
	uid, version, background := live.GetUID(), live.GetResourceVersion(), metav1.DeletePropagationBackground
	err = resource.Delete(ctx, a.Ref.Name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
		PropagationPolicy: &background,
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// undoRecreate deletes what the run made, and makes what stood there before it.
func undoRecreate(ctx context.Context, _ Cluster, resource dynamic.ResourceInterface, a Applied, o UndoOptions) error {
	live, err := get(ctx, resource, a.Ref.Name)
	if err != nil {
		return err
	}
	if live != nil && live.GetUID() == a.Before.GetUID() {
		return nil // The run got no further than its record.
	}
	if live != nil && live.GetDeletionTimestamp() == nil && len(differences(a.Before, live)) > 0 {
		if !made(a, live) {
			return &ChangedError{Ref: a.Ref}
		}
		if changed := changedSince(a, a.After, live); changed != nil && !o.Force {
			return changed
		}
		if err := deleteAsSeen(ctx, resource, live); err != nil {
			return err
		}
	}
	return makeAgain(ctx, resource, a)
}

// undoDelete makes what the run deleted, unless somebody made it again since.
func undoDelete(ctx context.Context, _ Cluster, resource dynamic.ResourceInterface, a Applied, _ UndoOptions) error {
	live, err := get(ctx, resource, a.Ref.Name)
	if err != nil {
		return err
	}
	if live == nil {
		return makeAgain(ctx, resource, a)
	}
	if len(differences(a.Before, live)) > 0 {
		return &ChangedError{Ref: a.Ref}
	}
	return nil
}

// makeAgain creates what stood there, with the owners that its fields had.
func makeAgain(ctx context.Context, resource dynamic.ResourceInterface, a Applied) error {
	again := prepare(a.Before, nil, ApplyOptions{})
	again.SetAnnotations(a.Before.GetAnnotations())
	made, err := resource.Create(ctx, again, metav1.CreateOptions{FieldManager: a.Manager})
	if apierrors.IsAlreadyExists(err) {
		live, err := get(ctx, resource, a.Ref.Name)
		if err != nil {
			return err
		}
		if live != nil && live.GetDeletionTimestamp() == nil && len(differences(a.Before, live)) == 0 {
			return nil
		}
		return ErrBeingDeleted
	}
	if err != nil {
		return err
	}
	return restoreOwners(ctx, resource, a, made)
}

// made tells whether the object is the one that the run created. A record from
// before the write does not know its UID; then the field manager and the owner
// must be ours.
func made(a Applied, live *unstructured.Unstructured) bool {
	if a.After != nil {
		return live.GetUID() == a.After.GetUID()
	}
	if live.GetAnnotations()[AnnotationOwner] != a.Owner {
		return false
	}
	for _, entry := range live.GetManagedFields() {
		if entry.Manager == a.Manager && entry.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}

// harmless refuses to delete what holds more than the run put into it.
func harmless(ctx context.Context, c Cluster, live *unstructured.Unstructured) error {
	if isKind(live, "", "Namespace") {
		return holdsNothing(ctx, c, live.GetName())
	}
	if isKind(live, "apiextensions.k8s.io", "CustomResourceDefinition") {
		return definesNothing(ctx, c, live)
	}
	if !isKind(live, "", "PersistentVolumeClaim") {
		return nil
	}
	name := shape.Text(live.Object, "spec", "volumeName")
	if name == "" {
		return nil
	}
	volumes := c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumes"})
	volume, err := get(ctx, volumes, name)
	if err != nil {
		return fmt.Errorf("persistent volume %s: %w", name, err)
	}
	if volume == nil || shape.Text(volume.Object, "spec", "persistentVolumeReclaimPolicy") == "Retain" {
		return nil
	}
	return fmt.Errorf("%w: its volume %s would go with it: set the volume's "+
		"spec.persistentVolumeReclaimPolicy to Retain first", ErrHoldsData, name)
}

// definesNothing refuses to delete a definition with its objects.
func definesNothing(ctx context.Context, c Cluster, definition *unstructured.Unstructured) error {
	spec := shape.Child(definition.Object, "spec")
	for _, version := range shape.List(spec, "versions") {
		if served, _ := version["served"].(bool); !served {
			continue
		}
		resource := schema.GroupVersionResource{Group: shape.Text(spec, "group"), Version: shape.Text(version, "name"), Resource: shape.Text(spec, "names", "plural")}
		found, err := c.Dynamic.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for objects of %s: %w", definition.GetName(), err)
		}
		if len(found.Items) > 0 {
			return fmt.Errorf("%w: the definition has objects, such as %s: delete those first", ErrHoldsData, RefOf(&found.Items[0]))
		}
		return nil
	}
	return nil
}

func holdsNothing(ctx context.Context, c Cluster, namespace string) error {
	found, err := served(c.Discovery, wish{})
	if err != nil {
		return err
	}
	var lasting []kind
	for _, k := range found {
		if r := leavesOutKind(wish{optional: []string{"job"}}, k); r == nil || !r.Remade {
			lasting = append(lasting, k)
		}
	}
	objects, unread, err := readAll(ctx, c.Dynamic, lasting, []string{namespace}, "")
	if err != nil {
		return err
	}
	var held []string
	for _, s := range unread {
		if s.Rule == RuleForbidden {
			held = append(held, s.Ref.String()+" that Godwit may not read")
		}
	}
	v := newView(Selection{Namespaces: []string{namespace}}, objects)
	for i := range v.objects {
		if r := v.leavesOut(i); r == nil || !r.Remade {
			held = append(held, RefOf(&v.objects[i]).String())
		}
	}
	if len(held) == 0 {
		return nil
	}
	return fmt.Errorf("%w: the namespace holds %s: move or delete that first", ErrHoldsData, few(held))
}

func undoUpdate(ctx context.Context, _ Cluster, resource dynamic.ResourceInterface, a Applied, o UndoOptions) error {
	live, err := get(ctx, resource, a.Ref.Name)
	if err != nil {
		return err
	}
	if live == nil || live.GetUID() != a.Before.GetUID() {
		return replace(ctx, resource, a, live, o)
	}
	base := a.After
	if base == nil {
		base = a.Before
	}
	if len(differences(a.Before, live)) > 0 {
		if changed := changedSince(a, base, live); changed != nil && !o.Force {
			return changed
		}
		restored := a.Before.DeepCopy()
		restored.SetResourceVersion(live.GetResourceVersion())
		restored.SetManagedFields(nil)
		if status, ok := live.Object["status"]; ok {
			restored.Object["status"] = status
		}
		if live, err = resource.Update(ctx, restored, metav1.UpdateOptions{FieldManager: a.Manager}); err != nil {
			return err
		}
	}
	return restoreOwners(ctx, resource, a, live)
}

// replace deals with an object that is gone, or is another one by that name.
func replace(ctx context.Context, resource dynamic.ResourceInterface, a Applied, live *unstructured.Unstructured, o UndoOptions) error {
	if !o.Force || live != nil {
		return &ChangedError{Ref: a.Ref}
	}
	return makeAgain(ctx, resource, a)
}

// restoreOwners gives the fields back to those who owned them, so that their next
// apply meets no conflict with us, and ours does not find a stranger.
func restoreOwners(ctx context.Context, resource dynamic.ResourceInterface, a Applied, live *unstructured.Unstructured) error {
	owners := ownersBefore(a, live)
	if len(owners) == 0 || sameOwners(owners, live.GetManagedFields()) {
		return nil
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
		{"op": "replace", "path": "/metadata/managedFields", "value": owners},
	})
	if err != nil {
		return fmt.Errorf("write the owners of its fields: %w", err)
	}
	_, err = resource.Patch(ctx, a.Ref.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: a.Manager})
	if apierrors.IsInvalid(err) {
		// The version is another by now, since a controller wrote meanwhile.
		return apierrors.NewConflict(schema.GroupResource{Group: a.Ref.Group, Resource: a.Ref.Kind}, a.Ref.Name, err)
	}
	if err != nil {
		return fmt.Errorf("give its fields back to their owners: %w", err)
	}
	return nil
}

// few keeps a message readable.
func few(items []string) string {
	const limit = 5
	if len(items) > limit {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:limit], ", "), len(items)-limit)
	}
	return strings.Join(items, ", ")
}

// UndoAll takes a run back, newest write first; writes of one wave side by side.
// What is left as it is, since others changed it or since it holds what the run
// did not make, is told in the first result and does not stop the rest.
func UndoAll(ctx context.Context, c Cluster, records []Applied, o UndoOptions) ([]error, error) {
	var left []error
	for len(records) > 0 {
		last := rankOf(records[len(records)-1].Ref.GroupKind())
		first := len(records) - 1
		for first > 0 && rankOf(records[first-1].Ref.GroupKind()) == last {
			first--
		}
		errs := make([]error, len(records)-first)
		var group errgroup.Group
		group.SetLimit(writesAtOnce)
		for i := range errs {
			group.Go(func() error {
				errs[i] = Undo(ctx, c, records[first+i], o)
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return left, err
		}
		for _, err := range errs {
			var changed *ChangedError
			switch {
			case errors.As(err, &changed), errors.Is(err, ErrHoldsData):
				left = append(left, err)
			case err != nil:
				return left, err
			}
		}
		records = records[:first]
	}
	return left, nil
}

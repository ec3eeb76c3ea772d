package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
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
		if a.Before == nil {
			return fmt.Errorf("undo %s: the record does not say what stood there before", a.Ref)
		}
		undo = undoUpdate
	default:
		return fmt.Errorf("undo %s: unknown action %q", a.Ref, a.Action)
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
	if !isKind(live, "", "PersistentVolumeClaim") {
		return nil
	}
	name := text(live.Object, "spec", "volumeName")
	if name == "" {
		return nil
	}
	volumes := c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumes"})
	volume, err := get(ctx, volumes, name)
	if err != nil {
		return fmt.Errorf("persistent volume %s: %w", name, err)
	}
	if volume == nil || text(volume.Object, "spec", "persistentVolumeReclaimPolicy") == "Retain" {
		return nil
	}
	return fmt.Errorf("%w: its volume %s would go with it: set the volume's "+
		"spec.persistentVolumeReclaimPolicy to Retain first", ErrHoldsData, name)
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
	_, err := resource.Create(ctx, prepare(a.Before, nil, ApplyOptions{}), metav1.CreateOptions{FieldManager: a.Manager})
	return err
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

package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Owner is another object of the same round that an object belongs to, by its name
// on the target.
type Owner struct {
	Ref        Ref
	Controller bool
}

// ownersOf finds the owners of the moved objects among these, by the UIDs that they
// have in the source. Claims are left out: whoever deletes an owner shall not
// delete data that somebody brought here, unless a controller here says so.
func ownersOf(sources []*unstructured.Unstructured, moved []Moved) {
	at := make(map[types.UID]int, len(sources))
	for i, source := range sources {
		if uid := source.GetUID(); uid != "" {
			at[uid] = i
		}
	}
	for i, source := range sources {
		if isKind(source, "", "PersistentVolumeClaim") {
			continue
		}
		for _, reference := range source.GetOwnerReferences() {
			owner, moves := at[reference.UID]
			if moves && (sources[owner].GetNamespace() == "" || sources[owner].GetNamespace() == source.GetNamespace()) {
				moved[i].Owners = append(moved[i].Owners, Owner{
					Ref: RefOf(&moved[owner].Unstructured), Controller: reference.Controller != nil && *reference.Controller,
				})
			}
		}
	}
}

// Tie gives an object that the run made to its owners, by the UIDs that these have
// in this cluster. Where the object, or an owner, is not the pair's, nothing is
// tied: it would go when another's owner goes. Doing it again writes nothing.
func Tie(ctx context.Context, c Cluster, moved *Moved, o ApplyOptions) error {
	ref := RefOf(&moved.Unstructured)
	var wanted []metav1.OwnerReference
	for _, owner := range moved.Owners {
		if owner.Ref.Namespace != "" {
			// An owner is in the same namespace, also where a drill has it elsewhere.
			owner.Ref.Namespace = ref.Namespace
		}
		stands, err := ofPair(ctx, c, owner.Ref, o)
		if err != nil {
			return fmt.Errorf("tie %s to its owner %s: %w", ref, owner.Ref, err)
		}
		if stands == nil {
			continue
		}
		reference := metav1.OwnerReference{APIVersion: stands.GetAPIVersion(), Kind: stands.GetKind(), Name: stands.GetName(), UID: stands.GetUID()}
		if owner.Controller {
			reference.Controller = &owner.Controller
		}
		wanted = append(wanted, reference)
	}
	if len(wanted) == 0 {
		return nil
	}
	if err := onConflict(func() error { return tie(ctx, c, ref, wanted, o) }); err != nil {
		return fmt.Errorf("tie %s to its owners: %w", ref, err)
	}
	return nil
}

// ofPair is what the pair has standing under the name; nil for nothing.
func ofPair(ctx context.Context, c Cluster, ref Ref, o ApplyOptions) (*unstructured.Unstructured, error) {
	resource, err := resourceOf(c, ref)
	if err != nil {
		return nil, err
	}
	live, err := get(ctx, resource, ref.Name)
	if err != nil || live == nil || live.GetDeletionTimestamp() != nil || live.GetAnnotations()[AnnotationOwner] != o.Owner {
		return nil, err
	}
	return live, nil
}

func tie(ctx context.Context, c Cluster, ref Ref, wanted []metav1.OwnerReference, o ApplyOptions) error {
	live, err := ofPair(ctx, c, ref, o)
	if err != nil || live == nil {
		return err
	}
	all := live.GetOwnerReferences()
	for _, reference := range wanted {
		if slices.ContainsFunc(all, func(r metav1.OwnerReference) bool { return r.UID == reference.UID }) {
			continue
		}
		if reference.Controller != nil && metav1.GetControllerOf(live) != nil {
			reference.Controller = nil // It has been adopted: there can be one only.
		}
		all = append(all, reference)
	}
	if len(all) == len(live.GetOwnerReferences()) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": live.GetResourceVersion(), "ownerReferences": all}})
	if err != nil {
		return err
	}
	resource, err := resourceOf(c, ref)
	if err != nil {
		return err
	}
	_, err = resource.Patch(ctx, ref.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: o.FieldManager})
	return err
}

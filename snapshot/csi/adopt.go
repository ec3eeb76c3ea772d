package csi

import (
	"context"
	"fmt"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups=snapshot.storage.k8s.io,resources=volumesnapshots,verbs=patch

// Kept is a snapshot that is to outlive the owner that it was made for.
type Kept struct {
	Namespace, Snapshot string
	// Group is the VolumeGroupSnapshot that it is a member of, with which it stays
	// or goes; empty if it was taken alone.
	Group string
}

// Adopt gives a snapshot to another owner; with its whole group, if it is of one.
// What is the new owner's already stays as it is.
func (s *Snapshots) Adopt(ctx context.Context, k Kept, from, to Owner) error {
	if k.Group != "" {
		return s.adoptGroup(ctx, types.NamespacedName{Namespace: k.Namespace, Name: k.Group}, from, to)
	}
	var vs snapshotv1.VolumeSnapshot
	key := types.NamespacedName{Namespace: k.Namespace, Name: k.Snapshot}
	if err := s.live.Get(ctx, key, &vs); err != nil {
		return fmt.Errorf("read VolumeSnapshot %s: %w", key, err)
	}
	return s.give(ctx, &vs, from, to)
}

func (s *Snapshots) give(ctx context.Context, obj client.Object, from, to Owner) error {
	if isOwned(obj, to) {
		return nil
	}
	key := client.ObjectKeyFromObject(obj)
	if !isOwned(obj, from) {
		return &FinalError{
			Problem: fmt.Sprintf("%s %s was not made for %s", kind(obj), key, from.Name),
			Remedy:  "leave it to whoever made it",
		}
	}
	before, ok := obj.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("give %s %s to %s: its copy is no object", kind(obj), key, to.Name)
	}
	labels, annotations := obj.GetLabels(), obj.GetAnnotations()
	labels[LabelOwner], annotations[AnnotationOwner] = string(to.UID), to.Name
	obj.SetLabels(labels)
	obj.SetAnnotations(annotations)
	if err := s.client.Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("give %s %s to %s: %w", kind(obj), key, to.Name, err)
	}
	return nil
}

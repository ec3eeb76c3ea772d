// Package transfer owns VolumeTransfer objects as those see them who make them:
// the source's controller and the target's agent.
//
// Its words: a transfer is outdated when its volume is published elsewhere, or by
// another pod, than it says; it is let go when its node is gone for good, for
// then nobody else will.
//
// It never carries out a transfer, and never lets one go whose node might still
// work on it: a node object that is there, ready or not, keeps its transfers.
package transfer

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// LabelOwner carries the uid of the object that a transfer was made for.
const LabelOwner = "godwit.io/owner"

// Transfers are those of one cluster.
type Transfers struct {
	Client client.Client
	// Live reads past the cache: a transfer that was made a moment ago counts.
	Live client.Reader
	// Namespace is Godwit's own.
	Namespace string
}

// IsFinal says whether nothing more will be done about the transfer.
func IsFinal(t *api.VolumeTransfer) bool {
	return t.Status.Phase == api.TransferSucceeded || t.Status.Phase == api.TransferFailed
}

// Outdated says whether the transfer looks for its volume where it no longer is.
func Outdated(t *api.VolumeTransfer, m csi.Mounted) bool {
	return m.Ready && (t.Spec.Node != m.Node || t.Spec.Mount.PodUID != m.PodUID || t.Spec.Mount.PersistentVolume != m.PersistentVolume)
}

// DropAll deletes the owner's transfers and reports whether all are gone, that
// is, whether no node touches a volume any more.
func (t Transfers) DropAll(ctx context.Context, owner types.UID) (bool, error) {
	var list api.VolumeTransferList
	if err := t.Live.List(ctx, &list, client.InNamespace(t.Namespace), client.MatchingLabels{LabelOwner: string(owner)}); err != nil {
		return false, fmt.Errorf("list the transfers of %s: %w", owner, err)
	}
	var all error
	for i := range list.Items {
		all = errors.Join(all, t.Drop(ctx, &list.Items[i]))
	}
	return len(list.Items) == 0, all
}

// Drop deletes one transfer. It is gone once its node has stopped working on it,
// or is itself gone.
func (t Transfers) Drop(ctx context.Context, one *api.VolumeTransfer) error {
	if one.DeletionTimestamp.IsZero() {
		uid := one.UID
		if err := t.Client.Delete(ctx, one, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete transfer %s: %w", one.Name, err)
		}
	}
	if !controllerutil.ContainsFinalizer(one, api.TransferFinalizer) {
		return nil
	}
	gone, err := t.nodeGone(ctx, one.Spec.Node)
	if err != nil || !gone {
		return err
	}
	before := one.DeepCopy()
	controllerutil.RemoveFinalizer(one, api.TransferFinalizer)
	if err := t.Client.Patch(ctx, one, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("let transfer %s of node %s go, which is gone: %w", one.Name, one.Spec.Node, err)
	}
	return nil
}

func (t Transfers) nodeGone(ctx context.Context, name string) (bool, error) {
	var node corev1.Node
	err := t.Live.Get(ctx, types.NamespacedName{Name: name}, &node)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read node %s: %w", name, err)
	}
	return false, nil
}

package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/transfer"
	"github.com/godwit-io/godwit/snapshot"
)

const (
	// atItsWord is how long a storage that says that nothing changed is taken at its
	// word: then the volume itself is looked at again.
	atItsWord = 10 * time.Minute
	// askPatience is how long a node may take to ask it. Reading waits for no answer.
	askPatience = 20 * time.Second
)

// mayKeep says whether the storage is asked what changed before the volume is exposed to
// a node, which takes many times as long. What is handed over for good is looked at.
func (x *run) mayKeep(v *api.MigrationVolumeInfo, b *base) bool {
	return b != nil && b.Rung == string(snapshot.MethodDelta) && b.Node != "" && b.Read != nil &&
		isTrue(x.m.Spec.Stage, false) && v.Taken != nil && v.Taken.Sub(b.Read.Time) < atItsWord
}

// keep has the base's image committed once more where nothing changed. It reports
// whether there is something to wait for, or the image; else the volume is to be read.
func (x *run) keep(ctx context.Context, v *api.MigrationVolumeInfo, secret string) (through bool, err error) {
	b, err := x.deltaBase(ctx, v)
	if err != nil || !x.mayKeep(v, b) {
		return false, err
	}
	var t api.VolumeTransfer
	key := types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v.Namespace, v.PersistentVolumeClaim) + "-keep"}
	err = x.Client.Get(ctx, key, &t)
	if apierrors.IsNotFound(err) {
		return x.askStorage(ctx, v, b, key.Name, secret)
	}
	if err != nil {
		return false, fmt.Errorf("read transfer %s: %w", key, err)
	}
	if t.Status.Phase == api.TransferSucceeded && t.Status.Image != "" {
		x.showUpload(v, &t)
		v.Node, v.Read = b.Node, b.Read
		return true, nil
	}
	v.Reason = "Volume migration has started. Waiting for the storage to tell what changed."
	return !transfer.IsFinal(&t) && t.DeletionTimestamp.IsZero() && x.Now().Sub(t.CreationTimestamp.Time) < askPatience, nil
}

func (x *run) askStorage(ctx context.Context, v *api.MigrationVolumeInfo, b *base, name, secret string) (through bool, err error) {
	waiting, err := x.Snapshots.EnsureAlias(ctx, x.exposure(*v))
	if err != nil {
		return false, fmt.Errorf("have its snapshot asked about: %w", err)
	}
	if waiting != "" {
		v.Reason = "Volume migration has started. Waiting for " + waiting
		return true, nil
	}
	trackable, err := x.trackable(ctx, *v)
	if err != nil || trackable == nil {
		return false, err
	}
	t := x.transferOf(v, name, secret)
	t.Spec.Direction, t.Spec.Node, t.Spec.Snapshot = api.Keep, b.Node, trackable
	t.Spec.Base, t.Spec.From, t.Spec.Mount.Mode = b.ofTransfer(), b.Image, string(x.exposure(*v).Mode)
	err = x.Client.Create(ctx, &t)
	if apierrors.IsInvalid(err) {
		return false, nil // Its definition is of an older version.
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return false, fmt.Errorf("create transfer %s: %w", t.Name, err)
	}
	return true, nil
}

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// seal signs the round over its images and its objects, once.
func (x *run) seal(ctx context.Context) error {
	x.markUploaded()
	if x.peer.NextSealingKey != "" {
		return fmt.Errorf("seal round %s: the sealing key of ClusterPair %s is just being replaced: it is sealed by the new one", x.m.Status.Round, x.m.Spec.ClusterPair)
	}
	location, err := backupLocation(x.pair)
	if err != nil {
		return err
	}
	loc, err := x.Locator.ForPeer(ctx, x.peer, location)
	if err != nil {
		return err
	}
	repository, err := x.Opener.Open(ctx, loc, false)
	if err != nil {
		return err
	}
	err = x.sealIn(ctx, repository)
	if err = errors.Join(err, repository.Close(ctx)); err != nil {
		return fmt.Errorf("seal round %s: %w", x.m.Status.Round, err)
	}
	// What was signed by a key that was replaced meanwhile may not be among what its
	// target knows of that key.
	peer, err := x.Peers.Get(ctx, pairing.Outgoing, x.peer.PairID)
	if err != nil {
		return fmt.Errorf("seal round %s: read pair %s: %w", x.m.Status.Round, x.peer.PairID, err)
	}
	if !peer.SameSealingKey(x.peer) {
		return fmt.Errorf("seal round %s: the sealing key of ClusterPair %s was replaced meanwhile: it is sealed once more", x.m.Status.Round, x.m.Spec.ClusterPair)
	}
	// The next round may begin from here on, and starts from what this one stored.
	if isTrue(x.m.Spec.Stage, false) {
		if err := x.keepBases(ctx); err != nil {
			return err
		}
	}
	now := metav1.NewTime(x.Now())
	x.mark(conditionSealed, "Sealed", "recovery point "+x.m.Status.Round+" at "+now.UTC().Format("2006-01-02T15:04:05Z"))
	return nil
}

func (x *run) sealIn(ctx context.Context, repository snapshot.Repository) error {
	found, err := repository.Sealed(ctx, x.application(), x.m.Status.Round)
	says, _ := found.Says()
	if err == nil {
		_, err = found.Read(x.peer)
	}
	switch {
	case err == nil:
		return nil // A crash came between sealing and remembering it.
	case errors.Is(err, snapshot.ErrSignature) && says == x.ClusterID:
		// It is by a key that was replaced since.
		err = repository.ForgetRound(ctx, snapshot.RecoveryPoint{App: x.application(), Round: x.m.Status.Round, Cluster: x.ClusterID})
		if err != nil {
			return err
		}
	case !errors.Is(err, snapshot.ErrNotFound):
		return err
	}
	epoch, err := x.ownEpoch(ctx, repository)
	if err != nil {
		return err
	}
	point := snapshot.RecoveryPoint{App: x.application(), Round: x.m.Status.Round, Cluster: x.ClusterID, Pair: x.peer.PairID, Epoch: epoch.Number, Sealed: x.Now().UTC()}
	for _, v := range x.m.Status.Volumes {
		if isMoved(v) {
			continue
		}
		image, err := repository.Image(ctx, snapshot.ImageID(v.Image))
		if err != nil {
			return fmt.Errorf("image %s of claim %s/%s: %w", v.Image, v.Namespace, v.PersistentVolumeClaim, err)
		}
		point.Images = append(point.Images, image)
	}
	objects, err := x.keptObjects(ctx)
	if err != nil {
		return err
	}
	key, err := x.peer.SealingPrivateKey()
	if err != nil {
		return err
	}
	sealed, err := snapshot.Seal(point, objects, key)
	if err != nil {
		return err
	}
	return repository.Seal(ctx, sealed)
}

// wanted leaves out claims whose data does not move: the target would make
// empty volumes for them.
func (x *run) wanted(o unstructured.Unstructured) bool {
	switch {
	case o.GetKind() == "Namespace":
		return true
	case o.GetKind() != "PersistentVolumeClaim" || o.GroupVersionKind().Group != "":
		return isTrue(x.m.Spec.IncludeResources, true)
	}
	return slices.ContainsFunc(x.m.Status.Volumes, func(v api.MigrationVolumeInfo) bool {
		return v.Namespace == o.GetNamespace() && v.PersistentVolumeClaim == o.GetName()
	})
}

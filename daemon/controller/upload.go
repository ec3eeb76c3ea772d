package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// upload takes each volume whose image is not stored yet one step further.
func (x *run) upload(ctx context.Context) error {
	location, err := backupLocation(x.pair)
	if err != nil {
		return err
	}
	secret, err := x.Locator.EnsureSecret(ctx, x.peer, location)
	if err != nil {
		return err
	}
	for i := range x.m.Status.Volumes {
		v := &x.m.Status.Volumes[i]
		if v.Image != "" {
			continue
		}
		if err := x.uploadVolume(ctx, v, secret); err != nil {
			return fmt.Errorf("claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
		}
	}
	return nil
}

func (x *run) uploadVolume(ctx context.Context, v *api.MigrationVolumeInfo, secret string) error {
	var t api.VolumeTransfer
	key := types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v.Namespace, v.PersistentVolumeClaim)}
	err := x.Client.Get(ctx, key, &t)
	if apierrors.IsNotFound(err) {
		return x.startUpload(ctx, v, secret)
	}
	if err != nil {
		return fmt.Errorf("read transfer %s: %w", key, err)
	}
	p := t.Status.Progress
	v.BytesTotal, v.BytesDone, v.BytesPerSecond, v.SecondsLeft = p.BytesTotal, p.BytesDone, p.BytesPerSecond, p.SecondsLeft
	v.Status = api.MigrationStatusInProgress
	v.Reason = fmt.Sprintf("Volume migration has started. Backup in progress. BytesDone: %d BytesTotal: %d ETA: %d seconds",
		p.BytesDone, p.BytesTotal, p.SecondsLeft)
	switch t.Status.Phase {
	case api.TransferSucceeded:
		v.Image, v.BytesTotal, v.BytesDone = t.Status.Image, t.Status.Size, t.Status.Size
		v.BytesPerSecond, v.SecondsLeft = 0, 0
		v.Reason = "Backup is complete."
	case api.TransferFailed:
		v.Status, v.Reason = api.MigrationStatusFailed, t.Status.Message
	default:
		if t.Status.Message != "" {
			v.Reason += " " + t.Status.Message
		}
	}
	return nil
}

func (x *run) startUpload(ctx context.Context, v *api.MigrationVolumeInfo, secret string) error {
	request := csi.ExposureRequest{
		Owner: x.owner(), Name: x.nameFor(v.Namespace, v.PersistentVolumeClaim) + "-" + strings.ToLower(string(v.Method)),
		Namespace: v.Namespace, Claim: v.PersistentVolumeClaim, Mode: csi.Filesystem,
	}
	if v.Method == api.MethodBlock {
		request.Mode = csi.Block
	}
	taken := metav1.NewTime(x.Now())
	if !v.Live {
		state, err := x.snapshot(ctx, *v)
		if err != nil {
			return err
		}
		request.Snapshot, taken = x.nameFor(v.Namespace, v.PersistentVolumeClaim), metav1.NewTime(state.Taken)
	}
	mounted, err := x.Snapshots.EnsureExposure(ctx, request)
	if errors.Is(err, csi.ErrNoBlocks) && x.m.Spec.Method == api.MethodAuto {
		v.Method, v.MethodReason = api.MethodFilesystem, "the storage refused to give the snapshot as a block device; files are read from it"
		x.warn("BlocksRefused", "claim %s/%s: %s", v.Namespace, v.PersistentVolumeClaim, v.MethodReason)
		return nil
	}
	if csi.IsFinal(err) {
		return final("ExposureFailed", "claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
	}
	if err != nil {
		return err
	}
	if !mounted.Ready {
		v.Reason = "Volume migration has started. Backup in progress. Waiting for the volume to be exposed: " + mounted.Waiting
		return nil
	}
	t := api.VolumeTransfer{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: x.Namespace, Name: x.nameFor(v.Namespace, v.PersistentVolumeClaim),
			Labels:      map[string]string{labelOwner: string(x.m.UID), labelManaged: managedBy},
			Annotations: map[string]string{annotationOwnerNS: x.m.Namespace, annotationOwnerName: x.m.Name},
		},
		Spec: api.VolumeTransferSpec{
			Direction: api.Upload, Node: mounted.Node, Round: x.m.Status.Round, RepositorySecret: secret, Taken: &taken,
			Volume: api.TransferVolume{Cluster: x.ClusterID, Namespace: v.Namespace, Name: v.PersistentVolumeClaim},
			Mount:  api.VolumeMount{PodUID: mounted.PodUID, PersistentVolume: mounted.PersistentVolume, Mode: string(mounted.Mode)},
		},
	}
	if err := x.Client.Create(ctx, &t); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create transfer %s: %w", t.Name, err)
	}
	return nil
}

// seal adds the objects and signs the round, once.
func (x *run) seal(ctx context.Context) error {
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
	now := metav1.NewTime(x.Now())
	x.mark(conditionSealed, "Sealed", "recovery point "+x.m.Status.Round+" at "+now.UTC().Format("2006-01-02T15:04:05Z"))
	return nil
}

func (x *run) sealIn(ctx context.Context, repository snapshot.Repository) error {
	_, err := repository.Sealed(ctx, x.application(), x.m.Status.Round)
	if err == nil {
		return nil // A crash came between sealing and remembering it.
	}
	if !errors.Is(err, snapshot.ErrNotFound) {
		return err
	}
	point := snapshot.RecoveryPoint{App: x.application(), Round: x.m.Status.Round, Cluster: x.ClusterID, Sealed: x.Now().UTC()}
	for _, v := range x.m.Status.Volumes {
		image, err := repository.Image(ctx, snapshot.ImageID(v.Image))
		if err != nil {
			return fmt.Errorf("image %s of claim %s/%s: %w", v.Image, v.Namespace, v.PersistentVolumeClaim, err)
		}
		point.Images = append(point.Images, image)
	}
	objects, err := x.collect(ctx)
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

// collect gives the round's objects as YAML.
func (x *run) collect(ctx context.Context) ([]byte, error) {
	s := x.m.Spec
	found, err := workload.Collect(ctx, x.Objects, workload.Selection{
		Namespaces: s.Namespaces, Selectors: s.Selectors, ExcludeSelectors: s.ExcludeSelectors,
		ExcludeResourceTypes: s.ExcludeResourceTypes, IncludeOptionalResourceTypes: s.IncludeOptionalResourceTypes,
		IncludeNetworkPolicyWithCIDR: isTrue(s.IncludeNetworkPolicyWithCIDR, false),
		IgnoreOwnerReferencesCheck:   isTrue(s.IgnoreOwnerReferencesCheck, false),
	})
	if err != nil {
		return nil, fmt.Errorf("collect objects: %w", err)
	}
	kept := slices.DeleteFunc(found.Objects, func(o unstructured.Unstructured) bool { return !x.wanted(o) })
	return workload.Encode(kept)
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

package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/transfer"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// upload takes volumes whose image is not stored yet one step further, a few at
// a time: each that is exposed takes a volume of the storage and a pod.
func (x *run) upload(ctx context.Context) error {
	location, err := backupLocation(x.pair)
	if err != nil {
		return err
	}
	secret, err := x.Locator.EnsureSecret(ctx, x.peer, location)
	if err != nil {
		return err
	}
	exposed := 0
	for i := range x.m.Status.Volumes {
		v := &x.m.Status.Volumes[i]
		if v.Step == stepStored || x.frozen() && !v.Live {
			continue // What is kept still for a live volume waits for nothing else.
		}
		if exposed++; exposed > x.exposures() {
			v.Reason = fmt.Sprintf("Waiting for one of %d volumes that are exposed at once to be stored.", x.exposures())
			continue
		}
		if err := x.uploadVolume(ctx, v, secret); err != nil {
			return fmt.Errorf("claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
		}
	}
	return nil
}

func (x *run) exposures() int {
	if x.Exposures <= 0 {
		return DefaultExposures
	}
	return x.Exposures
}

func (x *run) uploadVolume(ctx context.Context, v *api.MigrationVolumeInfo, secret string) error {
	if v.Image != "" {
		return x.unexpose(ctx, v)
	}
	var t api.VolumeTransfer
	key := types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v.Namespace, v.PersistentVolumeClaim)}
	err := x.Client.Get(ctx, key, &t)
	if apierrors.IsNotFound(err) {
		through, err := x.keep(ctx, v, secret)
		if err != nil || through {
			return errors.Join(err, x.unexposeStored(ctx, v))
		}
		return x.startUpload(ctx, v, secret)
	}
	if err != nil {
		return fmt.Errorf("read transfer %s: %w", key, err)
	}
	if !transfer.IsFinal(&t) {
		moved, err := x.followHolder(ctx, v, &t)
		if err != nil || moved {
			return err
		}
	}
	x.showUpload(v, &t)
	return x.unexposeStored(ctx, v)
}

// unexposeStored begins to take down what a volume was read through as soon as it is
// stored: that takes long, and nothing waits for it but the next round.
func (x *run) unexposeStored(ctx context.Context, v *api.MigrationVolumeInfo) error {
	if v.Image == "" {
		return nil
	}
	return x.unexpose(ctx, v)
}

// unexpose takes down what a stored volume was read through, for the next one.
func (x *run) unexpose(ctx context.Context, v *api.MigrationVolumeInfo) error {
	done, err := x.Snapshots.Release(ctx, x.exposureOwner(*v))
	if err != nil {
		return fmt.Errorf("take down its exposure: %w", err)
	}
	if done {
		v.Step = stepStored
	}
	return nil
}

// followHolder drops a transfer whose holder was replaced, or went to another
// node: the next one goes where the volume is now.
func (x *run) followHolder(ctx context.Context, v *api.MigrationVolumeInfo, t *api.VolumeTransfer) (moved bool, err error) {
	if !t.DeletionTimestamp.IsZero() {
		v.Reason = "Waiting for an earlier transfer on node " + t.Spec.Node + " to end."
		return true, x.transfers().Drop(ctx, t)
	}
	mounted, err := x.expose(ctx, v)
	if err != nil || !transfer.Outdated(t, mounted) {
		return false, err
	}
	x.warn("TransferMoved", "claim %s/%s: its volume was published by another pod on node %s: the transfer on node %s starts again there",
		v.Namespace, v.PersistentVolumeClaim, mounted.Node, t.Spec.Node)
	return true, x.transfers().Drop(ctx, t)
}

func (x *run) transfers() transfer.Transfers {
	return transfer.Transfers{Client: x.Client, Live: x.Live, Namespace: x.Namespace}
}

// showUpload carries over how far the transfer is.
func (x *run) showUpload(v *api.MigrationVolumeInfo, t *api.VolumeTransfer) {
	x.followAttempts(v, t)
	x.beat = max(x.beat, transfer.Beat(t, x.Now()))
	p := t.Status.Progress
	v.BytesTotal, v.BytesDone, v.BytesPerSecond, v.SecondsLeft = p.BytesTotal, p.BytesDone, p.BytesPerSecond, p.SecondsLeft
	v.BytesRead, v.BytesChanged, v.BytesUploaded = p.BytesRead, p.BytesChanged, p.BytesUploaded
	v.Base = t.Spec.From
	v.Status = api.MigrationStatusInProgress
	v.Reason = fmt.Sprintf("Volume migration has started. Backup in progress. BytesDone: %d BytesTotal: %d ETA: %d seconds",
		p.BytesDone, p.BytesTotal, p.SecondsLeft)
	switch t.Status.Phase {
	case api.TransferSucceeded:
		v.Image, v.BytesTotal, v.BytesDone = t.Status.Image, t.Status.Size, t.Status.Size
		v.BytesPerSecond, v.SecondsLeft = 0, 0
		v.Rung, v.Reason, v.Node, v.Read = t.Status.Method, "Backup is complete.", t.Spec.Node, v.Taken
		x.tellMethod(*v, t)
	case api.TransferFailed:
		v.Status, v.Reason = api.MigrationStatusFailed, t.Status.Message
	default:
		if t.Status.Message != "" {
			v.Reason += " " + t.Status.Message
		}
	}
}

// exposureOwner is each volume's own, so that one is taken down without the others.
func (x *run) exposureOwner(v api.MigrationVolumeInfo) csi.Owner {
	return csi.Owner{
		UID:  types.UID(string(x.m.UID) + "-" + digest(v.Namespace+"/"+v.PersistentVolumeClaim)),
		Name: x.owner().Name,
	}
}

// exposure is what is asked for to bring the volume's content to a node.
func (x *run) exposure(v api.MigrationVolumeInfo) csi.ExposureRequest {
	request := csi.ExposureRequest{
		Owner: x.exposureOwner(v), Name: x.nameFor(v.Namespace, v.PersistentVolumeClaim) + "-" + strings.ToLower(string(v.Method)),
		Namespace: v.Namespace, Claim: v.PersistentVolumeClaim, Mode: csi.Filesystem,
	}
	if v.Method == api.MethodBlock {
		request.Mode = csi.Block
	}
	if !v.Live {
		request.Snapshot = x.snapshotOf(v)
	}
	return request
}

// expose brings the volume's content to a node, or tells how far it is.
func (x *run) expose(ctx context.Context, v *api.MigrationVolumeInfo) (csi.Mounted, error) {
	mounted, err := x.Snapshots.EnsureExposure(ctx, x.exposure(*v))
	if csi.IsFinal(err) && !errors.Is(err, csi.ErrNoBlocks) {
		return mounted, final("ExposureFailed", "claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
	}
	return mounted, err
}

func (x *run) startUpload(ctx context.Context, v *api.MigrationVolumeInfo, secret string) error {
	mounted, err := x.expose(ctx, v)
	if errors.Is(err, csi.ErrNoBlocks) {
		return x.takeFiles(ctx, v, err)
	}
	if err != nil {
		return err
	}
	if !mounted.Ready {
		v.Reason = "Volume migration has started. Backup in progress. Waiting for the volume to be exposed: " + mounted.Waiting
		return nil
	}
	if v.Taken == nil {
		now := metav1.NewTime(x.Now())
		v.Taken = &now
		return nil // Remembered first: whoever repeats the transfer repeats this moment.
	}
	trackable, err := x.trackable(ctx, *v)
	if err != nil {
		return err
	}
	base, err := x.deltaBase(ctx, v)
	if err != nil {
		return err
	}
	t := x.transferOf(v, x.nameFor(v.Namespace, v.PersistentVolumeClaim), secret)
	t.Spec.Node, t.Spec.Snapshot = mounted.Node, trackable
	t.Spec.Mount = api.VolumeMount{PodUID: mounted.PodUID, PersistentVolume: mounted.PersistentVolume, Mode: string(mounted.Mode)}
	if base != nil {
		t.Spec.Base, t.Spec.From = base.ofTransfer(), base.Image
	} else if err := x.sinceActivation(ctx, v, &t.Spec); err != nil {
		return err
	}
	if err := x.Client.Create(ctx, &t); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create transfer %s: %w", t.Name, err)
	}
	return nil
}

// transferOf is what all transfers have that read the volume.
func (x *run) transferOf(v *api.MigrationVolumeInfo, name, secret string) api.VolumeTransfer {
	return api.VolumeTransfer{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: x.Namespace, Name: name,
			Labels:      map[string]string{transfer.LabelOwner: string(x.m.UID), labelManaged: managedBy},
			Annotations: map[string]string{annotationOwnerNS: x.m.Namespace, annotationOwnerName: x.m.Name},
		},
		Spec: api.VolumeTransferSpec{
			Direction: api.Upload, Round: x.m.Status.Round, RepositorySecret: secret, Taken: v.Taken,
			Volume: api.TransferVolume{Cluster: x.ClusterID, Namespace: v.Namespace, Name: v.PersistentVolumeClaim},
		},
	}
}

// takeFiles reads files where the storage turned out to have no blocks, unless
// blocks were asked for.
func (x *run) takeFiles(ctx context.Context, v *api.MigrationVolumeInfo, refused error) error {
	pvc, err := x.claimOf(ctx, *v)
	if err != nil {
		return err
	}
	if x.ruleFor(pvc).Method != migrate.MethodAuto {
		return final("ExposureFailed", "claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, refused)
	}
	v.Method, v.MethodReason = api.MethodFilesystem, "the storage refused to give the snapshot as a block device; files are read from it"
	x.warn("BlocksRefused", "claim %s/%s: %s", v.Namespace, v.PersistentVolumeClaim, v.MethodReason)
	return nil
}

package target

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// bringForward takes each volume that does not hold its image one step further.
func (x *run) bringForward(ctx context.Context) error {
	secret, err := x.Locator.EnsureSecret(ctx, x.peer, x.peer.BackupLocation)
	if err != nil {
		return err
	}
	x.s.Status.Phase, x.s.Status.Message = api.StandbyVolumes, ""
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if v.Image == v.Wants {
			continue
		}
		if err := x.bringVolume(ctx, v, secret); err != nil {
			return fmt.Errorf("claim %s/%s: %w", v.Namespace, v.Name, err)
		}
	}
	return nil
}

func (x *run) claimOf(v *api.StandbyVolume) (api.StandbyClaim, error) {
	for _, c := range x.s.Spec.Volumes {
		if c.Namespace == v.Namespace && c.Name == v.Name {
			return c, nil
		}
	}
	return api.StandbyClaim{}, fmt.Errorf("%w: the Standby no longer names claim %s/%s", errRefused, v.Namespace, v.Name)
}

// nameFor is the same at each call, so that nothing is made twice.
func (x *run) nameFor(v *api.StandbyVolume) string {
	sum := sha256.Sum256([]byte(string(x.s.UID) + "/" + v.Namespace + "/" + v.Name))
	return "standby-" + hex.EncodeToString(sum[:6])
}

func (x *run) labels() map[string]string {
	return map[string]string{labelOwner: string(x.s.UID), labelManaged: managedBy, labelPair: x.s.Spec.PairID}
}

func (x *run) hold(v *api.StandbyVolume) csi.HoldRequest {
	mode := csi.Filesystem
	if v.Kind == string(snapshot.Block) {
		mode = csi.Block
	}
	name := x.nameFor(v)
	return csi.HoldRequest{Owner: csi.Owner{UID: x.s.UID, Name: x.s.Name}, Name: name, Namespace: x.Namespace, Claim: name, Mode: mode}
}

func (x *run) bringVolume(ctx context.Context, v *api.StandbyVolume, secret string) error {
	if err := x.ensureClaim(ctx, v); err != nil {
		return err
	}
	var t api.VolumeTransfer
	key := types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v)}
	err := x.Client.Get(ctx, key, &t)
	if apierrors.IsNotFound(err) {
		return x.startApply(ctx, v, secret)
	}
	if err != nil {
		return fmt.Errorf("read transfer %s: %w", key.Name, err)
	}
	if t.Spec.Image != v.Wants {
		return fmt.Errorf("transfer %s is of another image (%s): waiting for it to be gone", key.Name, t.Spec.Image)
	}
	p := t.Status.Progress
	v.BytesDone, v.BytesPerSecond, v.SecondsLeft, v.Reason = p.BytesDone, p.BytesPerSecond, p.SecondsLeft, t.Status.Message
	if p.BytesTotal > 0 {
		v.BytesTotal = p.BytesTotal
	}
	switch t.Status.Phase {
	case api.TransferSucceeded:
		v.Image, v.BytesDone, v.BytesPerSecond, v.SecondsLeft, v.Reason = v.Wants, v.BytesTotal, 0, 0, ""
	case api.TransferFailed:
		v.Failed, v.Reason = true, t.Status.Message
	}
	return nil
}

// ensureClaim makes the standby volume: a device for an image of blocks, a
// directory for a tree, in Godwit's own namespace.
func (x *run) ensureClaim(ctx context.Context, v *api.StandbyVolume) error {
	wanted, err := x.claimOf(v)
	if err != nil {
		return err
	}
	size := wanted.SizeBytes
	if v.Kind == string(snapshot.Block) {
		size = max(size, v.ImageBytes)
	}
	mode := corev1.PersistentVolumeFilesystem
	if v.Kind == string(snapshot.Block) {
		mode = corev1.PersistentVolumeBlock
	}
	pvc := corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: x.Namespace, Name: x.nameFor(v), Labels: x.labels(),
			Annotations: map[string]string{annotationStandby: x.s.Name, "godwit.io/claim": v.Namespace + "/" + v.Name},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			VolumeMode: &mode, AccessModes: accessModes(wanted.AccessModes),
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(size, resource.BinarySI)}},
		},
	}
	if wanted.StorageClass != "" {
		pvc.Spec.StorageClassName = &wanted.StorageClass
	}
	if err := x.Client.Create(ctx, &pvc); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create standby volume %s: %w", pvc.Name, err)
	}
	return nil
}

func accessModes(names []string) []corev1.PersistentVolumeAccessMode {
	modes := make([]corev1.PersistentVolumeAccessMode, 0, len(names))
	for _, name := range names {
		modes = append(modes, corev1.PersistentVolumeAccessMode(name))
	}
	return modes
}

func (x *run) startApply(ctx context.Context, v *api.StandbyVolume, secret string) error {
	request := x.hold(v)
	mounted, err := x.Holds.EnsureHold(ctx, request)
	if err != nil {
		return err
	}
	if !mounted.Ready {
		v.Reason = "Waiting for the standby volume: " + mounted.Waiting
		return nil
	}
	v.Volume = mounted.PersistentVolume
	t := api.VolumeTransfer{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: x.Namespace, Name: request.Name, Labels: x.labels(), Annotations: map[string]string{annotationStandby: x.s.Name},
		},
		Spec: api.VolumeTransferSpec{
			Direction: api.Apply, Node: mounted.Node, Round: x.s.Spec.Round, RepositorySecret: secret,
			// What the volume holds is never assumed: an apply that was cut short
			// leaves it between two images.
			Image: v.Wants, From: "",
			Volume: api.TransferVolume{Cluster: x.peer.ClusterID, Namespace: v.Namespace, Name: v.Name},
			Mount:  api.VolumeMount{PodUID: mounted.PodUID, PersistentVolume: mounted.PersistentVolume, Mode: string(mounted.Mode)},
		},
	}
	if err := x.Client.Create(ctx, &t); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create transfer %s: %w", t.Name, err)
	}
	return nil
}

// dropTransfers deletes the transfers of this Standby and reports whether all
// are gone, that is, whether no node touches a volume any more.
func (x *run) dropTransfers(ctx context.Context) (bool, error) {
	var transfers api.VolumeTransferList
	if err := x.Live.List(ctx, &transfers, client.InNamespace(x.Namespace), client.MatchingLabels{labelOwner: string(x.s.UID)}); err != nil {
		return false, fmt.Errorf("list transfers of Standby %s: %w", x.s.Name, err)
	}
	var all error
	for i := range transfers.Items {
		all = errors.Join(all, client.IgnoreNotFound(x.Client.Delete(ctx, &transfers.Items[i])))
	}
	return len(transfers.Items) == 0, all
}

// dropHolds ends the holders of this Standby and reports whether all are gone.
func (x *run) dropHolds(ctx context.Context) (bool, error) {
	done := true
	for i := range x.s.Status.Volumes {
		gone, err := x.Holds.DropHold(ctx, x.hold(&x.s.Status.Volumes[i]))
		if err != nil {
			return false, err
		}
		done = done && gone
	}
	return done, nil
}

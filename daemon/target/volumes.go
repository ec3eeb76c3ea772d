package target

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/transfer"
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
	started := true
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if v.Image == v.Wants || v.Leaving {
			continue
		}
		claim, err := x.ensureClaim(ctx, v)
		if err != nil {
			return fmt.Errorf("claim %s/%s: %w", v.Namespace, v.Name, err)
		}
		started = x.start(v, claim.UID) && started
	}
	if !started {
		// Only what is written down before a volume is touched can be relied on.
		x.again = time.Millisecond
		return nil
	}
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if v.Image == v.Wants || v.Leaving {
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
	from := string(x.s.UID) + "/" + v.Namespace + "/" + v.Name
	if v.Remade > 0 {
		// Each claim that is made in place of another is beside it for a while.
		from += fmt.Sprintf("/%d", v.Remade)
	}
	sum := sha256.Sum256([]byte(from))
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
	var t api.VolumeTransfer
	key := types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v)}
	err := x.Client.Get(ctx, key, &t)
	if apierrors.IsNotFound(err) {
		return x.startApply(ctx, v, secret)
	}
	if err != nil {
		return fmt.Errorf("read transfer %s: %w", key.Name, err)
	}
	if stale, err := x.outdated(ctx, v, &t); err != nil || stale {
		return err
	}
	x.followAttempts(v, &t)
	x.beat = max(x.beat, transfer.Beat(&t, x.Now()))
	p := t.Status.Progress
	v.BytesDone, v.BytesPerSecond, v.SecondsLeft, v.Reason = p.BytesDone, p.BytesPerSecond, p.SecondsLeft, t.Status.Message
	v.BytesWritten, v.Volume = p.BytesWritten, t.Spec.Mount.PersistentVolume
	if p.BytesTotal > 0 {
		v.BytesTotal = p.BytesTotal
	}
	switch t.Status.Phase {
	case api.TransferSucceeded:
		v.Image, v.From, v.BytesDone, v.BytesPerSecond, v.SecondsLeft, v.Reason = v.Wants, "", v.BytesTotal, 0, 0, ""
	case api.TransferFailed:
		v.Failed, v.Reason = true, t.Status.Message
	}
	return nil
}

// outdated drops a transfer that is of another image, or whose volume is held by
// another pod by now: the next one goes where the volume is.
func (x *run) outdated(ctx context.Context, v *api.StandbyVolume, t *api.VolumeTransfer) (bool, error) {
	if t.Spec.Image != v.Wants || t.Spec.From != v.From || !t.DeletionTimestamp.IsZero() {
		v.Reason = "Waiting for an earlier transfer on node " + t.Spec.Node + " to end."
		return true, x.transfers().Drop(ctx, t)
	}
	if transfer.IsFinal(t) {
		return false, nil
	}
	mounted, err := x.Holds.EnsureHold(ctx, x.hold(v))
	if err != nil || !transfer.Outdated(t, mounted) {
		return false, err
	}
	v.Reason = "The standby volume was published by another pod on node " + mounted.Node + ": the transfer starts again there."
	return true, x.transfers().Drop(ctx, t)
}

// start turns a volume that holds an image to the one that it wants, and reports
// whether that is written down already. From then on it holds neither for sure,
// and a claim that is not the one it is known of holds anything.
func (x *run) start(v *api.StandbyVolume, claim types.UID) (remembered bool) {
	switch {
	case v.Claim != claim:
		v.Claim, v.Image, v.From = claim, "", ""
	case v.Image != "":
		v.From, v.Image = v.Image, ""
	default:
		return true
	}
	return false
}

// ensureClaim makes the standby volume: a device for an image of blocks, a
// directory for a tree, in Godwit's own namespace. One that is there grows with
// the source's.
func (x *run) ensureClaim(ctx context.Context, v *api.StandbyVolume) (*corev1.PersistentVolumeClaim, error) {
	wanted, err := x.wantedClaim(v)
	if err != nil {
		return nil, err
	}
	var there corev1.PersistentVolumeClaim
	err = x.Live.Get(ctx, types.NamespacedName{Namespace: wanted.Namespace, Name: wanted.Name}, &there)
	if apierrors.IsNotFound(err) {
		if err := x.Client.Create(ctx, wanted); err != nil {
			return nil, fmt.Errorf("create standby volume %s: %w", wanted.Name, err)
		}
		return wanted, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read standby volume %s: %w", wanted.Name, err)
	}
	if !there.DeletionTimestamp.IsZero() {
		return nil, fmt.Errorf("standby volume %s is being deleted: waiting until it is gone", there.Name)
	}
	if there.Labels[labelOwner] != string(x.s.UID) {
		return nil, fmt.Errorf("%w: claim %s of namespace %s is not this standby's any more: delete it, once nobody wants what it holds", errRefused, there.Name, there.Namespace)
	}
	size, has := wanted.Spec.Resources.Requests[corev1.ResourceStorage], there.Spec.Resources.Requests[corev1.ResourceStorage]
	if size.Cmp(has) <= 0 {
		return &there, nil
	}
	before := there.DeepCopy()
	there.Spec.Resources.Requests[corev1.ResourceStorage] = size
	if err := x.Client.Patch(ctx, &there, client.MergeFrom(before)); apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
		return nil, fmt.Errorf("%w: standby volume %s has %s and needs %s, and cannot grow (%w): let its class expand volumes, or delete the Standby for a full copy",
			errRefused, there.Name, has.String(), size.String(), err)
	} else if err != nil {
		return nil, fmt.Errorf("grow standby volume %s: %w", there.Name, err)
	}
	return &there, nil
}

func (x *run) wantedClaim(v *api.StandbyVolume) (*corev1.PersistentVolumeClaim, error) {
	wanted, err := x.claimOf(v)
	if err != nil {
		return nil, err
	}
	size, mode := wanted.SizeBytes, corev1.PersistentVolumeFilesystem
	if v.Kind == string(snapshot.Block) {
		size, mode = max(size, v.ImageBytes), corev1.PersistentVolumeBlock
	}
	pvc := &corev1.PersistentVolumeClaim{
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
	if from := x.madeOf(v); from != "" {
		group := csi.SnapshotGroup
		pvc.Spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: "VolumeSnapshot", Name: from}
	}
	return pvc, nil
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
		return x.giveUpSnapshot(ctx, v)
	}
	if x.madeOf(v) != "" {
		return x.holdsSnapshot(ctx, v, mounted)
	}
	t := x.transferOf(v, request.Name, secret, mounted)
	if err := x.Client.Create(ctx, t); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create transfer %s: %w", t.Name, err)
	}
	return nil
}

func (x *run) transferOf(v *api.StandbyVolume, name, secret string, mounted csi.Mounted) *api.VolumeTransfer {
	return &api.VolumeTransfer{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: x.Namespace, Name: name, Labels: x.labels(), Annotations: map[string]string{annotationStandby: x.s.Name},
		},
		Spec: api.VolumeTransferSpec{
			Direction: api.Apply, Node: mounted.Node, Round: x.s.Spec.Round, RepositorySecret: secret,
			Image: v.Wants, From: v.From, Verify: x.s.Spec.Verify, Reconcile: v.Adopted && v.From == "" && v.Kind == string(snapshot.Block),
			Volume: api.TransferVolume{Cluster: x.peer.ClusterID, Namespace: v.Namespace, Name: v.Name},
			Mount:  api.VolumeMount{PodUID: mounted.PodUID, PersistentVolume: mounted.PersistentVolume, Mode: string(mounted.Mode)},
		},
	}
}

// dropTransfers deletes the transfers of this Standby and reports whether all
// are gone, that is, whether no node touches a volume any more.
func (x *run) dropTransfers(ctx context.Context) (bool, error) {
	done, err := x.transfers().DropAll(ctx, x.s.UID)
	if err != nil {
		return false, fmt.Errorf("end the transfers of Standby %s: %w", x.s.Name, err)
	}
	return done, nil
}

func (x *run) transfers() transfer.Transfers {
	return transfer.Transfers{Client: x.Client, Live: x.Live, Namespace: x.Namespace}
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

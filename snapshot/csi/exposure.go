package csi

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

const (
	annotationModeChange   = "snapshot.storage.kubernetes.io/allow-volume-mode-change"
	annotationSecretPrefix = "snapshot.storage.kubernetes.io/deletion-secret-"

	annotationDefaultStorageClass = "storageclass.kubernetes.io/is-default-class"
)

// ExposureRequest asks for a volume's content on a node.
type ExposureRequest struct {
	Owner Owner
	// Name is unique within the owner and the namespace.
	Name string
	// Namespace and Claim are the application's.
	Namespace string
	Claim     string
	// Mode is what the node shall see.
	Mode Mode
	// Snapshot is a VolumeSnapshot in Namespace; empty exposes the live volume,
	// which only Filesystem can.
	Snapshot string
}

// Mounted tells where a volume is published, as a VolumeTransfer wants it.
type Mounted struct {
	// Ready says that kubelet has published the volume; the other fields but
	// Waiting are valid then.
	Ready            bool
	Node             string
	PodUID           types.UID
	PersistentVolume string
	Mode             Mode
	// Waiting says in words what it waits for.
	Waiting string
}

// EnsureExposure brings the volume's content to a node, or tells how far it is.
// ErrNoBlocks says that the storage refuses Mode Block.
func (s *Snapshots) EnsureExposure(ctx context.Context, r ExposureRequest) (Mounted, error) {
	var source corev1.PersistentVolumeClaim
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Claim}
	if err := s.client.Get(ctx, key, &source); apierrors.IsNotFound(err) {
		return Mounted{}, &FinalError{Problem: fmt.Sprintf("PersistentVolumeClaim %s does not exist", key), Remedy: "leave it out, or create it"}
	} else if err != nil {
		return Mounted{}, fmt.Errorf("read PersistentVolumeClaim %s: %w", key, err)
	}
	if r.Mode == Filesystem && modeOf(&source) == Block {
		return Mounted{}, &FinalError{
			Problem: fmt.Sprintf("claim %s is a raw block volume and holds no files that could be mounted", key),
			Remedy:  "move it as blocks",
		}
	}
	if r.Snapshot == "" {
		return s.exposeLive(ctx, r, &source)
	}
	return s.exposeSnapshot(ctx, r, &source)
}

func (s *Snapshots) exposeLive(ctx context.Context, r ExposureRequest, source *corev1.PersistentVolumeClaim) (Mounted, error) {
	if r.Mode == Block {
		return Mounted{}, &FinalError{
			Problem: fmt.Sprintf("claim %s/%s has no snapshots, and blocks that change while they are read make no volume", r.Namespace, r.Claim),
			Remedy:  "give its driver a VolumeSnapshotClass, or move the volume as files",
		}
	}
	pv, err := s.volumeOf(ctx, source)
	if err != nil {
		return Mounted{}, err
	}
	place, err := s.placeOfLive(ctx, source, pv)
	if err != nil {
		return Mounted{}, err
	}
	if place.waiting != "" {
		return Mounted{Waiting: place.waiting}, nil
	}
	return s.hold(ctx, holder{
		owner: r.Owner, role: roleExposure, namespace: r.Namespace, name: ownName(r.Owner, r.Namespace, r.Name),
		claim: r.Claim, mode: Filesystem, readOnly: true, place: place,
	})
}

func (s *Snapshots) exposeSnapshot(ctx context.Context, r ExposureRequest, source *corev1.PersistentVolumeClaim) (Mounted, error) {
	alias, waiting, err := s.aliasOf(ctx, r)
	if err != nil || waiting != "" {
		return Mounted{Waiting: waiting}, err
	}
	pvc, err := s.ensureClaim(ctx, r, source, alias)
	if err != nil {
		return Mounted{}, err
	}
	if pvc.DeletionTimestamp != nil {
		return Mounted{Waiting: fmt.Sprintf("an earlier claim %s to be deleted", pvc.Name)}, nil
	}
	if err := s.refusedBlocks(ctx, r.Mode, source, pvc); err != nil {
		return Mounted{}, err
	}
	place, err := s.placeNear(ctx, source)
	if err != nil {
		return Mounted{}, err
	}
	return s.hold(ctx, holder{
		owner: r.Owner, role: roleExposure, namespace: pvc.Namespace, name: pvc.Name,
		claim: pvc.Name, mode: r.Mode, readOnly: true, place: place,
	})
}

// aliased is a snapshot that can be used from Godwit's namespace.
type aliased struct {
	name, driver string
	// restoreSize is what a volume of it has at least.
	restoreSize int64
}

func (s *Snapshots) aliasOf(ctx context.Context, r ExposureRequest) (a aliased, waiting string, err error) {
	var vs snapshotv1.VolumeSnapshot
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Snapshot}
	if err := s.client.Get(ctx, key, &vs); err != nil {
		return a, "", fmt.Errorf("read VolumeSnapshot %s: %w", key, err)
	}
	state, content, err := s.snapshotState(ctx, &vs)
	if err != nil {
		return a, "", err
	}
	if !state.Ready || content == nil {
		return a, waitingFor(fmt.Sprintf("VolumeSnapshot %s to be ready", key), state.Err), nil
	}
	name, waiting, err := s.ensureAlias(ctx, r, content, state.Handle)
	return aliased{name, content.Spec.Driver, state.RestoreSize}, waiting, err
}

// ensureAlias makes the second content and the snapshot bound to it in Godwit's
// namespace. The content is Retain, so that the alias never takes the handle
// with it; the mode change is allowed since the alias is read, never restored
// for anybody's use.
func (s *Snapshots) ensureAlias(ctx context.Context, r ExposureRequest, original *snapshotv1.VolumeSnapshotContent, handle string) (alias, waiting string, err error) {
	name := ownName(r.Owner, r.Namespace, r.Name)
	content := &snapshotv1.VolumeSnapshotContent{
		ObjectMeta: objectMeta(r.Owner, roleExposure, "", name),
		Spec: snapshotv1.VolumeSnapshotContentSpec{
			VolumeSnapshotRef:       corev1.ObjectReference{Kind: "VolumeSnapshot", APIVersion: snapshotv1.SchemeGroupVersion.String(), Namespace: s.cfg.Namespace, Name: name},
			DeletionPolicy:          snapshotv1.VolumeSnapshotContentRetain,
			Driver:                  original.Spec.Driver,
			VolumeSnapshotClassName: original.Spec.VolumeSnapshotClassName,
			Source:                  snapshotv1.VolumeSnapshotContentSource{SnapshotHandle: &handle},
			SourceVolumeMode:        original.Spec.SourceVolumeMode,
		},
	}
	content.Annotations[annotationModeChange] = "true"
	// Some drivers need the secret even to look at a snapshot.
	maps.Copy(content.Annotations, secretAnnotations(original.Annotations))
	if content, err = ensure(ctx, s, r.Owner, content); err != nil {
		return "", "", err
	}
	if h := content.Spec.Source.SnapshotHandle; h == nil || *h != handle || content.DeletionTimestamp != nil {
		return "", fmt.Sprintf("an earlier VolumeSnapshotContent %s to be deleted", name), nil
	}
	vs, err := ensure(ctx, s, r.Owner, &snapshotv1.VolumeSnapshot{
		ObjectMeta: objectMeta(r.Owner, roleExposure, s.cfg.Namespace, name),
		Spec: snapshotv1.VolumeSnapshotSpec{
			Source:                  snapshotv1.VolumeSnapshotSource{VolumeSnapshotContentName: &name},
			VolumeSnapshotClassName: original.Spec.VolumeSnapshotClassName,
		},
	})
	if err != nil {
		return "", "", err
	}
	if vs.DeletionTimestamp != nil {
		return "", fmt.Sprintf("an earlier VolumeSnapshot %s to be deleted", name), nil
	}
	state, _, err := s.snapshotState(ctx, vs)
	if err == nil && !state.Ready {
		waiting = waitingFor(fmt.Sprintf("VolumeSnapshot %s/%s to be ready", s.cfg.Namespace, name), state.Err)
	}
	return name, waiting, err
}

func secretAnnotations(from map[string]string) map[string]string {
	secrets := map[string]string{}
	for k, v := range from {
		if strings.HasPrefix(k, annotationSecretPrefix) {
			secrets[k] = v
		}
	}
	return secrets
}

func (s *Snapshots) ensureClaim(ctx context.Context, r ExposureRequest, source *corev1.PersistentVolumeClaim, from aliased) (*corev1.PersistentVolumeClaim, error) {
	class, err := s.storageClass(ctx, source, from.driver)
	if err != nil {
		return nil, err
	}
	size := source.Spec.Resources.Requests[corev1.ResourceStorage]
	if size.Value() < from.restoreSize {
		size = *resource.NewQuantity(from.restoreSize, resource.BinarySI)
	}
	mode := corev1.PersistentVolumeMode(r.Mode)
	group := SnapshotGroup
	return ensure(ctx, s, r.Owner, &corev1.PersistentVolumeClaim{
		ObjectMeta: objectMeta(r.Owner, roleExposure, s.cfg.Namespace, from.name),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      accessModes(source),
			StorageClassName: &class,
			VolumeMode:       &mode,
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: size}},
			DataSource:       &corev1.TypedLocalObjectReference{APIGroup: &group, Kind: "VolumeSnapshot", Name: from.name},
		},
	})
}

// accessModes asks for one node: more is needed by nobody, and drivers that
// give many nodes a volume give it to one too. Only what can never be written
// stays so.
func accessModes(source *corev1.PersistentVolumeClaim) []corev1.PersistentVolumeAccessMode {
	readers := []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}
	if slices.Equal(source.Spec.AccessModes, readers) {
		return readers
	}
	return []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
}

// storageClass is the source's own where it still is, else one of the same driver.
func (s *Snapshots) storageClass(ctx context.Context, source *corev1.PersistentVolumeClaim, driver string) (string, error) {
	var classes storagev1.StorageClassList
	if err := s.client.List(ctx, &classes); err != nil {
		return "", fmt.Errorf("list StorageClasses: %w", err)
	}
	own := ""
	if source.Spec.StorageClassName != nil {
		own = *source.Spec.StorageClassName
	}
	fits := slices.DeleteFunc(classes.Items, func(c storagev1.StorageClass) bool { return c.Provisioner != driver })
	if len(fits) == 0 {
		return "", &FinalError{
			Problem: fmt.Sprintf("claim %s/%s cannot be exposed: no StorageClass has provisioner %s", source.Namespace, source.Name, driver),
			Remedy:  "create one",
		}
	}
	return slices.MinFunc(fits, func(a, b storagev1.StorageClass) int {
		return cmp.Or(
			-compareBool(a.Name == own, b.Name == own),
			cmp.Compare(rank(a.Annotations[annotationDefaultStorageClass]), rank(b.Annotations[annotationDefaultStorageClass])),
			cmp.Compare(a.Name, b.Name),
		)
	}).Name, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// refusedBlocks recognizes a driver that has no blocks by the provisioner's
// event: nothing tells it beforehand, and the provisioner tries for ever.
func (s *Snapshots) refusedBlocks(ctx context.Context, mode Mode, source, pvc *corev1.PersistentVolumeClaim) error {
	if mode != Block || modeOf(source) == Block || pvc.Spec.VolumeName != "" || pvc.UID == "" {
		return nil
	}
	event, err := s.warning(ctx, pvc)
	if err != nil || event == nil || event.Reason != "ProvisioningFailed" {
		return err
	}
	for _, code := range []string{"code = InvalidArgument", "code = Unimplemented"} {
		if strings.Contains(event.Message, code) {
			return fmt.Errorf("claim %s/%s: %w: %s", source.Namespace, source.Name, ErrNoBlocks, event.Message)
		}
	}
	return nil
}

func waitingFor(what, problem string) string {
	if problem == "" {
		return what
	}
	return what + ": " + problem
}

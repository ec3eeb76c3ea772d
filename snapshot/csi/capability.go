package csi

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
)

const annotationDefaultClass = "snapshot.storage.kubernetes.io/is-default-class"

// Capability says what the storage behind a claim can do.
type Capability struct {
	// Driver is the CSI driver; empty where the volume is not of one.
	Driver string
	// SnapshotClass is the VolumeSnapshotClass to use; empty for no snapshots.
	SnapshotClass string
	// Reason says in words why there are no snapshots.
	Reason string
	// Blocks is false where the volume is certainly no block device underneath:
	// it is not of a CSI driver, or many nodes write its files at once. A driver
	// without blocks shows only by EnsureExposure's ErrNoBlocks.
	Blocks bool
}

// Capability finds the driver and the snapshot class of a claim: the class that
// is marked as default, else the first by name.
func (s *Snapshots) Capability(ctx context.Context, pvc *corev1.PersistentVolumeClaim) (Capability, error) {
	pv, err := s.volumeOf(ctx, pvc)
	if err != nil {
		return Capability{}, err
	}
	if pv.Spec.CSI == nil {
		return Capability{Reason: fmt.Sprintf("PersistentVolume %s is not of a CSI driver", pv.Name)}, nil
	}
	c := Capability{Driver: pv.Spec.CSI.Driver, Blocks: hasBlocks(pvc)}
	var classes snapshotv1.VolumeSnapshotClassList
	if err := s.client.List(ctx, &classes); meta.IsNoMatchError(err) {
		c.Reason = "the cluster has no VolumeSnapshots: install the snapshot.storage.k8s.io CRDs and the snapshot-controller"
		return c, nil
	} else if err != nil {
		return Capability{}, fmt.Errorf("list VolumeSnapshotClasses: %w", err)
	}
	c.SnapshotClass = chooseClass(classes.Items, c.Driver)
	if c.SnapshotClass == "" {
		c.Reason = fmt.Sprintf("no VolumeSnapshotClass names driver %s", c.Driver)
	}
	return c, nil
}

func hasBlocks(pvc *corev1.PersistentVolumeClaim) bool {
	return modeOf(pvc) == Block || !slices.Contains(pvc.Spec.AccessModes, corev1.ReadWriteMany)
}

func chooseClass(classes []snapshotv1.VolumeSnapshotClass, driver string) string {
	classes = slices.DeleteFunc(slices.Clone(classes), func(c snapshotv1.VolumeSnapshotClass) bool {
		return c.Driver != driver
	})
	if len(classes) == 0 {
		return ""
	}
	return slices.MinFunc(classes, func(a, b snapshotv1.VolumeSnapshotClass) int {
		return cmp.Or(
			cmp.Compare(rank(a.Annotations[annotationDefaultClass]), rank(b.Annotations[annotationDefaultClass])),
			cmp.Compare(a.Name, b.Name),
		)
	}).Name
}

func rank(isDefault string) int {
	if isDefault == "true" {
		return 0
	}
	return 1
}

// volumeOf returns the claim's volume; a claim without one is a final error,
// since only its user can bring it to be bound.
func (s *Snapshots) volumeOf(ctx context.Context, pvc *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, error) {
	if pvc.Spec.VolumeName == "" || pvc.Status.Phase == corev1.ClaimLost {
		return nil, &FinalError{
			Problem: fmt.Sprintf("PersistentVolumeClaim %s/%s has no volume (phase %s)", pvc.Namespace, pvc.Name, pvc.Status.Phase),
			Remedy:  "see `kubectl describe pvc`; start a pod that uses it, or leave the claim out",
		}
	}
	var pv corev1.PersistentVolume
	if err := s.client.Get(ctx, types.NamespacedName{Name: pvc.Spec.VolumeName}, &pv); err != nil {
		return nil, fmt.Errorf("read PersistentVolume %s of claim %s/%s: %w", pvc.Spec.VolumeName, pvc.Namespace, pvc.Name, err)
	}
	return &pv, nil
}

// modeOf returns a claim's own mode; Kubernetes takes none for Filesystem.
func modeOf(pvc *corev1.PersistentVolumeClaim) Mode {
	if pvc.Spec.VolumeMode != nil && *pvc.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		return Block
	}
	return Filesystem
}

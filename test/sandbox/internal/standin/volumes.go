package standin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volume is a claim of a pod with what it is bound to.
type volume struct {
	pv       *corev1.PersistentVolume
	readOnly bool
	attached map[string]string // what the driver said when it was attached
}

func (v volume) block() bool {
	return v.pv.Spec.VolumeMode != nil && *v.pv.Spec.VolumeMode == corev1.PersistentVolumeBlock
}

// published is kept beside what is published, as kubelet does (vol_data.json), for when the volume
// is to be taken back and its objects are gone.
type published struct {
	Driver string `json:"driverName"`
	Handle string `json:"volumeHandle"`
	PV     string `json:"specVolID"`
	Target string `json:"target"`
	Stage  string `json:"stage"`
}

// volumes are the pod's claims on volumes of our drivers, all bound and attached, or an error that
// says what is not yet.
func (k *kubelet) volumes(ctx context.Context, pod *corev1.Pod) ([]volume, error) {
	var all []volume
	for _, pv := range pod.Spec.Volumes {
		claim, readOnly := "", false
		switch {
		case pv.PersistentVolumeClaim != nil:
			claim, readOnly = pv.PersistentVolumeClaim.ClaimName, pv.PersistentVolumeClaim.ReadOnly
		case pv.Ephemeral != nil:
			claim = pod.Name + "-" + pv.Name
		default:
			continue // only volumes of CSI drivers are published
		}
		v, err := k.volume(ctx, pod.Namespace, claim)
		if err != nil {
			return nil, err
		}
		v.readOnly = readOnly
		all = append(all, v)
	}
	return all, nil
}

func (k *kubelet) volume(ctx context.Context, namespace, claim string) (volume, error) {
	pvc, err := k.api.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, claim, metav1.GetOptions{})
	if err != nil {
		return volume{}, err
	}
	if pvc.Status.Phase != corev1.ClaimBound {
		return volume{}, fmt.Errorf("claim %s is not bound yet", claim)
	}
	pv, err := k.api.CoreV1().PersistentVolumes().Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return volume{}, err
	}
	if pv.Spec.CSI == nil || k.drivers[pv.Spec.CSI.Driver] == nil {
		return volume{}, fmt.Errorf("volume %s is not of a driver on this node", pv.Name)
	}
	v := volume{pv: pv}
	driver, err := k.api.StorageV1().CSIDrivers().Get(ctx, pv.Spec.CSI.Driver, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return volume{}, err
	}
	if err == nil && driver.Spec.AttachRequired != nil && !*driver.Spec.AttachRequired {
		return v, nil
	}
	attachment, err := k.api.StorageV1().VolumeAttachments().Get(ctx, attachmentName(pv.Spec.CSI.VolumeHandle, pv.Spec.CSI.Driver, k.cfg.NodeName), metav1.GetOptions{})
	if err != nil {
		return volume{}, fmt.Errorf("not attached yet: %w", err)
	}
	if !attachment.Status.Attached {
		return volume{}, fmt.Errorf("volume %s is not attached yet", pv.Name)
	}
	v.attached = attachment.Status.AttachmentMetadata
	return v, nil
}

// attachmentName is how Kubernetes names the attachment of a CSI volume to a node.
func attachmentName(handle, driver, node string) string {
	sum := sha256.Sum256([]byte(handle + driver + node))
	return "csi-" + hex.EncodeToString(sum[:])
}

// publish shows the volume to the pod.
func (k *kubelet) publish(ctx context.Context, pod *corev1.Pod, v volume) error {
	driver := k.drivers[v.pv.Spec.CSI.Driver]
	uid := string(pod.UID)
	p := published{Driver: v.pv.Spec.CSI.Driver, Handle: v.pv.Spec.CSI.VolumeHandle, PV: v.pv.Name}
	sum := sha256.Sum256([]byte(p.Handle))
	folder := filepath.Join(k.podDir(uid), "volumes", "kubernetes.io~csi", p.PV)
	p.Target = filepath.Join(folder, "mount")
	p.Stage = k.path("plugins", "kubernetes.io", "csi", p.Driver, hex.EncodeToString(sum[:]), "globalmount")
	if v.block() {
		base := k.path("plugins", "kubernetes.io", "csi", "volumeDevices")
		folder = filepath.Join(base, p.PV, "data", uid)
		p.Target, p.Stage = filepath.Join(base, "publish", p.PV, uid), filepath.Join(base, "staging", p.PV)
	}
	for _, dir := range []string{folder, filepath.Dir(p.Target), p.Stage, k.recordDir(uid)} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}
	// Written first: what is recorded is taken back, whether it was finished or not.
	if err := k.record(uid, p); err != nil {
		return err
	}
	capability := v.capability()
	if _, err := driver.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: p.Handle, StagingTargetPath: p.Stage, VolumeCapability: capability,
		PublishContext: v.attached, VolumeContext: v.pv.Spec.CSI.VolumeAttributes,
	}); err != nil {
		return err
	}
	attributes := map[string]string{
		"csi.storage.k8s.io/pod.name": pod.Name, "csi.storage.k8s.io/pod.namespace": pod.Namespace,
		"csi.storage.k8s.io/pod.uid": uid, "csi.storage.k8s.io/serviceAccount.name": pod.Spec.ServiceAccountName,
	}
	for key, value := range v.pv.Spec.CSI.VolumeAttributes {
		attributes[key] = value
	}
	if _, err := driver.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: p.Handle, StagingTargetPath: p.Stage, TargetPath: p.Target, VolumeCapability: capability,
		Readonly: v.readOnly, PublishContext: v.attached, VolumeContext: attributes,
	}); err != nil {
		return err
	}
	if v.block() {
		return link(p.Target, filepath.Join(k.podDir(uid), "volumeDevices", "kubernetes.io~csi", p.PV))
	}
	return nil
}

// link makes a symbolic link at name, as kubelet does for the devices of a pod.
func link(target, name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return err
	}
	if err := os.Symlink(target, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (v volume) capability() *csi.VolumeCapability {
	mode := csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	for _, m := range v.pv.Spec.AccessModes {
		switch m {
		case corev1.ReadWriteMany:
			mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
		case corev1.ReadOnlyMany:
			mode = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
		case corev1.ReadWriteOnce, corev1.ReadWriteOncePod:
		}
	}
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}}
	if v.block() {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		return c
	}
	c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{
		FsType: v.pv.Spec.CSI.FSType, MountFlags: v.pv.Spec.MountOptions,
	}}
	return c
}

// clear takes back all that was published for the pod, and removes its folder.
func (k *kubelet) clear(ctx context.Context, uid string) error {
	files, err := filepath.Glob(filepath.Join(k.recordDir(uid), "*.json"))
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		var p published
		if err := json.Unmarshal(b, &p); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		if err := k.unpublish(ctx, uid, p); err != nil {
			return fmt.Errorf("volume %s: %w", p.PV, err)
		}
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	// What a driver published is gone: RemoveAll follows no link.
	return os.RemoveAll(k.podDir(uid))
}

func (k *kubelet) unpublish(ctx context.Context, uid string, p published) error {
	driver := k.drivers[p.Driver]
	if driver == nil {
		return fmt.Errorf("driver %s is not on this node any more", p.Driver)
	}
	if _, err := driver.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: p.Handle, TargetPath: p.Target}); err != nil {
		return err
	}
	others, err := filepath.Glob(filepath.Join(k.path("pods"), "*", "records", p.PV+".json"))
	if err != nil {
		return err
	}
	for _, o := range others {
		if o != k.recordFile(uid, p.PV) {
			return nil // another pod of this node has it
		}
	}
	_, err = driver.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: p.Handle, StagingTargetPath: p.Stage})
	return err
}

func (k *kubelet) podDir(uid string) string { return k.path("pods", uid) }

func (k *kubelet) recordDir(uid string) string { return filepath.Join(k.podDir(uid), "records") }

func (k *kubelet) recordFile(uid, pv string) string {
	return filepath.Join(k.recordDir(uid), pv+".json")
}

func (k *kubelet) record(uid string, p published) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	tmp := k.recordFile(uid, p.PV) + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, k.recordFile(uid, p.PV))
}

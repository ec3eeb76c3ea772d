// Package remote owns what another cluster has to know of a PersistentVolume to
// reach the same storage.
//
// Its words: storage is remote when a name that is good everywhere leads to it, as
// the server and path of NFS or the handle of a CSI volume; what is packed is the
// spec of a PersistentVolume with nothing in it but that name, and how to mount it.
//
// It never says whose the storage is: who may name it is decided by those who ask.
package remote

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Of keeps of a volume's spec what leads to its storage. It fails for storage that
// other clusters cannot reach, or not by what a PersistentVolume says of it.
func Of(spec corev1.PersistentVolumeSpec) (corev1.PersistentVolumeSpec, error) {
	spec = *spec.DeepCopy()
	kept := corev1.PersistentVolumeSpec{
		Capacity: spec.Capacity, AccessModes: spec.AccessModes, VolumeMode: spec.VolumeMode,
		MountOptions: spec.MountOptions, NodeAffinity: spec.NodeAffinity,
	}
	kept.NFS, kept.CSI = spec.NFS, spec.CSI
	switch kind := Kind(spec); {
	case kind != "nfs" && kind != "csi":
		return kept, fmt.Errorf("its storage is of kind %s, and only nfs and csi volumes can be handed to another cluster", kind)
	case hostOf(spec) != "":
		return kept, fmt.Errorf("its storage is on node %s alone", hostOf(spec))
	case kind == "csi" && (spec.CSI.Driver == "" || spec.CSI.VolumeHandle == ""), kind == "nfs" && (spec.NFS.Server == "" || spec.NFS.Path == ""):
		return kept, errors.New("its volume does not say where its storage is")
	}
	return kept, nil
}

// Kind names the one source that a spec has, as the API does; none or several are
// told by what they are.
func Kind(spec corev1.PersistentVolumeSpec) string {
	data, err := json.Marshal(spec.PersistentVolumeSource)
	var sources map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(data, &sources)
	}
	if err != nil || len(sources) != 1 {
		return "unknown"
	}
	for kind := range sources {
		return kind
	}
	return "unknown"
}

// hostOf is the node that the volume's affinity binds it to; empty for none.
func hostOf(spec corev1.PersistentVolumeSpec) string {
	if spec.NodeAffinity == nil || spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, term := range spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range term.MatchExpressions {
			if e.Key == corev1.LabelHostname {
				return strings.Join(e.Values, ", ")
			}
		}
		for _, e := range term.MatchFields {
			return strings.Join(e.Values, ", ")
		}
	}
	return ""
}

// Pack writes down what Of keeps.
func Pack(spec corev1.PersistentVolumeSpec) ([]byte, error) {
	kept, err := Of(spec)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("write the spec of a volume: %w", err)
	}
	return data, nil
}

// Unpack reads what Pack wrote, and trusts nothing in it: what Of would not keep is
// refused, not dropped.
func Unpack(data []byte) (corev1.PersistentVolumeSpec, error) {
	var spec corev1.PersistentVolumeSpec
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&spec); err != nil {
		return spec, fmt.Errorf("read the spec of a volume: %w", err)
	}
	kept, err := Of(spec)
	if err != nil {
		return kept, err
	}
	if !equality.Semantic.DeepEqual(kept, spec) {
		return kept, errors.New("the spec of the volume says more than where its storage is")
	}
	return kept, nil
}

// Same is true for specs that lead to one storage.
func Same(a, b corev1.PersistentVolumeSpec) bool {
	switch {
	case a.NFS != nil && b.NFS != nil:
		return a.NFS.Server == b.NFS.Server && strings.TrimRight(a.NFS.Path, "/") == strings.TrimRight(b.NFS.Path, "/")
	case a.CSI != nil && b.CSI != nil:
		return a.CSI.Driver == b.CSI.Driver && a.CSI.VolumeHandle == b.CSI.VolumeHandle
	}
	return false
}

// Name is what people know the storage by.
func Name(spec corev1.PersistentVolumeSpec) string {
	switch {
	case spec.NFS != nil:
		return "nfs " + spec.NFS.Server + ":" + spec.NFS.Path
	case spec.CSI != nil:
		return spec.CSI.Driver + " " + spec.CSI.VolumeHandle
	}
	return Kind(spec)
}

// Secrets are those that a driver needs to reach the storage, by namespace/name.
func Secrets(spec corev1.PersistentVolumeSpec) []corev1.SecretReference {
	if spec.CSI == nil {
		return nil
	}
	var named []corev1.SecretReference
	for _, ref := range []*corev1.SecretReference{
		spec.CSI.ControllerPublishSecretRef, spec.CSI.NodeStageSecretRef, spec.CSI.NodePublishSecretRef,
		spec.CSI.ControllerExpandSecretRef, spec.CSI.NodeExpandSecretRef,
	} {
		if ref != nil {
			named = append(named, *ref)
		}
	}
	return named
}

// Digest tells one set of volumes from another; each is named by its claim. It is
// empty for none.
func Digest(volumes map[string]corev1.PersistentVolumeSpec) (string, error) {
	if len(volumes) == 0 {
		return "", nil
	}
	data, err := json.Marshal(volumes) // Keys come in order.
	if err != nil {
		return "", fmt.Errorf("write the specs of volumes: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
)

// VolumeAction says what becomes of a claim.
// +kubebuilder:validation:Enum=Copy;Move;Skip
type VolumeAction string

// The actions.
const (
	// VolumeCopy copies the data to a volume of the target.
	VolumeCopy VolumeAction = "Copy"
	// VolumeMove hands the same remote volume to the target, without a copy: one of NFS,
	// or of a CSI driver that both clusters have.
	VolumeMove VolumeAction = "Move"
	// VolumeSkip leaves claim and data out.
	VolumeSkip VolumeAction = "Skip"
)

// EveryClaim is the name by which a VolumeRule matches every claim.
const EveryClaim = "*"

// VolumeRule says what becomes of the claims that it names. All of name, labels and
// storageClass that are set must match; the first rule that does counts.
// +kubebuilder:validation:XValidation:rule="has(self.name) || has(self.labels) || has(self.storageClass)",message="name the claims: by name, labels or storageClass"
type VolumeRule struct {
	// Name of the claim, or namespace/name; * is every claim.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name,omitempty"`
	// Labels that the claim has, all of them.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	Labels map[string]string `json:"labels,omitempty"`
	// StorageClass of the claim on the source.
	// +optional
	// +kubebuilder:validation:MinLength=1
	StorageClass string `json:"storageClass,omitempty"`
	// Action: Copy when not set.
	// +optional
	// +kubebuilder:default=Copy
	Action VolumeAction `json:"action,omitempty"`
	// Method that reads the volume, in the place of the Migration's.
	// +optional
	Method TransferMethod `json:"method,omitempty"`
	// TargetStorageClass is the class on the target, in the place of the one that
	// storageClassMapping gives.
	// +optional
	TargetStorageClass string `json:"targetStorageClass,omitempty"`
	// Size of the target's volume: at least the source's.
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
	// AccessModes of the target's volume and claim, in the place of the source's.
	// +optional
	// +kubebuilder:validation:MinItems=1
	AccessModes []AccessMode `json:"accessModes,omitempty"`
}

// AccessMode is a PersistentVolumeAccessMode of Kubernetes.
// +kubebuilder:validation:Enum=ReadWriteOnce;ReadOnlyMany;ReadWriteMany;ReadWriteOncePod
type AccessMode string

// Limits hold a Migration back that is larger than was meant.
type Limits struct {
	// Namespaces that may move at once: more is an error. 10 when not set.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Namespaces *int32 `json:"namespaces,omitempty"`
	// Pods and Volumes: more is a warning. 100 when not set.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Pods *int32 `json:"pods,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=1
	Volumes *int32 `json:"volumes,omitempty"`
}

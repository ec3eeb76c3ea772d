package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MostRecoveryPoints is how many recovery points a Standby lists: the newest.
const MostRecoveryPoints = 200

// RecoveryPoints is what the repository has of an application, as it was read from
// the object store alone: the source has no part in it.
type RecoveryPoints struct {
	// Listed is when the repository was read last.
	// +optional
	Listed *metav1.Time `json:"listed,omitempty"`
	// Total counts those that are in the repository, listed here or not.
	Total int32 `json:"total"`
	// Message says why the repository could not be read since.
	// +optional
	Message string `json:"message,omitempty"`
	// Items are the newest, the newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=200
	Items []RecoveryPoint `json:"items,omitempty"`
}

// SealState says whether a recovery point may be trusted.
// +kubebuilder:validation:Enum=Valid;Refused
type SealState string

// The states of a seal.
const (
	// SealValid is a point that the paired cluster signed, for this application.
	SealValid SealState = "Valid"
	// SealRefused is one that it did not sign: nothing of it can be believed.
	SealRefused SealState = "Refused"
)

// RecoveryPoint is one sealed round of an application.
type RecoveryPoint struct {
	// Round names it: perform failover --to takes it.
	Round string `json:"round"`
	// Sealed is when it was complete.
	// +optional
	Sealed *metav1.Time `json:"sealed,omitempty"`
	// Taken is when the oldest of its snapshots was taken.
	// +optional
	Taken *metav1.Time `json:"taken,omitempty"`
	// SizeBytes is what its volumes come to.
	// +optional
	SizeBytes int64 `json:"sizeBytes,omitempty"`
	// Volumes counts its volumes.
	// +optional
	Volumes int32 `json:"volumes,omitempty"`
	// Seal says whether it may be trusted; Reason why it may not.
	Seal SealState `json:"seal"`
	// +optional
	Reason string `json:"reason,omitempty"`
}

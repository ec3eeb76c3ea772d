package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StandbyPhase tells how far the target is with a round.
// +kubebuilder:validation:Enum="";Pending;Volumes;Applications;Ready;Failed
type StandbyPhase string

// The phases.
const (
	StandbyPending      StandbyPhase = "Pending"
	StandbyVolumes      StandbyPhase = "Volumes"
	StandbyApplications StandbyPhase = "Applications"
	StandbyReady        StandbyPhase = "Ready"
	StandbyFailed       StandbyPhase = "Failed"
)

// Standby is the target's copy of one application. The agent writes it when
// the paired source says so; users read it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="Application",type=string,JSONPath=`.spec.application`
// +kubebuilder:printcolumn:name="Round",type=string,JSONPath=`.status.round`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Standby struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   StandbySpec   `json:"spec"`
	Status StandbyStatus `json:"status,omitempty"`
}

// StandbySpec says what to bring up.
type StandbySpec struct {
	// PairID is the pair that asked.
	PairID string `json:"pairID"`
	// Application is namespace/name of the source's object.
	Application string `json:"application"`
	// Round names the sealed recovery point to bring the standby to.
	Round string `json:"round"`
	// Namespaces that the round covers.
	Namespaces []string `json:"namespaces"`
	// StartApplications hands the volumes over and starts the workloads.
	StartApplications bool `json:"startApplications"`
	// IncludeResources applies the objects.
	IncludeResources bool `json:"includeResources"`
	// Volumes that the target provides.
	// +optional
	Volumes []StandbyClaim `json:"volumes,omitempty"`
}

// StandbyClaim is one volume that the target provides.
type StandbyClaim struct {
	Namespace    string `json:"namespace"`
	Name         string `json:"name"`
	StorageClass string `json:"storageClass,omitempty"`
	// VolumeMode is the application's: Block or Filesystem.
	VolumeMode  string   `json:"volumeMode"`
	AccessModes []string `json:"accessModes"`
	SizeBytes   int64    `json:"sizeBytes"`
	// SourceVolume is the PersistentVolume's name on the source.
	// +optional
	SourceVolume string `json:"sourceVolume,omitempty"`
}

// StandbyStatus tells how far it is.
type StandbyStatus struct {
	// +optional
	Phase StandbyPhase `json:"phase,omitempty"`
	// Round that the standby holds, whole.
	// +optional
	Round string `json:"round,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// +optional
	Volumes []StandbyVolume `json:"volumes,omitempty"`
	// +optional
	Resources []MigrationResourceInfo `json:"resources,omitempty"`
	// Reached is when Round was reached.
	// +optional
	Reached *metav1.Time `json:"reached,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// StandbyVolume tells how one volume of a standby fares.
type StandbyVolume struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Volume is the PersistentVolume.
	// +optional
	Volume string `json:"volume,omitempty"`
	// Wants is the round's image of it, Kind is Block or Tree, Filesystem what is
	// on it, ImageBytes how large it is.
	// +optional
	Wants string `json:"wants,omitempty"`
	// +optional
	Kind string `json:"kind,omitempty"`
	// +optional
	Filesystem string `json:"filesystem,omitempty"`
	// +optional
	ImageBytes int64 `json:"imageBytes,omitempty"`
	// Image that it holds, whole; empty while one is being applied.
	// +optional
	Image string `json:"image,omitempty"`
	// HandedOver says that the application's claim has it.
	// +optional
	HandedOver bool `json:"handedOver,omitempty"`
	// Failed says that it never will hold the image; Reason says why.
	// +optional
	Failed bool `json:"failed,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	BytesTotal int64 `json:"bytesTotal,omitempty"`
	// +optional
	BytesDone int64 `json:"bytesDone,omitempty"`
	// +optional
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
	// +optional
	SecondsLeft int64 `json:"secondsLeft,omitempty"`
}

// StandbyList is a list of Standby.
// +kubebuilder:object:root=true
type StandbyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Standby `json:"items"`
}

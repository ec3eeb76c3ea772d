package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ApplicationRegistration says how custom resources are kept from running.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=godwit
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ApplicationRegistration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Resources []ApplicationResource `json:"resources"`
}

// ApplicationResource is one kind of custom resource.
type ApplicationResource struct {
	metav1.GroupVersionKind `json:",inline"`
	// KeepStatus is read and has no effect: status belongs to the target.
	// +optional
	KeepStatus bool `json:"keepStatus,omitempty"`
	// +optional
	SuspendOptions SuspendOptions `json:"suspendOptions,omitempty"`
	// CustomSuspendOptions are further fields to hold by.
	// +optional
	CustomSuspendOptions []SuspendOptions `json:"customSuspendOptions,omitempty"`
	// PodsPath is read and has no effect on a move.
	// +optional
	PodsPath string `json:"podsPath,omitempty"`
	// +optional
	StashStrategy StashStrategy `json:"stashStrategy,omitempty"`
}

// SuspendOptions names the field that keeps a custom resource from running.
type SuspendOptions struct {
	// Path leads through names, separated by dots.
	// +optional
	Path string `json:"path,omitempty"`
	// +optional
	// +kubebuilder:validation:Enum="";bool;int;string
	Type string `json:"type,omitempty"`
	// Value holds: true unless given for bool, always 0 for int.
	// +optional
	Value string `json:"value,omitempty"`
}

// StashStrategy puts the object away until the application starts.
type StashStrategy struct {
	// +optional
	StashCR bool `json:"stashCR,omitempty"`
}

// ApplicationRegistrationList is a list of ApplicationRegistration.
// +kubebuilder:object:root=true
type ApplicationRegistrationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ApplicationRegistration `json:"items"`
}

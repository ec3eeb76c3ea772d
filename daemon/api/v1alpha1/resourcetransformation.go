package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ResourceTransformationStatusType is stork's word for whether rules can be used.
// +kubebuilder:validation:Enum="";InProgress;Ready;Failed
type ResourceTransformationStatusType string

// The values that stork knows.
const (
	TransformationInitial    ResourceTransformationStatusType = ""
	TransformationInProgress ResourceTransformationStatusType = "InProgress"
	TransformationReady      ResourceTransformationStatusType = "Ready"
	TransformationFailed     ResourceTransformationStatusType = "Failed"
)

// ResourceTransformation changes objects on their way to a target.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ResourceTransformation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Specs is stork's name for the spec.
	Specs  ResourceTransformationSpec   `json:"specs"`
	Status ResourceTransformationStatus `json:"status,omitempty"`
}

// ResourceTransformationSpec lists rules, which are used in order.
type ResourceTransformationSpec struct {
	// +kubebuilder:validation:MinItems=1
	TransformSpecs []TransformSpec `json:"transformSpecs"`
}

// TransformSpec changes the objects of one kind.
type TransformSpec struct {
	// Resource is group/version/kind; the core group is empty: /v1/Service. The
	// version may be that of the source or of the target.
	Resource string `json:"resource"`
	// Selectors: all of these labels must be on the object.
	// +optional
	Selectors map[string]string `json:"selectors,omitempty"`
	// +kubebuilder:validation:MinItems=1
	Paths []TransformPath `json:"paths"`
}

// TransformPath is one change.
type TransformPath struct {
	// Path leads through names, separated by dots, and list indices:
	// spec.template.spec.containers[0].image. A name with dots stands in
	// brackets: metadata.labels['app.kubernetes.io/name'].
	// +optional
	Path string `json:"path,omitempty"`
	// Value is text, read by Type; for jsonpatch it is the patch (RFC 6902).
	// +optional
	Value string `json:"value,omitempty"`
	// +optional
	// +kubebuilder:validation:Enum="";int;string;bool;slice;keypair
	Type string `json:"type,omitempty"`
	// +kubebuilder:validation:Enum=add;modify;delete;jsonpatch
	Operation string `json:"operation"`
}

// ResourceTransformationStatus tells whether the rules can be used.
type ResourceTransformationStatus struct {
	// +optional
	Status ResourceTransformationStatusType `json:"status,omitempty"`
	// Message says what is wrong, and where.
	// +optional
	Message string `json:"message,omitempty"`
	// Resources are objects of this namespace that the rules change.
	// +optional
	Resources []TransformedResource `json:"resources,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// TransformedResource is an object that rules change.
type TransformedResource struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	// Group is "core" for the group without a name, as in stork.
	Group   string                           `json:"group"`
	Version string                           `json:"version"`
	Kind    string                           `json:"kind"`
	Status  ResourceTransformationStatusType `json:"status"`
	Reason  string                           `json:"reason"`
}

// ResourceTransformationList is a list of ResourceTransformation.
// +kubebuilder:object:root=true
type ResourceTransformationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ResourceTransformation `json:"items"`
}

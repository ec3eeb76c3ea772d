package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BackupLocationType is the kind of object store.
// +kubebuilder:validation:Enum=s3
type BackupLocationType string

// S3Location is an object store that speaks S3.
const S3Location BackupLocationType = "s3"

// BackupLocation says where repositories are kept, and with which keys.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.location.type`
// +kubebuilder:printcolumn:name="Path",type=string,JSONPath=`.location.path`
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.location.s3Config.endpoint`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BackupLocation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Location BackupLocationItem   `json:"location"`
	Status   BackupLocationStatus `json:"status,omitempty"`
}

// BackupLocationItem is the body of a BackupLocation, as stork has it.
type BackupLocationItem struct {
	Type BackupLocationType `json:"type"`
	// Path is the bucket, and after a slash an optional prefix in it.
	// +kubebuilder:validation:MinLength=1
	Path string `json:"path"`
	// S3Config holds the parameters of an S3 store.
	// +optional
	S3Config *S3Config `json:"s3Config,omitempty"`
	// SecretConfig names a Secret of this namespace whose keys endpoint,
	// accessKeyID, secretAccessKey, region, disableSSL and caBundle stand in
	// for those that s3Config leaves empty.
	// +optional
	SecretConfig string `json:"secretConfig,omitempty"`
}

// S3Config holds the parameters of an S3 store.
type S3Config struct {
	// Endpoint is host or host:port, with or without a scheme.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// +optional
	AccessKeyID string `json:"accessKeyID,omitempty"`
	// SecretAccessKey can be read by whoever reads this object: prefer secretConfig.
	// +optional
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
	// +optional
	Region string `json:"region,omitempty"`
	// +optional
	DisableSSL bool `json:"disableSSL,omitempty"`
	// CABundle is PEM, for stores whose certificate no public authority signed.
	// +optional
	CABundle string `json:"caBundle,omitempty"`
	// InsecureSkipVerify does not check the store's certificate at all.
	// +optional
	InsecureSkipVerify bool `json:"insecureSkipVerify,omitempty"`
}

// BackupLocationStatus tells whether the location can be used.
type BackupLocationStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// LastChecked is when the store was last written to and read from.
	// +optional
	LastChecked *metav1.Time `json:"lastChecked,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BackupLocationList is a list of BackupLocation.
// +kubebuilder:object:root=true
type BackupLocationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BackupLocation `json:"items"`
}

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ClusterPairStatusType is stork's word for how one side of a pair stands.
// +kubebuilder:validation:Enum="";Pending;Ready;Error;Degraded;Deleting;NotProvided
type ClusterPairStatusType string

// The values that stork knows.
const (
	ClusterPairStatusInitial     ClusterPairStatusType = ""
	ClusterPairStatusPending     ClusterPairStatusType = "Pending"
	ClusterPairStatusReady       ClusterPairStatusType = "Ready"
	ClusterPairStatusError       ClusterPairStatusType = "Error"
	ClusterPairStatusDegraded    ClusterPairStatusType = "Degraded"
	ClusterPairStatusDeleting    ClusterPairStatusType = "Deleting"
	ClusterPairStatusNotProvided ClusterPairStatusType = "NotProvided"
)

// Keys of ClusterPairSpec.Options.
const (
	// OptionIP is the host of the target's pairing service.
	OptionIP = "ip"
	// OptionPort is its port.
	OptionPort = "port"
	// OptionToken is the token that the target printed; it is spent once.
	OptionToken = "token"
	// OptionBackupLocation names a BackupLocation of the pair's namespace.
	OptionBackupLocation = "backuplocation"
	// OptionMode is DisasterRecovery or OneTimeMigration.
	OptionMode = "mode"
)

// ClusterPair is trust from this cluster, the source, to another, the target.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=cp,categories=godwit
// +kubebuilder:printcolumn:name="Storage-Status",type=string,JSONPath=`.status.storageStatus`
// +kubebuilder:printcolumn:name="Scheduler-Status",type=string,JSONPath=`.status.schedulerStatus`
// +kubebuilder:printcolumn:name="Remote",type=string,JSONPath=`.status.remoteClusterName`
// +kubebuilder:printcolumn:name="Expires",type=date,JSONPath=`.status.certificateExpires`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterPair struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterPairSpec   `json:"spec"`
	Status ClusterPairStatus `json:"status,omitempty"`
}

// ClusterPairSpec says how to reach the target.
type ClusterPairSpec struct {
	// Config is where stork keeps a kubeconfig. Godwit needs none and does not
	// read it: delete what is in it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Config *runtime.RawExtension `json:"config,omitempty"`
	// Options are ip, port, token, backuplocation and mode.
	// +optional
	Options map[string]string `json:"options,omitempty"`
}

// ClusterPairStatus tells how the pair stands.
type ClusterPairStatus struct {
	// SchedulerStatus is about the other cluster's agent.
	// +optional
	SchedulerStatus ClusterPairStatusType `json:"schedulerStatus"`
	// StorageStatus is about the pair's repository, as both sides see it.
	// +optional
	StorageStatus ClusterPairStatusType `json:"storageStatus"`
	// RemoteStorageID is the id of the other cluster.
	// +optional
	RemoteStorageID string `json:"remoteStorageId"`
	// +optional
	RemoteClusterName string `json:"remoteClusterName,omitempty"`
	// PairID names the pair on both sides.
	// +optional
	PairID string `json:"pairID,omitempty"`
	// +optional
	CertificateExpires *metav1.Time `json:"certificateExpires,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ClusterPairList is a list of ClusterPair.
// +kubebuilder:object:root=true
type ClusterPairList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterPair `json:"items"`
}

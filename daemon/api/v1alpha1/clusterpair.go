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
	// OptionMode is ModeDisasterRecovery or OneTimeMigration.
	OptionMode = "mode"
	// OptionBidirectional is true or false: whether the target may send back by
	// the same pairing. Where it is not set, the mode says so.
	OptionBidirectional = "bidirectional"

	// OptionRepositoryOf names another ClusterPair of the namespace, to another cluster,
	// whose repository this one is to use: what both are sent is stored once. It counts
	// when the pair is made.
	OptionRepositoryOf = "repositoryof"

	// ModeDisasterRecovery is the mode of pairs that serve both directions.
	ModeDisasterRecovery = "DisasterRecovery"

	// LabelDirection tells the ClusterPairs that stand for other clusters' pairs
	// to this one, in Godwit's own namespace, from those that lead elsewhere.
	LabelDirection = "godwit.io/direction"
	// DirectionIncoming is the value of LabelDirection.
	DirectionIncoming = "incoming"
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
	// Options are ip, port, token, backuplocation, mode, bidirectional and repositoryof.
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
	// Repository is the id of the pair that the repository was made for: another one
	// where it is shared, and where the pair is the way back of another.
	// +optional
	Repository string `json:"repository,omitempty"`
	// +optional
	CertificateExpires *metav1.Time `json:"certificateExpires,omitempty"`
	// Upkeep tells how the pair's repository is kept.
	// +optional
	Upkeep *RepositoryUpkeep `json:"upkeep,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RepositoryUpkeep tells what retention and maintenance did in a repository.
type RepositoryUpkeep struct {
	// Done is when both were last gone through without trouble.
	// +optional
	Done *metav1.Time `json:"done,omitempty"`
	// Points counts the recovery points in the repository, of both clusters.
	// +optional
	Points int64 `json:"points"`
	// RemovedPoints and RemovedImages count what retention removed since the pair
	// was made.
	// +optional
	RemovedPoints int64 `json:"removedPoints,omitempty"`
	// +optional
	RemovedImages int64 `json:"removedImages,omitempty"`
	// Collected is when the space of what no image needs was last freed.
	// +optional
	Collected *metav1.Time `json:"collected,omitempty"`
	// Message says what is in the way, or who maintains the repository instead.
	// +optional
	Message string `json:"message,omitempty"`
	// Failing is true where Message is trouble.
	// +optional
	Failing bool `json:"failing,omitempty"`
}

// ClusterPairList is a list of ClusterPair.
// +kubebuilder:object:root=true
type ClusterPairList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterPair `json:"items"`
}

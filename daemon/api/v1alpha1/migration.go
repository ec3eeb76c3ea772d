package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MigrationStageType is stork's word for how far a Migration is.
// +kubebuilder:validation:Enum="";PreExecRule;PostExecRule;Volumes;Applications;Final
type MigrationStageType string

// The stages, in order.
const (
	MigrationStageInitial      MigrationStageType = ""
	MigrationStagePreExecRule  MigrationStageType = "PreExecRule"
	MigrationStagePostExecRule MigrationStageType = "PostExecRule"
	MigrationStageVolumes      MigrationStageType = "Volumes"
	MigrationStageApplications MigrationStageType = "Applications"
	MigrationStageFinal        MigrationStageType = "Final"
)

// MigrationStatusType is stork's word for how a Migration, a volume or a resource fares.
// +kubebuilder:validation:Enum="";Pending;InProgress;Failed;PartialSuccess;Successful;Purged
type MigrationStatusType string

// The values that stork knows.
const (
	MigrationStatusInitial        MigrationStatusType = ""
	MigrationStatusPending        MigrationStatusType = "Pending"
	MigrationStatusInProgress     MigrationStatusType = "InProgress"
	MigrationStatusFailed         MigrationStatusType = "Failed"
	MigrationStatusPartialSuccess MigrationStatusType = "PartialSuccess"
	MigrationStatusSuccessful     MigrationStatusType = "Successful"
	MigrationStatusPurged         MigrationStatusType = "Purged"
)

// TransferMethod says how a volume is to be read.
// +kubebuilder:validation:Enum=Auto;Block;Filesystem
type TransferMethod string

// The methods.
const (
	// MethodAuto takes Block where the storage has snapshots and blocks, else Filesystem.
	MethodAuto       TransferMethod = "Auto"
	MethodBlock      TransferMethod = "Block"
	MethodFilesystem TransferMethod = "Filesystem"
)

// Migration moves an application of one or more namespaces to the target of a pair, once.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="ClusterPair",type=string,JSONPath=`.spec.clusterPair`
// +kubebuilder:printcolumn:name="Stage",type=string,JSONPath=`.status.stage`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.status`
// +kubebuilder:printcolumn:name="Volumes",type=string,JSONPath=`.status.summary.volumes`
// +kubebuilder:printcolumn:name="Resources",type=string,JSONPath=`.status.summary.resources`
// +kubebuilder:printcolumn:name="Bytes",type=integer,JSONPath=`.status.summary.totalBytesMigrated`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Migration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   MigrationSpec   `json:"spec"`
	Status MigrationStatus `json:"status,omitempty"`
}

// MigrationSpec says what to move, and where to.
type MigrationSpec struct {
	// ClusterPair is the name of a ClusterPair in the namespace of the Migration.
	// +kubebuilder:validation:MinLength=1
	ClusterPair string `json:"clusterPair"`
	// Namespaces to move. Outside the admin namespace it may only be the
	// Migration's own.
	// +kubebuilder:validation:MinItems=1
	Namespaces []string `json:"namespaces"`
	// IncludeResources moves the objects too; false moves the volumes and their claims only.
	// +optional
	// +kubebuilder:default=true
	IncludeResources *bool `json:"includeResources,omitempty"`
	// IncludeVolumes moves the volumes' data.
	// +optional
	// +kubebuilder:default=true
	IncludeVolumes *bool `json:"includeVolumes,omitempty"`
	// StartApplications starts the workloads on the target; false leaves them at
	// zero with an annotation that remembers their replicas.
	// +optional
	// +kubebuilder:default=false
	StartApplications *bool `json:"startApplications,omitempty"`
	// SkipServiceUpdate keeps the cluster's own fields of Services as they are.
	// +optional
	SkipServiceUpdate *bool `json:"skipServiceUpdate,omitempty"`
	// IncludeNetworkPolicyWithCIDR also moves NetworkPolicies with an ipBlock.
	// +optional
	IncludeNetworkPolicyWithCIDR *bool `json:"includeNetworkPolicyWithCIDR,omitempty"`
	// Selectors: all of these labels must be on an object for it to move.
	// +optional
	Selectors map[string]string `json:"selectors,omitempty"`
	// ExcludeSelectors: any of these labels on an object leaves it out.
	// +optional
	ExcludeSelectors map[string]string `json:"excludeSelectors,omitempty"`
	// ExcludeResourceTypes are kinds to leave out.
	// +optional
	ExcludeResourceTypes []string `json:"excludeResourceTypes,omitempty"`
	// IncludeOptionalResourceTypes are kinds that are left out unless named, such as Job.
	// +optional
	IncludeOptionalResourceTypes []string `json:"includeOptionalResourceTypes,omitempty"`
	// IgnoreOwnerReferencesCheck also moves objects whose owner moves.
	// +optional
	IgnoreOwnerReferencesCheck *bool `json:"ignoreOwnerReferencesCheck,omitempty"`
	// SkipDeletedNamespaces goes on with the others when a namespace is not there.
	// +optional
	// +kubebuilder:default=true
	SkipDeletedNamespaces *bool `json:"skipDeletedNamespaces,omitempty"`
	// StorageClassMapping gives the target's class for each class of the source;
	// a class that is not named keeps its name.
	// +optional
	StorageClassMapping map[string]string `json:"storageClassMapping,omitempty"`
	// Method says how volumes are read.
	// +optional
	// +kubebuilder:default=Auto
	Method TransferMethod `json:"method,omitempty"`
	// AdminClusterPair is not served yet: a Migration that names one is refused.
	// +optional
	AdminClusterPair string `json:"adminClusterPair,omitempty"`
	// PreExecRule is not served yet: a Migration that names one is refused.
	// +optional
	PreExecRule string `json:"preExecRule,omitempty"`
	// PostExecRule is not served yet: a Migration that names one is refused.
	// +optional
	PostExecRule string `json:"postExecRule,omitempty"`
	// TransformSpecs is not served yet: a Migration that names one is refused.
	// +optional
	TransformSpecs []string `json:"transformSpecs,omitempty"`
	// NamespaceSelectors is not served yet: a Migration that has some is refused.
	// +optional
	NamespaceSelectors map[string]string `json:"namespaceSelectors,omitempty"`
	// PurgeDeletedResources is not served yet: a Migration that sets it is refused.
	// +optional
	PurgeDeletedResources *bool `json:"purgeDeletedResources,omitempty"`
}

// MigrationStatus tells how far a Migration is.
type MigrationStatus struct {
	// +optional
	Stage MigrationStageType `json:"stage"`
	// +optional
	Status MigrationStatusType `json:"status"`
	// Round names the recovery point of this run.
	// +optional
	Round string `json:"round,omitempty"`
	// +optional
	Resources []MigrationResourceInfo `json:"resources,omitempty"`
	// +optional
	Volumes []MigrationVolumeInfo `json:"volumes,omitempty"`
	// +optional
	FinishTimestamp *metav1.Time `json:"finishTimestamp,omitempty"`
	// +optional
	VolumeMigrationFinishTimestamp *metav1.Time `json:"volumeMigrationFinishTimestamp,omitempty"`
	// +optional
	ResourceMigrationFinishTimestamp *metav1.Time `json:"resourceMigrationFinishTimestamp,omitempty"`
	// +optional
	Summary *MigrationSummary `json:"summary,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MigrationResourceInfo tells how one object fares.
type MigrationResourceInfo struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	// Group is "core" for the group without a name, as in stork.
	Group   string              `json:"group"`
	Version string              `json:"version"`
	Kind    string              `json:"kind"`
	Status  MigrationStatusType `json:"status"`
	Reason  string              `json:"reason"`
}

// MigrationVolumeInfo tells how one volume fares.
type MigrationVolumeInfo struct {
	PersistentVolumeClaim string `json:"persistentVolumeClaim"`
	Namespace             string `json:"namespace"`
	// Volume is the PersistentVolume on the source.
	Volume string              `json:"volume"`
	Status MigrationStatusType `json:"status"`
	Reason string              `json:"reason"`
	// BytesTotal is what goes through; BytesDone how much of it has.
	BytesTotal int64 `json:"bytesTotal"`
	// +optional
	BytesDone int64 `json:"bytesDone,omitempty"`
	// BytesPerSecond is the present rate.
	// +optional
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
	// SecondsLeft is a guess from the present rate.
	// +optional
	SecondsLeft int64 `json:"secondsLeft,omitempty"`
	// Method tells what read the volume: Block or Filesystem, and why.
	// +optional
	Method TransferMethod `json:"method,omitempty"`
	// +optional
	MethodReason string `json:"methodReason,omitempty"`
	// Live says that the volume is read while in use, since it has no snapshots.
	// +optional
	Live bool `json:"live,omitempty"`
	// Step is Snapshot, Backup, Restore or Done.
	// +optional
	Step string `json:"step,omitempty"`
	// TargetVolume is the PersistentVolume on the target.
	// +optional
	TargetVolume string `json:"targetVolume,omitempty"`
	// Image is the volume's image in the repository.
	// +optional
	Image string `json:"image,omitempty"`
}

// MigrationSummary counts.
type MigrationSummary struct {
	TotalNumberOfVolumes            int64  `json:"totalNumberOfVolumes"`
	NumberOfMigratedVolumes         int64  `json:"numOfMigratedVolumes"`
	TotalNumberOfResources          int64  `json:"totalNumberOfResources"`
	NumberOfMigratedResources       int64  `json:"numOfMigratedResources"`
	TotalBytesMigrated              int64  `json:"totalBytesMigrated"`
	ElapsedTimeForVolumeMigration   string `json:"elapsedTimeForVolumeMigration"`
	ElapsedTimeForResourceMigration string `json:"elapsedTimeForResourceMigration"`
	// Volumes and Resources are done/total, for tables.
	// +optional
	Volumes string `json:"volumes,omitempty"`
	// +optional
	Resources string `json:"resources,omitempty"`
}

// MigrationList is a list of Migration.
// +kubebuilder:object:root=true
type MigrationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Migration `json:"items"`
}

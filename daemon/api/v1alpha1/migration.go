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
// Cancelled and RolledBack are Godwit's own.
// +kubebuilder:validation:Enum="";Pending;InProgress;Failed;PartialSuccess;Successful;Purged;Cancelled;RolledBack
type MigrationStatusType string

// The values.
const (
	MigrationStatusInitial        MigrationStatusType = ""
	MigrationStatusPending        MigrationStatusType = "Pending"
	MigrationStatusInProgress     MigrationStatusType = "InProgress"
	MigrationStatusFailed         MigrationStatusType = "Failed"
	MigrationStatusPartialSuccess MigrationStatusType = "PartialSuccess"
	MigrationStatusSuccessful     MigrationStatusType = "Successful"
	MigrationStatusPurged         MigrationStatusType = "Purged"
	MigrationStatusCancelled      MigrationStatusType = "Cancelled"
	MigrationStatusRolledBack     MigrationStatusType = "RolledBack"
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
// +kubebuilder:validation:XValidation:rule="!(has(self.stage) && self.stage && has(self.quiesce) && self.quiesce)",message="a stage run stops nothing: leave out quiesce, or stage"
// +kubebuilder:validation:XValidation:rule="!(has(self.stage) && self.stage && has(self.precopy))",message="a stage run is one round: leave out precopy, or stage"
// +kubebuilder:validation:XValidation:rule="!(has(self.activate) && self.activate) || (has(self.quiesce) && self.quiesce && has(self.startApplications) && self.startApplications)",message="activate needs quiesce and startApplications: the application may run on one side only"
// +kubebuilder:validation:XValidation:rule="(has(self.namespaces) && size(self.namespaces) > 0) || (has(self.namespaceSelectors) && size(self.namespaceSelectors) > 0)",message="nothing to move: name spec.namespaces, or spec.namespaceSelectors"
// +kubebuilder:validation:XValidation:rule="!(has(self.dropTargetWrites) && self.dropTargetWrites && has(self.bringTargetWrites) && self.bringTargetWrites)",message="what was written on the target is thrown away or brought back: leave out dropTargetWrites, or bringTargetWrites"
type MigrationSpec struct {
	// ClusterPair is the name of a ClusterPair in the namespace of the Migration.
	// +kubebuilder:validation:MinLength=1
	ClusterPair string `json:"clusterPair"`
	// Namespaces to move. Outside the admin namespace it may only be the
	// Migration's own.
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
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
	// Volumes say what becomes of single claims: the first rule that matches counts.
	// +optional
	// +kubebuilder:validation:MaxItems=200
	Volumes []VolumeRule `json:"volumes,omitempty"`
	// Limits hold a Migration back that is larger than was meant.
	// +optional
	Limits *Limits `json:"limits,omitempty"`
	// Timeouts bound how long it may get no further.
	// +optional
	Timeouts         *Timeouts `json:"timeouts,omitempty"`
	SelectionOptions `json:",inline"`
	ObjectOptions    `json:",inline"`
	LifeOptions      `json:",inline"`
	RuleOptions      `json:",inline"`
	HookOptions      `json:",inline"`
	// AdminClusterPair is an admin pair of the admin namespace, to the same cluster.
	// It answers for what has no namespace, and for namespaces with their labels;
	// all else goes by ClusterPair.
	// +optional
	AdminClusterPair string `json:"adminClusterPair,omitempty"`
	// TransformSpecs are ResourceTransformations. Each must be in every namespace
	// that moves.
	// +optional
	TransformSpecs []string `json:"transformSpecs,omitempty"`
	// NamespaceSelectors: a namespace with any of these labels moves too.
	// +optional
	NamespaceSelectors map[string]string `json:"namespaceSelectors,omitempty"`
	// PurgeDeletedResources deletes on the target what an earlier run brought and
	// the source no longer has.
	// +optional
	PurgeDeletedResources *bool `json:"purgeDeletedResources,omitempty"`
}

// MigrationStatus tells how far a Migration is.
type MigrationStatus struct {
	// +optional
	Stage MigrationStageType `json:"stage"`
	// +optional
	Status MigrationStatusType `json:"status"`
	// Namespaces that move.
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// Round names the recovery point of this run.
	// +optional
	Round string `json:"round,omitempty"`
	// ReadVersions are the API versions, by kind and group, in which objects are read
	// where the target does not serve the one that this cluster prefers.
	// +optional
	ReadVersions map[string]string `json:"readVersions,omitempty"`
	LifeStatus   `json:",inline"`
	RetryStatus  `json:",inline"`
	// Waiting is what it waits for that has a limit, and how long it has got no further.
	// +optional
	Waiting *Waiting `json:"waiting,omitempty"`
	// Rules tells how preExecRule and postExecRule fare.
	// +optional
	Rules *RuleStatus `json:"rules,omitempty"`
	// Hooks tells how the hooks fare that have begun.
	// +optional
	Hooks []HookStatus `json:"hooks,omitempty"`
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
	// Plan is set by a dry run.
	// +optional
	Plan *MigrationPlan `json:"plan,omitempty"`
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
	// TransformedBy names what changed the object on its way.
	// +optional
	TransformedBy []string `json:"transformedBy,omitempty"`
}

// MigrationVolumeInfo tells how one volume fares.
type MigrationVolumeInfo struct {
	PersistentVolumeClaim string `json:"persistentVolumeClaim"`
	Namespace             string `json:"namespace"`
	// Volume is the PersistentVolume on the source.
	Volume string              `json:"volume"`
	Status MigrationStatusType `json:"status"`
	Reason string              `json:"reason"`
	// Action is Move for a volume that is handed over and not copied: no bytes go
	// through.
	// +optional
	Action VolumeAction `json:"action,omitempty"`
	// ReclaimPolicy is what the source's volume had before it was moved, and gets back
	// when the Migration is undone.
	// +optional
	ReclaimPolicy string `json:"reclaimPolicy,omitempty"`
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
	// Step is Snapshot, Backup, Stored, Restore or Done.
	// +optional
	Step        string `json:"step,omitempty"`
	VolumeRound `json:",inline"`
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

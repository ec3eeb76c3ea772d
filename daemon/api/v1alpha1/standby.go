package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
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
// +kubebuilder:printcolumn:name="Lag",type=date,JSONPath=`.status.taken`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Activatable",type=boolean,JSONPath=`.status.activatable.ready`
// +kubebuilder:printcolumn:name="Points",type=integer,JSONPath=`.status.points.total`
// +kubebuilder:printcolumn:name="Bytes",type=integer,JSONPath=`.status.sizeBytes`,priority=1
// +kubebuilder:printcolumn:name="Epoch",type=integer,JSONPath=`.status.epoch`,priority=1
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
	// Stage brings the volumes forward and goes no further.
	// +optional
	Stage bool `json:"stage,omitempty"`
	// AwaitVouch starts nothing before Vouched is set.
	// +optional
	AwaitVouch bool `json:"awaitVouch,omitempty"`
	// Vouched is the admin pair that answers for a round's objects without a
	// namespace, and for its namespaces.
	// +optional
	Vouched *StandbyVouch `json:"vouched,omitempty"`
	// Activation, where set, gives the application its volumes and starts it,
	// whatever becomes of the source: from then on no round of the source is taken.
	// +optional
	Activation *StandbyActivation `json:"activation,omitempty"`
	// Snapshots is of how many rounds CSI snapshots of the volumes are kept on this
	// cluster, each taken when the round was reached. It is set here, on the target:
	// the source's rounds leave it as it is.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Snapshots int32 `json:"snapshots,omitempty"`
	// Drill, where set, makes this the copy of a drill.
	// +optional
	Drill *StandbyDrill `json:"drill,omitempty"`
	// Cancel takes the volumes back to the round that was reached before.
	// +optional
	Cancel bool `json:"cancel,omitempty"`
	// Rollback takes back a round that was handed over.
	// +optional
	Rollback *StandbyRollback `json:"rollback,omitempty"`
	// Patience is how long it may get no further with a round of its source before it is
	// given up; no limit when not set.
	// +optional
	Patience *metav1.Duration `json:"patience,omitempty"`
	// Verify says how the volumes are checked.
	// +optional
	Verify VerifyMode `json:"verify,omitempty"`
	// Volumes that the target provides.
	// +optional
	Volumes []StandbyClaim `json:"volumes,omitempty"`
	// Selection is what of the namespaces is the application's; all of it when not set.
	// +optional
	Selection *StandbySelection `json:"selection,omitempty"`
}

// StandbyVouch says who answers for which round.
type StandbyVouch struct {
	// PairID is the admin pair.
	PairID string `json:"pairID"`
	// Round is the only one that it answers for.
	Round string `json:"round"`
	// Moved says of which volumes that are handed over it answers for: a digest.
	// +optional
	Moved string `json:"moved,omitempty"`
}

// StandbyActivation says what to activate.
type StandbyActivation struct {
	// Round to activate; the newest one that was sealed for this standby's volumes
	// when empty.
	// +optional
	Round string `json:"round,omitempty"`
	// Planned says that the source asked for it, which has stopped the application:
	// it may take it back until the epoch is raised.
	// +optional
	Planned bool `json:"planned,omitempty"`
	// TakeOver takes the application from whichever cluster has it, which is gone: what
	// was written there is given up. Without it the one that was activated first keeps it.
	// +optional
	TakeOver bool `json:"takeOver,omitempty"`
}

// StandbyRollback says how to take a round back.
type StandbyRollback struct {
	// Request tells one wish from the next: one that was refused may come again.
	Request int64 `json:"request"`
	// DropWrites throws away what was written to the volumes since they were handed
	// over; without it a rollback is refused where anything was.
	// +optional
	DropWrites bool `json:"dropWrites,omitempty"`
	// BringWrites brings them to the source first, by a failback.
	// +optional
	BringWrites bool `json:"bringWrites,omitempty"`
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
	// Moved is the spec of that PersistentVolume where the application gets the same
	// storage here, and no copy of it.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Moved *runtime.RawExtension `json:"moved,omitempty"`
}

// StandbyStatus tells how far it is.
type StandbyStatus struct {
	// +optional
	Phase StandbyPhase `json:"phase,omitempty"`
	// Round that the standby holds, whole; empty while another is being brought up.
	// +optional
	Round string `json:"round,omitempty"`
	// Bringing is the round that the rest of the status speaks of.
	// +optional
	Bringing string `json:"bringing,omitempty"`
	// Activating says that the rest of the status speaks of its activation.
	// +optional
	Activating bool `json:"activating,omitempty"`
	// Epoch of the application since this standby was activated; zero before.
	// +optional
	Epoch int64 `json:"epoch,omitempty"`
	// Previous is the round that it held before this one, to go back to, and Claims
	// are the volumes of the round that it held last.
	// +optional
	Previous string `json:"previous,omitempty"`
	// +optional
	Claims []StandbyClaim `json:"claims,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// +optional
	Volumes []StandbyVolume `json:"volumes,omitempty"`
	// +optional
	Resources   []MigrationResourceInfo `json:"resources,omitempty"`
	RetryStatus `json:",inline"`
	// Waiting is how long it has got no further with a round of its source.
	// +optional
	Waiting *Waiting `json:"waiting,omitempty"`
	// Comparing is the request of the rollback that the volumes are compared for.
	// +optional
	Comparing int64 `json:"comparing,omitempty"`
	// TakesBack says that the objects go when the Migration is deleted.
	// +optional
	TakesBack bool `json:"takesBack,omitempty"`
	// Reached is when Round was reached.
	// +optional
	Reached *metav1.Time `json:"reached,omitempty"`
	// Taken is when the oldest snapshot of Round was taken on the source: what was
	// written there since would be lost.
	// +optional
	Taken *metav1.Time `json:"taken,omitempty"`
	// SizeBytes is what the volumes of Round come to.
	// +optional
	SizeBytes int64 `json:"sizeBytes,omitempty"`
	// Snapshots are the rounds of which this cluster keeps CSI snapshots, the newest
	// first.
	// +optional
	// +listType=atomic
	Snapshots []StandbySnapshot `json:"snapshots,omitempty"`
	// Activatable says whether the volumes of a standby at rest could be handed over to
	// the application now; unset once it is activated.
	// +optional
	Activatable *StandbyActivatable `json:"activatable,omitempty"`
	// Points are the recovery points that the repository has.
	// +optional
	Points *RecoveryPoints `json:"points,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// StandbyActivatable foresees an activation.
type StandbyActivatable struct {
	// Round that it would be of.
	Round string `json:"round"`
	Ready bool   `json:"ready"`
	// Message says what is held, or what is in the way.
	Message string `json:"message"`
}

// StandbySnapshot is one round that CSI snapshots keep.
type StandbySnapshot struct {
	Round string `json:"round"`
	// Taken is when the source's snapshots of the round were.
	// +optional
	Taken *metav1.Time `json:"taken,omitempty"`
	// Ready says that all snapshots can be opened.
	// +optional
	Ready bool `json:"ready,omitempty"`
	// Volumes names the VolumeSnapshot, in this namespace, of each claim.
	// +optional
	Volumes []SnapshotOfClaim `json:"volumes,omitempty"`
}

// SnapshotOfClaim is the VolumeSnapshot of one standby volume.
type SnapshotOfClaim struct {
	// Namespace and Name are those of the application's claim.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Snapshot is the VolumeSnapshot's name.
	Snapshot string `json:"snapshot"`
	// Image is what the volume held, whole, when the snapshot was taken, and UID the
	// VolumeSnapshot's: one that is there in its place holds something else.
	// +optional
	Image string `json:"image,omitempty"`
	// +optional
	UID types.UID `json:"uid,omitempty"`
	// Handle is the driver's name of the snapshot, and VolumeHandle of the volume: what
	// an application writes to the volume later is a difference from the snapshot.
	// +optional
	Handle string `json:"handle,omitempty"`
	// +optional
	VolumeHandle string `json:"volumeHandle,omitempty"`
}

// DisplacedClaim is a standby volume in whose place another was made of a snapshot.
type DisplacedClaim struct {
	// Claim of this namespace, and the image that it holds whole.
	Claim string `json:"claim"`
	Image string `json:"image"`
}

// StandbyVolume tells how one volume of a standby fares.
type StandbyVolume struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Into is the claim's namespace on this cluster, where it is another.
	// +optional
	Into string `json:"into,omitempty"`
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
	// Taken is when the snapshot was taken that Wants was made of.
	// +optional
	Taken *metav1.Time `json:"taken,omitempty"`
	// Image that it holds, whole; empty while one is being applied.
	// +optional
	Image string `json:"image,omitempty"`
	// From is what it held before the one that is being applied; empty for unknown.
	// +optional
	From string `json:"from,omitempty"`
	// Leaving says that the round that is being brought up does not have it.
	// +optional
	Leaving bool `json:"leaving,omitempty"`
	// Claim is the uid of the claim that Image and From are about: another claim of
	// its name holds something else.
	// +optional
	Claim types.UID `json:"claim,omitempty"`
	// Moved says that it is the source's own storage, and no copy: nothing that becomes
	// of the Standby deletes it.
	// +optional
	Moved bool `json:"moved,omitempty"`
	// HandedOver says that the application's claim has it.
	// +optional
	HandedOver bool `json:"handedOver,omitempty"`
	// Compared says that it was compared with Image for a rollback, and Written what
	// was written to it since, or why that cannot be known; empty for nothing.
	// +optional
	Compared bool `json:"compared,omitempty"`
	// +optional
	Written string `json:"written,omitempty"`
	// Adopting says that the application's claim, which the application had before it
	// moved away, is being made this standby volume.
	// +optional
	Adopting bool `json:"adopting,omitempty"`
	// Adopted says that it was: its storage outlives the Standby.
	// +optional
	Adopted bool `json:"adopted,omitempty"`
	// Kept is the VolumeSnapshot of what it held before it was adopted.
	// +optional
	Kept string `json:"kept,omitempty"`
	// Snapshot is the VolumeSnapshot that its claim is made of; empty where the image
	// is written to it.
	// +optional
	Snapshot string `json:"snapshot,omitempty"`
	// Remade counts the claims that were made in place of another: each has a name of
	// its own.
	// +optional
	Remade int64 `json:"remade,omitempty"`
	// Displaced is the claim that it had before it was made of a snapshot. It goes once
	// the application runs, unless nothing else on this cluster holds what it does.
	// +optional
	Displaced *DisplacedClaim `json:"displaced,omitempty"`
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
	// BytesWritten went to the volume in this round.
	// +optional
	BytesWritten int64 `json:"bytesWritten,omitempty"`
}

// StandbyList is a list of Standby.
// +kubebuilder:object:root=true
type StandbyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Standby `json:"items"`
}

// Here is true where a Migration has brought the application to this cluster for good,
// and not by an activation: there is nothing left to activate.
func (s *Standby) Here() bool {
	reached := s.Status.Phase == StandbyReady && s.Status.Round == s.Spec.Round && !s.Status.Activating
	if s.Spec.Stage || !reached || len(s.Status.Volumes) == 0 {
		return false
	}
	return !slices.ContainsFunc(s.Status.Volumes, func(v StandbyVolume) bool { return !v.HandedOver && !v.Moved && !v.Leaving })
}

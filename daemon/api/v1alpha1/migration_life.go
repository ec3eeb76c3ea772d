package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// VerifyMode says how far the target trusts what it wrote.
// +kubebuilder:validation:Enum=Sealed;ReadBack;Sample;Full
type VerifyMode string

// The modes, from the cheapest to the most thorough.
const (
	// VerifySealed checks every chunk against its hash as it is written.
	VerifySealed VerifyMode = "Sealed"
	// VerifyReadBack also reads again from the volume what was written.
	VerifyReadBack VerifyMode = "ReadBack"
	// VerifySample reads a part of the whole volume beside that.
	VerifySample VerifyMode = "Sample"
	// VerifyFull reads the whole volume.
	VerifyFull VerifyMode = "Full"
)

// LifeOptions say how a Migration runs, and how it ends before its time.
type LifeOptions struct {
	// Application names what moves, so that one Migration after the other brings
	// the same standby forward. Unless set, it is made of the namespaces and the
	// selectors.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Application string `json:"application,omitempty"`
	// Stage copies without stopping and without handing over: the target's
	// standby volumes are brought forward, and nothing is applied. It may be done
	// as often as wanted, and moves only what changed since the last time.
	// +optional
	Stage *bool `json:"stage,omitempty"`
	// Quiesce stops the application on the source for this copy, and starts it
	// again there if the Migration does not succeed.
	// +optional
	Quiesce *bool `json:"quiesce,omitempty"`
	// Precopy copies in rounds while the application runs, until the last one is
	// short enough; then it stops the source as Quiesce does.
	// +optional
	Precopy *Precopy `json:"precopy,omitempty"`
	// Activate makes the target the active side as soon as the application runs
	// there: this cluster's rounds are refused from then on, until it is failed back.
	// +optional
	Activate *bool `json:"activate,omitempty"`
	// TakeOver makes this cluster the active side again without a failback: what was
	// written on the cluster that is active now is given up.
	// +optional
	TakeOver *bool `json:"takeOver,omitempty"`
	// Cancel ends the Migration wherever it is, and takes back what it did.
	// +optional
	Cancel *bool `json:"cancel,omitempty"`
	// Rollback takes back a Migration that has succeeded: the target's objects, its
	// volumes, then what was stopped on the source. It can be asked for until the
	// Migration is deleted, the application is activated on the target by hand, or
	// the target's volumes are gone.
	// +optional
	Rollback *bool `json:"rollback,omitempty"`
	// DropTargetWrites lets Rollback throw away what the application wrote on the
	// target since.
	// +optional
	DropTargetWrites *bool `json:"dropTargetWrites,omitempty"`
	// BringTargetWrites has Rollback bring to the source first what the application
	// wrote on the target since: it is stopped there, and comes back with its objects
	// and what differs of its volumes, as by a failback. It takes a pair that leads back,
	// and a source that was stopped for the Migration and still is.
	// +optional
	BringTargetWrites *bool `json:"bringTargetWrites,omitempty"`
	// RollbackOnFailure starts on the source what was stopped there when the
	// Migration fails. Without it a failed Migration leaves the source stopped.
	// +optional
	// +kubebuilder:default=true
	RollbackOnFailure *bool `json:"rollbackOnFailure,omitempty"`
	// Verify says how the target's volumes are checked.
	// +optional
	// +kubebuilder:default=Sealed
	Verify VerifyMode `json:"verify,omitempty"`
}

// Precopy says when the rounds before the last one are enough.
type Precopy struct {
	// MaxDowntime is how long the last copy, with the source stopped, shall take at
	// most: rounds are made until the next is foreseen to take less, or they stop
	// getting shorter. 30s when not set.
	// +optional
	MaxDowntime *metav1.Duration `json:"maxDowntime,omitempty"`
	// MaxRounds bounds how many there are.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxRounds int32 `json:"maxRounds,omitempty"`
}

// PrecopyRound tells of one round while the application runs.
type PrecopyRound struct {
	// Migration is the stage run that makes it.
	Migration string              `json:"migration"`
	Status    MigrationStatusType `json:"status"`
	// Took is how long it took from its beginning to its end on the target.
	// +optional
	Took *metav1.Duration `json:"took,omitempty"`
	// BytesChanged and BytesUploaded are of all its volumes.
	// +optional
	BytesChanged int64 `json:"bytesChanged,omitempty"`
	// +optional
	BytesUploaded int64 `json:"bytesUploaded,omitempty"`
}

// LifeStatus tells what a Migration remembers of its own life.
type LifeStatus struct {
	// Application is namespace/name of what moves, the same for every Migration
	// that brings the same standby forward.
	// +optional
	Application string `json:"application,omitempty"`
	// Quiesced is what was stopped on the source, with how it was.
	// +optional
	Quiesced []QuiescedWorkload `json:"quiesced,omitempty"`
	// Precopy are the rounds that were made while the application ran.
	// +optional
	Precopy []PrecopyRound `json:"precopy,omitempty"`
	// SourceStopped is the moment before the first workload of the source was stopped.
	// +optional
	SourceStopped *metav1.MicroTime `json:"sourceStopped,omitempty"`
	// TargetReady is when the first pod of the target was ready.
	// +optional
	TargetReady *metav1.MicroTime `json:"targetReady,omitempty"`
	// Downtime is the time between the two, measured.
	// +optional
	Downtime *metav1.Duration `json:"downtime,omitempty"`
}

// QuiescedWorkload is one workload of the source with what starts it again.
type QuiescedWorkload struct {
	// +optional
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Replicas that it had, for what has replicas.
	// +optional
	Replicas *int64 `json:"replicas,omitempty"`
	// Suspended is what spec.suspend was, for a CronJob or a Job.
	// +optional
	Suspended *bool `json:"suspended,omitempty"`
	// Restored is true once it is as it was.
	// +optional
	Restored bool `json:"restored,omitempty"`
}

// VolumeRound tells how one volume of a Migration was read and written.
type VolumeRound struct {
	// Taken is the moment that the volume is of.
	// +optional
	Taken *metav1.Time `json:"taken,omitempty"`
	// Snapshot is the VolumeSnapshot in the claim's namespace.
	// +optional
	Snapshot string `json:"snapshot,omitempty"`
	// GroupSnapshot is the VolumeGroupSnapshot that it is a member of, by which it is
	// of one moment with the others; empty where it was taken alone.
	// +optional
	GroupSnapshot string `json:"groupSnapshot,omitempty"`
	// SnapshotHandle is the driver's name of the snapshot.
	// +optional
	SnapshotHandle string `json:"snapshotHandle,omitempty"`
	// Rung is the rung of the ladder that read it: Delta, Allocated, Scan or Files.
	// +optional
	Rung string `json:"rung,omitempty"`
	// Node is the one that read it last.
	// +optional
	Node string `json:"node,omitempty"`
	// Read is the moment that it was last read of: one before Taken where the storage
	// said that nothing changed since, and the volume was not looked at.
	// +optional
	Read *metav1.Time `json:"read,omitempty"`
	// Base is the image that the delta started from.
	// +optional
	Base string `json:"base,omitempty"`
	// BytesRead, BytesChanged and BytesUploaded are the source's, BytesWritten the
	// target's.
	// +optional
	BytesRead int64 `json:"bytesRead,omitempty"`
	// +optional
	BytesChanged int64 `json:"bytesChanged,omitempty"`
	// +optional
	BytesUploaded int64 `json:"bytesUploaded,omitempty"`
	// +optional
	BytesWritten int64 `json:"bytesWritten,omitempty"`
}

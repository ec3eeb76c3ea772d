package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TransferDirection says which way bytes go.
// +kubebuilder:validation:Enum=Upload;Apply;Compare;Keep
type TransferDirection string

// The directions.
const (
	// Upload reads a volume and commits an image.
	Upload TransferDirection = "Upload"
	// Apply brings a volume to an image.
	Apply TransferDirection = "Apply"
	// Compare reads a volume and says where it differs from an image.
	Compare TransferDirection = "Compare"
	// Keep reads nothing: it asks the storage of the snapshot what changed since the
	// base, and where that is nothing commits the base's image once more.
	Keep TransferDirection = "Keep"
)

// TransferPhase tells how far a transfer is.
// +kubebuilder:validation:Enum="";Pending;Running;Succeeded;Failed
type TransferPhase string

// The phases. Succeeded and Failed are final.
const (
	TransferPending   TransferPhase = "Pending"
	TransferRunning   TransferPhase = "Running"
	TransferSucceeded TransferPhase = "Succeeded"
	TransferFailed    TransferPhase = "Failed"
)

// VolumeTransfer is one volume, one direction, one round, on one node. It is
// written by the controller and carried out by that node's daemon.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=vt,categories=godwit
// +kubebuilder:printcolumn:name="Direction",type=string,JSONPath=`.spec.direction`
// +kubebuilder:printcolumn:name="Volume",type=string,JSONPath=`.spec.volume.name`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Done",type=integer,JSONPath=`.status.progress.bytesDone`
// +kubebuilder:printcolumn:name="Total",type=integer,JSONPath=`.status.progress.bytesTotal`
// +kubebuilder:printcolumn:name="Rate",type=integer,JSONPath=`.status.progress.bytesPerSecond`,priority=1
// +kubebuilder:printcolumn:name="Method",type=string,JSONPath=`.status.method`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type VolumeTransfer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   VolumeTransferSpec   `json:"spec"`
	Status VolumeTransferStatus `json:"status,omitempty"`
}

// TransferVolume names the volume for good, as in the repository.
type TransferVolume struct {
	// Cluster is the id of the cluster that the volume comes from.
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// VolumeMount says where on the node the volume is: kubelet published it for a pod.
type VolumeMount struct {
	// PodUID is the pod that holds the volume; empty where none does (Keep).
	PodUID types.UID `json:"podUID"`
	// PersistentVolume is its PersistentVolume's name; empty where none is needed (Keep).
	PersistentVolume string `json:"persistentVolume"`
	// Mode is Block for a device, Filesystem for a directory.
	// +kubebuilder:validation:Enum=Block;Filesystem
	Mode string `json:"mode"`
}

// VolumeTransferSpec is all that a node needs to carry out the transfer.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a transfer does not change: delete it and make another"
type VolumeTransferSpec struct {
	Direction TransferDirection `json:"direction"`
	Node      string            `json:"node"`
	Volume    TransferVolume    `json:"volume"`
	Mount     VolumeMount       `json:"mount"`
	// RepositorySecret names a Secret of this namespace with the repository's location and keys.
	RepositorySecret string `json:"repositorySecret"`
	Round            string `json:"round"`
	// Taken is the moment that the volume is of (Upload, Keep).
	// +optional
	Taken *metav1.Time `json:"taken,omitempty"`
	// Image is what to bring the volume to (Apply), or to compare it with (Compare).
	// +optional
	Image string `json:"image,omitempty"`
	// From is the image that the volume holds (Apply), or the parent (Upload); empty for unknown.
	// +optional
	From string `json:"from,omitempty"`
	// Verify says how what was written is checked (Apply); ReadBack when empty.
	// +optional
	Verify VerifyMode `json:"verify,omitempty"`
	// Reconcile reads all that the volume holds, whatever that is, and writes only
	// what differs from the image (Apply of blocks).
	// +optional
	Reconcile bool `json:"reconcile,omitempty"`
	// Snapshot lets the storage be asked what to read (Upload of blocks, Keep).
	// +optional
	Snapshot *TransferSnapshot `json:"snapshot,omitempty"`
	// Base lets the storage be asked what changed (Upload of blocks, Keep); without it,
	// or where it is gone, all that is allocated is read.
	// +optional
	Base *TransferBase `json:"base,omitempty"`
	// NoBase says why Base is not set, where one was looked for.
	// +optional
	NoBase string `json:"noBase,omitempty"`
}

// TransferProgress counts bytes.
type TransferProgress struct {
	// +optional
	BytesTotal int64 `json:"bytesTotal"`
	// +optional
	BytesDone int64 `json:"bytesDone"`
	// +optional
	BytesRead int64 `json:"bytesRead"`
	// +optional
	BytesChanged int64 `json:"bytesChanged"`
	// +optional
	BytesUploaded int64 `json:"bytesUploaded"`
	// +optional
	BytesFetched int64 `json:"bytesFetched"`
	// +optional
	BytesWritten int64 `json:"bytesWritten"`
	// +optional
	Files int64 `json:"files"`
	// +optional
	BytesPerSecond int64 `json:"bytesPerSecond"`
	// +optional
	SecondsLeft int64 `json:"secondsLeft"`
}

// VolumeTransferStatus tells how far the transfer is.
type VolumeTransferStatus struct {
	// +optional
	Phase TransferPhase `json:"phase,omitempty"`
	// Image is what Upload committed, or Keep; none where Keep could not.
	// +optional
	Image string `json:"image,omitempty"`
	// Filesystem is what Upload found on the device.
	// +optional
	Filesystem string `json:"filesystem,omitempty"`
	// Size of the image in bytes.
	// +optional
	Size int64 `json:"size,omitempty"`
	// Method is the rung of the ladder that Upload used.
	// +optional
	Method string `json:"method,omitempty"`
	// MethodReason says why, and why no better rung was possible.
	// +optional
	MethodReason string `json:"methodReason,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// +optional
	Progress TransferProgress `json:"progress,omitempty"`
	// Differs says where the volume differs from the image (Compare), empty for nowhere;
	// or why there is no image and the volume has to be read (Keep).
	// +optional
	Differs string `json:"differs,omitempty"`
	// Message says why it failed, or what it waits for.
	// +optional
	Message string `json:"message,omitempty"`
	// Furthest is the most that BytesDone was in any attempt, LastProgress when it was
	// reached: a transfer that gets no further for long is given up.
	// +optional
	Furthest int64 `json:"furthest,omitempty"`
	// +optional
	LastProgress *metav1.Time `json:"lastProgress,omitempty"`
	// Attempts counts starts.
	// +optional
	Attempts int32 `json:"attempts,omitempty"`
	// LastFailure is why the last attempt that failed did, and LastFailed when.
	// +optional
	LastFailure string `json:"lastFailure,omitempty"`
	// +optional
	LastFailed *metav1.Time `json:"lastFailed,omitempty"`
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// Heartbeat is when the daemon last touched it.
	// +optional
	Heartbeat *metav1.Time `json:"heartbeat,omitempty"`
	// +optional
	FinishTime *metav1.Time `json:"finishTime,omitempty"`
}

// VolumeTransferList is a list of VolumeTransfer.
// +kubebuilder:object:root=true
type VolumeTransferList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VolumeTransfer `json:"items"`
}

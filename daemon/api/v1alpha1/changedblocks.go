package v1alpha1

// ConditionBestMethod on a VolumeTransfer says whether an Upload read its volume
// by the best method that was to be expected, or by a slower one. Its reason
// is the method, or why a better one was not possible.
const ConditionBestMethod = "BestMethod"

// TransferSnapshot is the CSI snapshot that an Upload reads, for asking its
// storage which blocks there are to read.
type TransferSnapshot struct {
	// Driver is the CSI driver's name.
	Driver string `json:"driver"`
	// Name of the VolumeSnapshot in Godwit's own namespace that stands for it.
	Name string `json:"name"`
}

// TransferBase is what an Upload by changed blocks starts from. Whoever names it
// has to be sure that Image was made of that snapshot: what did not change since
// is taken from Image without being read.
type TransferBase struct {
	// Image is the image in the repository.
	Image string `json:"image"`
	// SnapshotHandle is the driver's own name for the snapshot; its Kubernetes
	// objects may be gone.
	SnapshotHandle string `json:"snapshotHandle"`
	// Cluster whose volume the image is of, where that is another than the Upload's: the
	// snapshot was taken of what was brought to the image.
	// +optional
	Cluster string `json:"cluster,omitempty"`
}

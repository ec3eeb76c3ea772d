// Package node carries out the VolumeTransfers of one node.
//
// Its words: an attempt is one start of a transfer; a run is an attempt that is
// under way in this process; a place is the right to run, of which a node has
// few; the published path is where kubelet put a volume for a holder pod; a rung
// is one way to know what of a device to read, and the ladder tries them from
// the best: what changed since the base, what the storage has allocated, what
// the device has allocated, all of it.
//
// A rung is never missed in silence: which one was used, and why none above it,
// is in the transfer's status, in its condition BestMethod, in an event and in a
// metric. What a storage says need not be read is looked at here and there
// before it is believed.
//
// All state is in the VolumeTransfer and in the repository. A run is known only
// to the process that runs it: a daemon that comes up finds its transfers
// Running, and starts them again. A transfer that is deleted is stopped first,
// and let go only once nothing reads or writes its volume any more.
//
// The package never makes holders or transfers, never chooses what to move, and
// never writes to a path that is not a published device or a mounted volume.
//
// +kubebuilder:rbac:groups=godwit.io,resources=volumetransfers,verbs=get;list;watch;patch,namespace=godwit-system
// +kubebuilder:rbac:groups=godwit.io,resources=volumetransfers/status,verbs=patch,namespace=godwit-system
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get,namespace=godwit-system
// +kubebuilder:rbac:groups=godwit.io,resources=transferlimits,verbs=list;watch,namespace=godwit-system
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get,namespace=godwit-system
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch,namespace=godwit-system
// +kubebuilder:rbac:groups="",resources=serviceaccounts/token,resourceNames=godwit-changed-blocks,verbs=create,namespace=godwit-system
// +kubebuilder:rbac:groups=cbt.storage.k8s.io,resources=snapshotmetadataservices,verbs=get
package node

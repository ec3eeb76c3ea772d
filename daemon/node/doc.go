// Package node carries out the VolumeTransfers of one node.
//
// Its words: an attempt is one start of a transfer; a run is an attempt that is
// under way in this process; a place is the right to run, of which a node has
// few; the published path is where kubelet put a volume for a holder pod.
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
// +kubebuilder:rbac:groups=godwit.io,resources=volumetransfers/status,verbs=get;patch,namespace=godwit-system
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get,namespace=godwit-system
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch,namespace=godwit-system
package node

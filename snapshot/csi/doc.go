// Package csi owns the life cycle of VolumeSnapshots and the exposure of a
// volume on a node.
//
// Its words: a snapshot is a VolumeSnapshot that Godwit asked for; an exposure
// makes the content of a snapshot (or, without one, of the live volume) reach a
// node; a hold does the same for a claim that is already there; a holder is the
// small pod that makes kubelet publish the volume, and the scheduler choose the
// node; an owner is the object that all of this was made for.
//
// A snapshot is exposed through an alias: a second VolumeSnapshotContent with
// the same handle, bound to a VolumeSnapshot in Godwit's own namespace, from
// which a claim is provisioned there. The application's namespace thus sees the
// VolumeSnapshot and nothing else. The alias keeps the handle on deletion.
//
// Every call can be repeated, and none of them waits: it does what can be done
// now and returns how far things are. All that is made carries the owner's
// label, so that a release finds it although nothing remembers making it, and
// nothing without Godwit's labels is ever deleted.
//
// It never reads or writes a byte of a volume, and never imports kopia.
//
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;create;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=persistentvolumes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=events,verbs=list
// +kubebuilder:rbac:groups=storage.k8s.io,resources=storageclasses,verbs=get;list;watch
// +kubebuilder:rbac:groups=storage.k8s.io,resources=volumeattachments,verbs=list
// +kubebuilder:rbac:groups=snapshot.storage.k8s.io,resources=volumesnapshots,verbs=get;list;create;delete
// +kubebuilder:rbac:groups=snapshot.storage.k8s.io,resources=volumesnapshotcontents,verbs=get;list;create;patch;delete
// +kubebuilder:rbac:groups=snapshot.storage.k8s.io,resources=volumesnapshotclasses,verbs=list
package csi

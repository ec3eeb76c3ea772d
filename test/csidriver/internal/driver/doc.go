// Package driver answers the CSI calls: identity, controller, group controller,
// node and snapshot metadata, and kubelet's plugin registration.
//
// A flavor says what a storage can do and is fixed for a run. To stage is to
// give a volume a loop and, for a filesystem, a mount; to publish is to show
// that at the path of one pod. A cut is the copy of one or more volumes at one
// moment. A fault is a call that the user told the driver to spoil.
//
// All state is in the store and in the kernel: a process that is killed at any
// point is replaced by the next one, which first thaws what was left frozen and
// sweeps what was left half-made. Every call can be repeated.
//
// The package never formats what is not blank, and never detaches a loop that a
// node still holds.
package driver

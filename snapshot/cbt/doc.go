// Package cbt asks a storage which blocks of a snapshot are allocated, or
// changed since another snapshot, over CSI's SnapshotMetadata service.
//
// Its words: a service is what a cluster's SnapshotMetadataService says of a
// driver's sidecar; the base is the snapshot that a delta starts from, known by
// the driver's own handle, since its Kubernetes objects may be gone; a Map is a
// storage's answer, checked and merged; an Error says by its Reason why there
// is no Map. A Client asks either through the sidecar or at the driver's socket.
//
// An answer is used in place of reading a volume, so nothing in it is taken on
// trust that can be checked: extents that overlap, go back, lie beyond the end
// or change their size are refused, and so is a stream that tells nothing. An
// answer that was cut off is taken up again where it broke. What an answer
// leaves out cannot be seen in it: Check finds that, on a scratch volume.
//
// It never knows Kubernetes: the address, the authority and the tokens are
// handed to it. It never reads or writes a volume.
package cbt

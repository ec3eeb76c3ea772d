// Package store keeps what the driver must remember, in files.
//
// A record is a JSON file beside the image that it describes: a volume, a
// snapshot, or a group of snapshots that were taken at one moment. The record
// is written last and removed first, so an image without one is debris of an
// interrupted call and is swept. A stage is a node's note that it holds a
// volume. A lock is a file that one call at a time holds, across all processes
// that share the folder; the kernel frees it when its holder dies.
//
//	volumes/ID/volume.json     the record
//	volumes/ID/data            its image, or
//	volumes/ID/tree            its folder, for a shared volume
//	volumes/ID/stages/NODE     the nodes that hold it
//	snapshots/ID/{snapshot.json,data}
//	groups/ID/group.json
//	nodes/NODE                 the nodes that ever ran the driver
//	locks/NAME
//
// The package never touches devices or mounts, and keeps nothing in memory.
package store

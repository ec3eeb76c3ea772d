// Package blockdev reads and writes block devices, and plain files that stand
// for them, as snapshot.Source and snapshot.Sink.
//
// A device is read and written around the page cache where it allows that:
// what is read back then comes from the device, and a large transfer does not
// push everyone else's pages out. Ranges of zeros are punched out, so that
// thin storage stays thin.
//
// It never formats or mounts, never writes a device that something else
// holds, and never makes a file.
package blockdev

// Package disk does what the driver needs from Linux, on one image at a time.
//
// An image is a sparse file that holds one volume or one snapshot. A loop is
// the block device that the kernel shows for an image; loop numbers are global
// to the machine, whatever the mount namespace, so a loop is always found by
// the device and inode number of its image and never remembered. An extent is
// a range of an image, in bytes, aligned to BlockSize.
//
// The package knows no volumes, no CSI and no state: every function can be
// repeated, and what it reports is read from the kernel at that moment. It
// never formats an image that holds anything.
package disk

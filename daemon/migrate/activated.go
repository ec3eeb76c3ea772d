package migrate

import "slices"

// ObservedActivated is what is known of a volume that an application was activated
// with, when its first round back is uploaded.
type ObservedActivated struct {
	// Image that it held then, and VolumeHandle the driver's name of it now; empty for
	// a volume of no CSI driver.
	Image, VolumeHandle string
	// Renamed is true where its claim is in another namespace than the image's.
	Renamed bool
	// Snapshots are those that are kept of it from when it was a standby's.
	Snapshots []ActivatedSnapshot
}

// ActivatedSnapshot is a snapshot of a standby volume.
type ActivatedSnapshot struct {
	// Image that the volume held, whole.
	Image string
	// Handle and VolumeHandle are the driver's names of the snapshot and the volume.
	Handle, VolumeHandle string
}

// BaseSinceActivation is the driver's name of the snapshot since which the storage is
// asked what changed. The second result says why there is none: then all of the volume
// is read and compared with the image.
func BaseSinceActivation(o ObservedActivated) (handle, why string) {
	i := slices.IndexFunc(o.Snapshots, func(s ActivatedSnapshot) bool { return s.Image == o.Image && s.Handle != "" })
	switch {
	case o.Renamed:
		return "", "the application was activated in another namespace than its images are of"
	case i < 0:
		return "", "no snapshot of the standby is kept from when the application was activated: set spec.snapshots of the Standby before"
	case o.VolumeHandle == "" || o.Snapshots[i].VolumeHandle != o.VolumeHandle:
		return "", "the snapshot that is kept from when the application was activated is of another volume than its claim has"
	}
	return o.Snapshots[i].Handle, ""
}

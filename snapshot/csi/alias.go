package csi

// Alias is the name of the VolumeSnapshot in Godwit's own namespace by which the
// exposed snapshot can be asked about; empty where the live volume is exposed.
// It is there as soon as, and as long as, the exposure is.
func (r ExposureRequest) Alias() string {
	if r.Snapshot == "" {
		return ""
	}
	return ownName(r.Owner, r.Namespace, r.Name)
}

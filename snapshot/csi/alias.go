package csi

import "context"

// EnsureAlias makes of an exposure only what its storage can be asked about, and says
// what it waits for; ready where that is nothing. EnsureExposure goes on from there.
func (s *Snapshots) EnsureAlias(ctx context.Context, r ExposureRequest) (waiting string, err error) {
	_, waiting, err = s.aliasOf(ctx, r)
	return waiting, err
}

// Alias is the name of the VolumeSnapshot in Godwit's own namespace by which the
// exposed snapshot can be asked about; empty where the live volume is exposed.
// It is there once EnsureAlias has made it, or EnsureExposure, until the release.
func (r ExposureRequest) Alias() string {
	if r.Snapshot == "" {
		return ""
	}
	return ownName(r.Owner, r.Namespace, r.Name)
}

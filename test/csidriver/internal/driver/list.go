package driver

import (
	"context"
	"errors"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

// volumeOf writes a record as CSI has it.
func (d *Driver) volumeOf(v store.Volume) *csi.Volume {
	out := &csi.Volume{VolumeId: v.ID, CapacityBytes: v.Size}
	if v.FromSnapshot != "" {
		out.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: v.FromSnapshot}}}
	}
	if v.FromVolume != "" {
		out.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v.FromVolume}}}
	}
	if v.Node != "" {
		out.AccessibleTopology = []*csi.Topology{{Segments: map[string]string{topologyKey: v.Node}}}
	}
	return out
}

func publishedOn(v store.Volume) []string {
	var nodes []string
	for _, a := range v.Attachments {
		nodes = append(nodes, a.Node)
	}
	return nodes
}

// page cuts one page out of ids, which are in order. A token is the last ID of
// the page before, so that what comes and goes meanwhile moves nothing.
func page(ids []string, token string, most int32) ([]string, string, error) {
	if most < 0 {
		return nil, "", status.Errorf(codes.InvalidArgument, "max entries %d", most)
	}
	if token != "" {
		if len(token) < 4 || (token[:4] != "vol-" && token[:4] != "snap") {
			return nil, "", status.Errorf(codes.Aborted, "starting token %q is not one of this driver's", token)
		}
		i, found := slices.BinarySearch(ids, token)
		if found {
			i++
		}
		ids = ids[i:]
	}
	if most == 0 || len(ids) <= int(most) {
		return ids, "", nil
	}
	return ids[:most], ids[most-1], nil
}

func (c *controller) ListVolumes(_ context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	ids, err := c.d.store.IDs(store.Volumes)
	if err != nil {
		return nil, err
	}
	ids, next, err := page(ids, req.GetStartingToken(), req.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	resp := &csi.ListVolumesResponse{NextToken: next}
	for _, id := range ids {
		var v store.Volume
		err := c.d.store.Read(id, &v)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		resp.Entries = append(resp.Entries, &csi.ListVolumesResponse_Entry{
			Volume: c.d.volumeOf(v), Status: &csi.ListVolumesResponse_VolumeStatus{PublishedNodeIds: publishedOn(v)},
		})
	}
	return resp, nil
}

func (c *controller) ControllerGetVolume(_ context.Context, req *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	if err := required(req.GetVolumeId(), "volume id"); err != nil {
		return nil, err
	}
	var v store.Volume
	if err := c.d.store.Read(req.GetVolumeId(), &v); err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeResponse{
		Volume: c.d.volumeOf(v), Status: &csi.ControllerGetVolumeResponse_VolumeStatus{PublishedNodeIds: publishedOn(v)},
	}, nil
}

func (c *controller) ListSnapshots(_ context.Context, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	if err := c.d.needSnapshots(); err != nil {
		return nil, err
	}
	matches, err := c.matchingSnapshots(req)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(matches))
	byID := map[string]store.Snapshot{}
	for i, s := range matches {
		ids[i], byID[s.ID] = s.ID, s
	}
	ids, next, err := page(ids, req.GetStartingToken(), req.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	resp := &csi.ListSnapshotsResponse{NextToken: next}
	for _, id := range ids {
		resp.Entries = append(resp.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: c.d.snapshotOf(byID[id])})
	}
	return resp, nil
}

func (c *controller) matchingSnapshots(req *csi.ListSnapshotsRequest) ([]store.Snapshot, error) {
	ids := []string{req.GetSnapshotId()}
	if ids[0] == "" {
		var err error
		if ids, err = c.d.store.IDs(store.Snapshots); err != nil {
			return nil, err
		}
	}
	var matches []store.Snapshot
	for _, id := range ids {
		var s store.Snapshot
		err := c.d.store.Read(id, &s)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if want := req.GetSourceVolumeId(); want == "" || want == s.Volume {
			matches = append(matches, s)
		}
	}
	return matches, nil
}

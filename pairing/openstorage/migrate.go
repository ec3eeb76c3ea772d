package openstorage

import (
	"context"
	"time"

	"github.com/golang/protobuf/ptypes/timestamp"
	"github.com/libopenstorage/openstorage/api"
)

type migrateServer struct{ *Server }

var _ api.OpenStorageMigrateServer = migrateServer{}

// Start begins a task. One of the same id that was begun before AlreadyExists.
func (s migrateServer) Start(ctx context.Context, r *api.SdkCloudMigrateStartRequest) (*api.SdkCloudMigrateStartResponse, error) {
	if r.GetClusterId() == "" {
		return nil, invalid("Must supply the cluster ID of the target")
	}
	o := Operation{ClusterID: r.GetClusterId(), TaskID: r.GetTaskId()}
	switch {
	case r.GetVolume() != nil:
		if o.VolumeID = r.GetVolume().GetVolumeId(); o.VolumeID == "" {
			return nil, invalid("Must supply a volume ID")
		}
	case r.GetVolumeGroup() != nil:
		if o.GroupID = r.GetVolumeGroup().GetGroupId(); o.GroupID == "" {
			return nil, invalid("Must supply a group ID")
		}
	case r.GetAllVolumes() == nil:
		return nil, invalid("Unknown operation request")
	}
	task, err := s.Tasks.Start(ctx, o)
	if err != nil {
		return nil, toWire("Cannot start migration for "+r.GetClusterId(), err)
	}
	return &api.SdkCloudMigrateStartResponse{Result: &api.CloudMigrateStartResponse{TaskId: task}}, nil
}

// Cancel ends a task.
func (s migrateServer) Cancel(ctx context.Context, r *api.SdkCloudMigrateCancelRequest) (*api.SdkCloudMigrateCancelResponse, error) {
	switch {
	case r.GetRequest() == nil:
		return nil, invalid("Must supply valid request")
	case r.GetRequest().GetTaskId() == "":
		return nil, invalid("Must supply valid Task ID")
	}
	if err := s.Tasks.Cancel(ctx, r.GetRequest().GetTaskId()); err != nil {
		return nil, toWire("Cannot stop migration for "+r.GetRequest().GetTaskId(), err)
	}
	return &api.SdkCloudMigrateCancelResponse{}, nil
}

// Status tells how volumes fare, by the cluster that they go to. An empty
// request asks for all.
func (s migrateServer) Status(ctx context.Context, r *api.SdkCloudMigrateStatusRequest) (*api.SdkCloudMigrateStatusResponse, error) {
	volumes, err := s.Tasks.List(ctx, r.GetRequest().GetTaskId())
	if err != nil {
		return nil, toWire("Cannot get status of migration", err)
	}
	info := map[string]*api.CloudMigrateInfoList{}
	for _, v := range volumes {
		if wanted := r.GetRequest().GetClusterId(); wanted != "" && wanted != v.ClusterID {
			continue
		}
		if info[v.ClusterID] == nil {
			info[v.ClusterID] = &api.CloudMigrateInfoList{}
		}
		info[v.ClusterID].List = append(info[v.ClusterID].List, &api.CloudMigrateInfo{
			TaskId: v.TaskID, ClusterId: v.ClusterID, LocalVolumeId: v.VolumeID, LocalVolumeName: v.VolumeName, RemoteVolumeId: v.RemoteVolumeID,
			CurrentStage: v.Stage, Status: v.Status, ErrorReason: v.Reason, StartTime: moment(v.Started), CompletedTime: moment(v.Finished),
			LastUpdate: moment(v.Updated), BytesTotal: v.BytesTotal, BytesDone: v.BytesDone, EtaSeconds: v.SecondsLeft,
		})
	}
	return &api.SdkCloudMigrateStatusResponse{Result: &api.CloudMigrateStatusResponse{Info: info}}, nil
}

func moment(t time.Time) *timestamp.Timestamp {
	if t.IsZero() {
		return nil
	}
	return &timestamp.Timestamp{Seconds: t.Unix()}
}

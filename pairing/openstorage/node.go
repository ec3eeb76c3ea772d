package openstorage

import (
	"context"
	"fmt"

	"github.com/libopenstorage/openstorage/api"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nodeServer tells of nodes, and changes nothing about them.
type nodeServer struct{ *Server }

var _ api.OpenStorageNodeServer = nodeServer{}

// Enumerate lists the ids.
func (s nodeServer) Enumerate(ctx context.Context, _ *api.SdkNodeEnumerateRequest) (*api.SdkNodeEnumerateResponse, error) {
	all, err := s.Nodes.List(ctx)
	if err != nil {
		return nil, toWire("Cannot enumerate nodes", err)
	}
	response := &api.SdkNodeEnumerateResponse{}
	for _, n := range all {
		response.NodeIds = append(response.NodeIds, n.ID)
	}
	return response, nil
}

// EnumerateWithFilters shows all nodes: the SDK has no filters yet.
func (s nodeServer) EnumerateWithFilters(ctx context.Context, _ *api.SdkNodeEnumerateWithFiltersRequest) (*api.SdkNodeEnumerateWithFiltersResponse, error) {
	all, err := s.Nodes.List(ctx)
	if err != nil {
		return nil, toWire("Cannot enumerate nodes", err)
	}
	response := &api.SdkNodeEnumerateWithFiltersResponse{}
	for _, n := range all {
		response.Nodes = append(response.Nodes, storageNode(n))
	}
	return response, nil
}

// Inspect shows one node. One that is not there is Internal, as the reference
// server's own cluster has it.
func (s nodeServer) Inspect(ctx context.Context, r *api.SdkNodeInspectRequest) (*api.SdkNodeInspectResponse, error) {
	if r.GetNodeId() == "" {
		return nil, invalid("Node id must be provided")
	}
	node, err := s.find(ctx, r.GetNodeId())
	if err != nil {
		return nil, err
	}
	return &api.SdkNodeInspectResponse{Node: node}, nil
}

// InspectCurrent shows the node that answers.
func (s nodeServer) InspectCurrent(ctx context.Context, _ *api.SdkNodeInspectCurrentRequest) (*api.SdkNodeInspectCurrentResponse, error) {
	node, err := s.find(ctx, s.Nodes.Current())
	if err != nil {
		return nil, err
	}
	return &api.SdkNodeInspectCurrentResponse{Node: node}, nil
}

func (s nodeServer) find(ctx context.Context, id string) (*api.StorageNode, error) {
	all, err := s.Nodes.List(ctx)
	if err != nil {
		return nil, toWire("Cannot inspect node "+id, err)
	}
	for _, n := range all {
		if n.ID == id {
			return storageNode(n), nil
		}
	}
	return nil, status.Errorf(codes.Internal, "Cannot inspect node %q: %v", id, ErrNotFound)
}

func storageNode(n Node) *api.StorageNode {
	state := api.Status_STATUS_OFFLINE
	if n.Ready {
		state = api.Status_STATUS_OK
	}
	return &api.StorageNode{
		Id: n.ID, Hostname: n.Hostname, MgmtIp: n.Address, DataIp: n.Address, SchedulerNodeName: n.ID, NodeLabels: n.Labels, Status: state,
	}
}

func notOurs(call string) error {
	return toWire(call, fmt.Errorf("%w: Godwit leaves nodes to Kubernetes: use kubectl", ErrUnserved))
}

// VolumeUsageByNode is not served.
func (nodeServer) VolumeUsageByNode(context.Context, *api.SdkNodeVolumeUsageByNodeRequest) (*api.SdkNodeVolumeUsageByNodeResponse, error) {
	return nil, notOurs("Cannot tell the usage of volumes")
}

// DrainAttachments is not served.
func (nodeServer) DrainAttachments(context.Context, *api.SdkNodeDrainAttachmentsRequest) (*api.SdkJobResponse, error) {
	return nil, notOurs("Cannot drain a node")
}

// CordonAttachments is not served.
func (nodeServer) CordonAttachments(context.Context, *api.SdkNodeCordonAttachmentsRequest) (*api.SdkNodeCordonAttachmentsResponse, error) {
	return nil, notOurs("Cannot cordon a node")
}

// UncordonAttachments is not served.
func (nodeServer) UncordonAttachments(context.Context, *api.SdkNodeUncordonAttachmentsRequest) (*api.SdkNodeUncordonAttachmentsResponse, error) {
	return nil, notOurs("Cannot uncordon a node")
}

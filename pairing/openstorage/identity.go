package openstorage

import (
	"context"

	"github.com/libopenstorage/openstorage/api"
)

type identityServer struct{ *Server }

var _ api.OpenStorageIdentityServer = identityServer{}

// Capabilities names what is served.
func (identityServer) Capabilities(context.Context, *api.SdkIdentityCapabilitiesRequest) (*api.SdkIdentityCapabilitiesResponse, error) {
	response := &api.SdkIdentityCapabilitiesResponse{}
	for _, service := range []api.SdkServiceCapability_OpenStorageService_Type{
		api.SdkServiceCapability_OpenStorageService_CLUSTER, api.SdkServiceCapability_OpenStorageService_CREDENTIALS,
		api.SdkServiceCapability_OpenStorageService_CLUSTER_PAIR, api.SdkServiceCapability_OpenStorageService_MIGRATE,
	} {
		response.Capabilities = append(response.Capabilities, &api.SdkServiceCapability{
			Type: &api.SdkServiceCapability_Service{Service: &api.SdkServiceCapability_OpenStorageService{Type: service}},
		})
	}
	return response, nil
}

// Version tells the SDK's version and ours.
func (s identityServer) Version(context.Context, *api.SdkIdentityVersionRequest) (*api.SdkIdentityVersionResponse, error) {
	return &api.SdkIdentityVersionResponse{
		SdkVersion: &api.SdkVersion{
			Major: int32(api.SdkVersion_Major), Minor: int32(api.SdkVersion_Minor), Patch: int32(api.SdkVersion_Patch), Version: sdkVersion(),
		},
		Version: &api.StorageVersion{Driver: "godwit", Version: s.Cluster.Version, Details: map[string]string{}},
	}, nil
}

type clusterServer struct{ *Server }

var _ api.OpenStorageClusterServer = clusterServer{}

// InspectCurrent tells who this cluster is.
func (s clusterServer) InspectCurrent(context.Context, *api.SdkClusterInspectCurrentRequest) (*api.SdkClusterInspectCurrentResponse, error) {
	return &api.SdkClusterInspectCurrentResponse{
		Cluster: &api.StorageCluster{Id: s.Cluster.ID, Name: s.Cluster.Name, Status: api.Status_STATUS_OK},
	}, nil
}

package openstorage

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/libopenstorage/openstorage/api"

	"github.com/godwit-io/godwit/pairing"
)

type pairServer struct{ *Server }

var _ api.OpenStorageClusterPairServer = pairServer{}

func sdkVersion() string {
	return fmt.Sprintf("%d.%d.%d", api.SdkVersion_Major, api.SdkVersion_Minor, api.SdkVersion_Patch)
}

// Create redeems another cluster's token.
func (s pairServer) Create(ctx context.Context, r *api.SdkClusterPairCreateRequest) (*api.SdkClusterPairCreateResponse, error) {
	asked := r.GetRequest()
	switch {
	case asked == nil:
		return nil, invalid("Must supply valid request")
	case asked.GetRemoteClusterIp() == "":
		return nil, invalid("Must supply the address of the remote cluster")
	case asked.GetRemoteClusterToken() == "":
		return nil, invalid("Must supply the token of the remote cluster")
	}
	pair, err := s.Pairs.Create(ctx, PairRequest{
		Endpoint: net.JoinHostPort(asked.GetRemoteClusterIp(), strconv.FormatUint(uint64(asked.GetRemoteClusterPort()), 10)),
		Token:    pairing.Secret(asked.GetRemoteClusterToken()), Mode: asked.GetMode().String(),
		CredentialID: asked.GetCredentialId(), Default: asked.GetSetDefault(),
	})
	if err != nil {
		return nil, toWire("Cannot create cluster pair with "+asked.GetRemoteClusterIp(), err)
	}
	return &api.SdkClusterPairCreateResponse{Result: &api.ClusterPairCreateResponse{RemoteClusterId: pair.ID, RemoteClusterName: pair.Name}}, nil
}

// Inspect shows one pair, by the other cluster's id.
func (s pairServer) Inspect(ctx context.Context, r *api.SdkClusterPairInspectRequest) (*api.SdkClusterPairInspectResponse, error) {
	if r.GetId() == "" {
		return nil, invalid("Must supply a cluster ID")
	}
	pairs, err := s.Pairs.List(ctx)
	if err != nil {
		return nil, toWire("Cannot inspect cluster pair "+r.GetId(), err)
	}
	for _, p := range pairs {
		if p.ID == r.GetId() {
			return &api.SdkClusterPairInspectResponse{Result: &api.ClusterPairGetResponse{PairInfo: infoOf(p)}}, nil
		}
	}
	return nil, toWire("Cannot inspect cluster pair "+r.GetId(), ErrNotFound)
}

// Enumerate shows all pairs, by the other clusters' ids.
func (s pairServer) Enumerate(ctx context.Context, _ *api.SdkClusterPairEnumerateRequest) (*api.SdkClusterPairEnumerateResponse, error) {
	pairs, err := s.Pairs.List(ctx)
	if err != nil {
		return nil, toWire("Cannot enumerate cluster pairs", err)
	}
	result := &api.ClusterPairsEnumerateResponse{Pairs: map[string]*api.ClusterPairInfo{}}
	for _, p := range pairs {
		result.Pairs[p.ID] = infoOf(p)
		if p.Default {
			result.DefaultId = p.ID
		}
	}
	return &api.SdkClusterPairEnumerateResponse{Result: result}, nil
}

// GetToken makes a token for another cluster.
func (s pairServer) GetToken(ctx context.Context, _ *api.SdkClusterPairGetTokenRequest) (*api.SdkClusterPairGetTokenResponse, error) {
	token, err := s.Pairs.Token(ctx, false)
	if err != nil {
		return nil, toWire("Cannot make a token", err)
	}
	return &api.SdkClusterPairGetTokenResponse{Result: &api.ClusterPairTokenGetResponse{Token: token.Reveal()}}, nil
}

// ResetToken voids the tokens that are not used, and makes another.
func (s pairServer) ResetToken(ctx context.Context, _ *api.SdkClusterPairResetTokenRequest) (*api.SdkClusterPairResetTokenResponse, error) {
	token, err := s.Pairs.Token(ctx, true)
	if err != nil {
		return nil, toWire("Cannot reset the token", err)
	}
	return &api.SdkClusterPairResetTokenResponse{Result: &api.ClusterPairTokenGetResponse{Token: token.Reveal()}}, nil
}

// Delete ends the pairs with a cluster.
func (s pairServer) Delete(ctx context.Context, r *api.SdkClusterPairDeleteRequest) (*api.SdkClusterPairDeleteResponse, error) {
	if r.GetClusterId() == "" {
		return nil, invalid("Must supply valid cluster ID")
	}
	if err := s.Pairs.Delete(ctx, r.GetClusterId()); err != nil {
		return nil, toWire("Cannot delete cluster pair "+r.GetClusterId(), err)
	}
	return &api.SdkClusterPairDeleteResponse{}, nil
}

// infoOf never shows a token: the one of a pair that stands is spent.
func infoOf(p Pair) *api.ClusterPairInfo {
	return &api.ClusterPairInfo{
		Id: p.ID, Name: p.Name, Endpoint: p.Endpoint, CurrentEndpoints: p.Addresses, Secure: true, Options: p.Options,
		Mode: api.ClusterPairMode_Mode(api.ClusterPairMode_Mode_value[p.Mode]),
	}
}

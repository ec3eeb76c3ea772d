package cbt

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/godwit-io/godwit/snapshot"
)

// Socket returns a Client that asks a driver itself about the snapshot with that
// handle, at the path of its socket. Secrets are what the driver wants for
// snapshots, if anything. It connects when it is first asked; the caller closes it.
func Socket(path, handle string, secrets map[string]string) (*Client, error) {
	what := "snapshot " + handle
	conn, err := grpc.NewClient("unix://"+strings.TrimPrefix(path, "unix://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(connectParams()))
	if err != nil {
		return nil, &Error{Reason: Unreachable, Asked: "blocks of " + what, Err: err}
	}
	return newClient(&socket{conn: conn, client: csi.NewSnapshotMetadataClient(conn), handle: handle, secrets: secrets}, what), nil
}

type socket struct {
	conn    *grpc.ClientConn
	client  csi.SnapshotMetadataClient
	handle  string
	secrets map[string]string
}

var _ wire = (*socket)(nil)

func (s *socket) close() error { return s.conn.Close() }

func (s *socket) ask(ctx context.Context, q question) (stream, error) {
	if q.base == "" {
		got, err := s.client.GetMetadataAllocated(ctx, &csi.GetMetadataAllocatedRequest{
			SnapshotId: s.handle, StartingOffset: q.from, MaxResults: q.most, Secrets: s.secrets,
		})
		return socketStream[*csi.GetMetadataAllocatedResponse]{got}, err
	}
	got, err := s.client.GetMetadataDelta(ctx, &csi.GetMetadataDeltaRequest{
		BaseSnapshotId: q.base, TargetSnapshotId: s.handle, StartingOffset: q.from, MaxResults: q.most, Secrets: s.secrets,
	})
	return socketStream[*csi.GetMetadataDeltaResponse]{got}, err
}

// socketResponse is what both answers of a driver have.
type socketResponse interface {
	GetBlockMetadataType() csi.BlockMetadataType
	GetVolumeCapacityBytes() int64
	GetBlockMetadata() []*csi.BlockMetadata
}

type socketStream[R socketResponse] struct {
	from interface{ Recv() (R, error) }
}

func (s socketStream[R]) recv() (message, error) {
	r, err := s.from.Recv()
	if err != nil {
		return message{}, err
	}
	m := message{capacity: r.GetVolumeCapacityBytes()}
	switch r.GetBlockMetadataType() {
	case csi.BlockMetadataType_FIXED_LENGTH:
		m.lengths = fixedLength
	case csi.BlockMetadataType_VARIABLE_LENGTH:
		m.lengths = variableLength
	}
	for _, b := range r.GetBlockMetadata() {
		m.blocks = append(m.blocks, snapshot.Extent{Offset: b.GetByteOffset(), Length: b.GetSizeBytes()})
	}
	return m, nil
}

package cbt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/godwit-io/godwit/snapshot"
)

// connectTime bounds one attempt to connect: an address that swallows packets
// must not hold a transfer up for long.
const connectTime = 5 * time.Second

// Service is what a cluster's SnapshotMetadataService says of a driver's sidecar.
type Service struct {
	// Address is host:port.
	Address string
	// Audience is what tokens have to be for.
	Audience string
	// CA is the authority of the sidecar's certificate, as PEM.
	CA []byte
}

// Token speaks for a ServiceAccount. It does not print itself.
type Token string

// String hides the token.
func (Token) String() string { return "[redacted]" }

// GoString hides the token.
func (Token) GoString() string { return "[redacted]" }

// LogValue hides the token.
func (Token) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Tokens gives tokens of a ServiceAccount that may get VolumeSnapshots in the
// namespace of the one that is asked about. It is called for each stream. An
// error that is none of this package's is tried again.
type Tokens interface {
	Token(ctx context.Context, audience string) (Token, error)
}

// Target names a VolumeSnapshot.
type Target struct{ Namespace, Name string }

// Sidecar returns a Client that asks about a VolumeSnapshot through a cluster's
// sidecar. It connects when it is first asked; the caller closes it.
func Sidecar(service Service, tokens Tokens, target Target) (*Client, error) {
	what := "VolumeSnapshot " + target.Namespace + "/" + target.Name
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(service.CA) {
		return nil, &Error{Reason: Unreachable, Asked: "blocks of " + what, Problem: "caCert in the SnapshotMetadataService holds no certificate"}
	}
	conn, err := grpc.NewClient("dns:///"+service.Address, grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})),
		grpc.WithConnectParams(connectParams()))
	if err != nil {
		return nil, &Error{Reason: Unreachable, Asked: "blocks of " + what, Problem: "address in the SnapshotMetadataService", Err: err}
	}
	return newClient(&sidecar{
		conn: conn, client: api.NewSnapshotMetadataClient(conn), audience: service.Audience, tokens: tokens, target: target,
	}, what), nil
}

func connectParams() grpc.ConnectParams {
	return grpc.ConnectParams{MinConnectTimeout: connectTime, Backoff: backoff.Config{
		BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: connectTime,
	}}
}

type sidecar struct {
	conn     *grpc.ClientConn
	client   api.SnapshotMetadataClient
	audience string
	tokens   Tokens
	target   Target
}

var _ wire = (*sidecar)(nil)

func (s *sidecar) close() error { return s.conn.Close() }

func (s *sidecar) ask(ctx context.Context, q question) (stream, error) {
	token, err := s.tokens.Token(ctx, s.audience)
	if err != nil {
		return nil, fmt.Errorf("get a token for audience %q: %w", s.audience, err)
	}
	if q.base == "" {
		got, err := s.client.GetMetadataAllocated(ctx, &api.GetMetadataAllocatedRequest{
			SecurityToken: string(token), Namespace: s.target.Namespace, SnapshotName: s.target.Name,
			StartingOffset: q.from, MaxResults: q.most,
		})
		return sidecarStream[*api.GetMetadataAllocatedResponse]{got}, err
	}
	got, err := s.client.GetMetadataDelta(ctx, &api.GetMetadataDeltaRequest{
		SecurityToken: string(token), Namespace: s.target.Namespace, TargetSnapshotName: s.target.Name,
		BaseSnapshotId: q.base, StartingOffset: q.from, MaxResults: q.most,
	})
	return sidecarStream[*api.GetMetadataDeltaResponse]{got}, err
}

// sidecarResponse is what both answers of the sidecar have.
type sidecarResponse interface {
	GetBlockMetadataType() api.BlockMetadataType
	GetVolumeCapacityBytes() int64
	GetBlockMetadata() []*api.BlockMetadata
}

type sidecarStream[R sidecarResponse] struct {
	from interface{ Recv() (R, error) }
}

func (s sidecarStream[R]) recv() (message, error) {
	r, err := s.from.Recv()
	if err != nil {
		return message{}, err
	}
	m := message{capacity: r.GetVolumeCapacityBytes()}
	switch r.GetBlockMetadataType() {
	case api.BlockMetadataType_FIXED_LENGTH:
		m.lengths = fixedLength
	case api.BlockMetadataType_VARIABLE_LENGTH:
		m.lengths = variableLength
	}
	for _, b := range r.GetBlockMetadata() {
		m.blocks = append(m.blocks, snapshot.Extent{Offset: b.GetByteOffset(), Length: b.GetSizeBytes()})
	}
	return m, nil
}

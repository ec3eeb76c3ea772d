// Package openstorage serves six services of the OpenStorage SDK, so that what
// talks to Portworx about pairing and migration can talk to Godwit: Identity,
// Cluster with its Nodes, ClusterPair, Credentials and Migrate, with the codes of
// the SDK's reference server.
//
// Its words are the SDK's: a credential is the way to an object store, a task
// is one migration. Callers are people and programs with a JSON Web Token, not
// clusters; Authority says what a role may call.
//
// It turns wire into the interfaces below and back. It never hands out a secret
// that was given to it, but for the pairing tokens that it is asked to make.
package openstorage

import (
	"context"
	"errors"
	"time"

	"github.com/libopenstorage/openstorage/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/pairing"
)

// What backends say. Other errors are Internal, but for those of package pairing.
var (
	// ErrNotFound says that there is no such pair, credential or task.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a task of this id was started before.
	ErrExists = errors.New("exists already")
	// ErrRequest says that a request cannot be carried out as it is.
	ErrRequest = errors.New("request refused")
	// ErrUnserved says that Godwit does not do this.
	ErrUnserved = errors.New("not served")
)

// Cluster is what this cluster says of itself.
type Cluster struct {
	ID, Name, Version string
}

// PairRequest is a pair to make, from a token of the other cluster.
type PairRequest struct {
	Endpoint string
	Token    pairing.Secret
	// Mode is one of the SDK's: Default, DisasterRecovery or OneTimeMigration.
	Mode         string
	CredentialID string
	Default      bool
}

// Pair is a pair as the SDK shows it.
type Pair struct {
	// ID and Name are the other cluster's.
	ID, Name, Endpoint string
	Addresses          []string
	Mode               string
	Options            map[string]string
	Default            bool
}

// Pairs keeps the pairs by which this cluster sends to others.
type Pairs interface {
	// Create redeems the token, and returns once the pair stands.
	Create(ctx context.Context, r PairRequest) (Pair, error)
	List(ctx context.Context) ([]Pair, error)
	Delete(ctx context.Context, clusterID string) error
	// Token makes a token by which another cluster may pair with this one; with
	// reset, those that were made before and are not used are void.
	Token(ctx context.Context, reset bool) (pairing.Secret, error)
}

// Store is a kind of object store.
type Store string

// The kinds of stores.
const (
	S3     Store = "s3"
	Azure  Store = "azure"
	Google Store = "google"
)

// Credential is the way to a bucket. Its secret is only ever taken in.
type Credential struct {
	ID, Name, Bucket string
	Store            Store
	// AccessKey is S3's access key, or Azure's account.
	AccessKey string
	// SecretKey is S3's secret key, Azure's account key, or Google's key in JSON.
	SecretKey pairing.Secret
	// Endpoint, Region, StorageClass and DisableSSL are S3's, Project is Google's.
	Endpoint, Region, StorageClass, Project string
	DisableSSL                              bool
}

// Credentials keeps ways to object stores.
type Credentials interface {
	// Create keeps a credential, and returns ErrExists where there is one of its name.
	Create(ctx context.Context, c Credential) (id string, err error)
	// Update keeps what the credential leaves empty as it was.
	Update(ctx context.Context, c Credential) error
	List(ctx context.Context) ([]Credential, error)
	Delete(ctx context.Context, id string) error
	Validate(ctx context.Context, id string) error
}

// Node is a node of this cluster.
type Node struct {
	ID, Hostname, Address string
	Labels                map[string]string
	// Ready is what Kubernetes says of it.
	Ready bool
}

// Nodes tells of this cluster's nodes.
type Nodes interface {
	List(ctx context.Context) ([]Node, error)
	// Current is the node that answers.
	Current() string
}

// Operation is what a task moves.
type Operation struct {
	// ClusterID is the other cluster's.
	ClusterID, TaskID string
	// VolumeID or GroupID is set, or neither for all volumes.
	VolumeID, GroupID string
}

// Progress is how one volume of a task fares.
type Progress struct {
	TaskID, ClusterID, VolumeID, VolumeName, RemoteVolumeID string
	Stage                                                   api.CloudMigrate_Stage
	Status                                                  api.CloudMigrate_Status
	Reason                                                  string
	Started, Finished, Updated                              time.Time
	BytesTotal, BytesDone                                   uint64
	SecondsLeft                                             int64
}

// Tasks moves volumes.
type Tasks interface {
	// Start returns the task's id, which it makes where there is none, and
	// ErrExists where one of that id was started before.
	Start(ctx context.Context, o Operation) (string, error)
	Cancel(ctx context.Context, taskID string) error
	// List gives the volumes of the task, or of every task where it is empty.
	List(ctx context.Context, taskID string) ([]Progress, error)
}

// Server is the six services.
type Server struct {
	Cluster     Cluster
	Nodes       Nodes
	Pairs       Pairs
	Credentials Credentials
	Tasks       Tasks
}

// Register serves them on g, whose guard has to be an Authority's.
func (s *Server) Register(g *grpc.Server) {
	api.RegisterOpenStorageIdentityServer(g, identityServer{s})
	api.RegisterOpenStorageClusterServer(g, clusterServer{s})
	api.RegisterOpenStorageNodeServer(g, nodeServer{s})
	api.RegisterOpenStorageClusterPairServer(g, pairServer{s})
	api.RegisterOpenStorageCredentialsServer(g, credentialServer{s})
	api.RegisterOpenStorageMigrateServer(g, migrateServer{s})
}

func invalid(what string) error { return status.Error(codes.InvalidArgument, what) }

// toWire gives a backend's error the code that the reference server uses.
func toWire(doing string, err error) error {
	code := codes.Internal
	for _, m := range []struct {
		err  error
		code codes.Code
	}{
		{ErrNotFound, codes.NotFound}, {ErrExists, codes.AlreadyExists}, {ErrRequest, codes.InvalidArgument}, {ErrUnserved, codes.Unimplemented},
		{pairing.ErrTokenMalformed, codes.InvalidArgument}, {pairing.ErrRequest, codes.InvalidArgument}, {pairing.ErrSelf, codes.InvalidArgument},
		{pairing.ErrUnreachable, codes.Unavailable}, {context.Canceled, codes.Canceled}, {context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		if errors.Is(err, m.err) {
			code = m.code
			break
		}
	}
	return status.Errorf(code, "%s: %v", doing, err)
}

package openstorage_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/libopenstorage/openstorage/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/openstorage"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/pairing/rpc"
)

// memory is the backend of a cluster that forgets when the test ends.
type memory struct {
	mu          sync.Mutex
	pairs       map[string]openstorage.Pair
	credentials map[string]openstorage.Credential
	tasks       map[string]openstorage.Operation
	tokens      int
	asked       openstorage.PairRequest
}

type pairs struct{ *memory }

func (m pairs) Create(_ context.Context, r openstorage.PairRequest) (openstorage.Pair, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = r
	if r.Token == "self" {
		return openstorage.Pair{}, pairing.ErrSelf
	}
	p := openstorage.Pair{ID: "remote-id", Name: "remote", Endpoint: r.Endpoint, Mode: r.Mode, Default: r.Default}
	m.pairs[p.ID] = p
	return p, nil
}

func (m pairs) List(context.Context) ([]openstorage.Pair, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.pairs)), nil
}

func (m pairs) Delete(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.pairs[id]; !there {
		return openstorage.ErrNotFound
	}
	delete(m.pairs, id)
	return nil
}

func (m pairs) Token(_ context.Context, reset bool) (pairing.Secret, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens++
	return pairing.Secret(fmt.Sprintf("token-%d-%t", m.tokens, reset)), nil
}

type creds struct{ *memory }

func (m creds) Create(_ context.Context, c openstorage.Credential) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.ID = "id-" + c.Name
	m.credentials[c.ID] = c
	return c.ID, nil
}

func (m creds) Update(_ context.Context, c openstorage.Credential) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.credentials[c.ID]; !there {
		return openstorage.ErrNotFound
	}
	m.credentials[c.ID] = c
	return nil
}

func (m creds) List(context.Context) ([]openstorage.Credential, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.credentials)), nil
}

func (m creds) Delete(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.credentials, id)
	return nil
}

func (m creds) Validate(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.credentials[id].Bucket == "gone" {
		return errors.New("bucket gone")
	}
	return nil
}

type nodes struct{}

func (nodes) Current() string { return "n1" }

func (nodes) List(context.Context) ([]openstorage.Node, error) {
	return []openstorage.Node{{ID: "n1", Hostname: "h1", Address: "10.0.0.1", Ready: true}, {ID: "n2"}}, nil
}

type tasks struct{ *memory }

func (m tasks) Start(_ context.Context, o openstorage.Operation) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.tasks[o.TaskID]; there {
		return "", openstorage.ErrExists
	}
	m.tasks[o.TaskID] = o
	return o.TaskID, nil
}

func (m tasks) Cancel(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.tasks[id]; !there {
		return openstorage.ErrNotFound
	}
	delete(m.tasks, id)
	return nil
}

func (m tasks) List(_ context.Context, id string) ([]openstorage.Progress, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []openstorage.Progress
	for _, o := range m.tasks {
		if id == "" || id == o.TaskID {
			all = append(all, openstorage.Progress{
				TaskID: o.TaskID, ClusterID: o.ClusterID, VolumeID: o.VolumeID, Stage: api.CloudMigrate_Backup, Status: api.CloudMigrate_InProgress,
				Started: time.Unix(100, 0), BytesTotal: 10, BytesDone: 5,
			})
		}
	}
	return all, nil
}

var secret = []byte("a shared secret of at least 32 bytes")

// served is the whole server, with the pairing beside.
type served struct {
	*memory
	endpoint string
	peer     pairing.Peer
}

func serve(t *testing.T, issuers ...openstorage.Issuer) *served {
	t.Helper()
	authority, err := pairing.NewAuthority("target-id", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	gate, err := openstorage.NewAuthority(time.Now, append(issuers, openstorage.Issuer{Name: "us", SharedSecret: secret})...)
	if err != nil {
		t.Fatal(err)
	}
	grants := &pairingtest.Grants{}
	g := rpc.NewServer(rpc.Config{
		Issuer:       &pairing.Issuer{Grants: grants, Peers: &pairingtest.Peers{}, Ring: pairing.NewRing(authority), Now: time.Now, Random: rand.Reader},
		StorageCheck: func(context.Context, pairing.Peer) error { return nil }, Gate: gate, Log: slog.New(slog.DiscardHandler),
	}).GRPC()
	s := &served{memory: &memory{
		pairs: map[string]openstorage.Pair{}, credentials: map[string]openstorage.Credential{}, tasks: map[string]openstorage.Operation{},
	}}
	(&openstorage.Server{
		Cluster: openstorage.Cluster{ID: "target-id", Name: "west", Version: "v1"},
		Nodes:   nodes{}, Pairs: pairs{s.memory}, Credentials: creds{s.memory}, Tasks: tasks{s.memory},
	}).Register(g)
	reflection.Register(g)
	healthv1.RegisterHealthServer(g, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go g.Serve(listener) //nolint:errcheck // it ends with Stop
	t.Cleanup(g.Stop)
	s.endpoint = listener.Addr().String()
	token, err := pairing.Mint(t.Context(), grants, pairing.MintRequest{
		Scope: pairing.Scope{Admin: true}, Endpoint: s.endpoint, ClusterID: "target-id", CAFingerprint: authority.Fingerprint(),
	}, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	joiner := &pairing.Joiner{
		Peers: &pairingtest.Peers{}, Exchange: rpc.Client{Now: time.Now}, ClusterID: "source-id", Now: time.Now, Random: rand.Reader,
	}
	if s.peer, err = joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *served) dial(t *testing.T, certificates ...tls.Certificate) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.endpoint, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: certificates})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func bearer(t *testing.T, method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
	t.Helper()
	c := jwt.MapClaims{
		"iss": "us", "sub": "jim@example.com", "name": "Jim", "email": "jim@example.com", "roles": []string{"system.admin"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	if change != nil {
		change(c)
	}
	token, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func with(t *testing.T, token string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "bearer "+token)
}

func admin(t *testing.T) context.Context {
	t.Helper()
	return with(t, bearer(t, jwt.SigningMethodHS256, secret, nil))
}

func wants(t *testing.T, what string, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func TestIdentityAndCluster(t *testing.T) {
	conn := serve(t).dial(t)
	can, err := api.NewOpenStorageIdentityClient(conn).Capabilities(t.Context(), &api.SdkIdentityCapabilitiesRequest{})
	if err != nil || len(can.GetCapabilities()) != 4 {
		t.Errorf("a guest asks what is served: %v, %v", can, err)
	}
	version, err := api.NewOpenStorageIdentityClient(conn).Version(t.Context(), &api.SdkIdentityVersionRequest{})
	if err != nil || version.GetSdkVersion().GetVersion() == "" || version.GetVersion().GetDriver() != "godwit" {
		t.Errorf("%v, %v", version, err)
	}
	_, err = api.NewOpenStorageClusterClient(conn).InspectCurrent(t.Context(), &api.SdkClusterInspectCurrentRequest{})
	wants(t, "a guest asks who this is", err, codes.Unauthenticated)
	cluster, err := api.NewOpenStorageClusterClient(conn).InspectCurrent(admin(t), &api.SdkClusterInspectCurrentRequest{})
	if err != nil || cluster.GetCluster().GetId() != "target-id" {
		t.Errorf("%v, %v", cluster, err)
	}
}

func TestClusterPair(t *testing.T) {
	s := serve(t)
	c, ctx := api.NewOpenStorageClusterPairClient(s.dial(t)), admin(t)
	_, err := c.Create(ctx, &api.SdkClusterPairCreateRequest{})
	wants(t, "create nothing", err, codes.InvalidArgument)
	_, err = c.Create(ctx, &api.SdkClusterPairCreateRequest{Request: &api.ClusterPairCreateRequest{RemoteClusterIp: "h", RemoteClusterToken: "self"}})
	wants(t, "create with itself", err, codes.InvalidArgument)
	made, err := c.Create(ctx, &api.SdkClusterPairCreateRequest{Request: &api.ClusterPairCreateRequest{
		RemoteClusterIp: "10.0.0.1", RemoteClusterPort: 9310, RemoteClusterToken: "godwit1.x", SetDefault: true, Mode: api.ClusterPairMode_DisasterRecovery,
	}})
	if err != nil || made.GetResult().GetRemoteClusterId() != "remote-id" || s.asked.Endpoint != "10.0.0.1:9310" || s.asked.Mode != "DisasterRecovery" {
		t.Errorf("%v, %v, asked %+v", made, err, s.asked)
	}
	all, err := c.Enumerate(ctx, &api.SdkClusterPairEnumerateRequest{})
	if err != nil || all.GetResult().GetDefaultId() != "remote-id" || all.GetResult().GetPairs()["remote-id"].GetMode() != api.ClusterPairMode_DisasterRecovery {
		t.Errorf("%v, %v", all, err)
	}
	one, err := c.Inspect(ctx, &api.SdkClusterPairInspectRequest{Id: "remote-id"})
	if err != nil || one.GetResult().GetPairInfo().GetToken() != "" || !one.GetResult().GetPairInfo().GetSecure() {
		t.Errorf("%v, %v", one, err)
	}
	_, err = c.Inspect(ctx, &api.SdkClusterPairInspectRequest{})
	wants(t, "inspect nothing", err, codes.InvalidArgument)
	_, err = c.Inspect(ctx, &api.SdkClusterPairInspectRequest{Id: "other"})
	wants(t, "inspect another", err, codes.NotFound)
	token, err := c.GetToken(ctx, &api.SdkClusterPairGetTokenRequest{})
	if err != nil || token.GetResult().GetToken() != "token-1-false" {
		t.Errorf("%v, %v", token, err)
	}
	reset, err := c.ResetToken(ctx, &api.SdkClusterPairResetTokenRequest{})
	if err != nil || reset.GetResult().GetToken() != "token-2-true" {
		t.Errorf("%v, %v", reset, err)
	}
	_, err = c.Delete(ctx, &api.SdkClusterPairDeleteRequest{})
	wants(t, "delete nothing", err, codes.InvalidArgument)
	_, err = c.Delete(ctx, &api.SdkClusterPairDeleteRequest{ClusterId: "remote-id"})
	wants(t, "delete", err, codes.OK)
}

func TestCredentials(t *testing.T) {
	s := serve(t)
	c, ctx := api.NewOpenStorageCredentialsClient(s.dial(t)), admin(t)
	aws := func() *api.SdkCredentialCreateRequest {
		return &api.SdkCredentialCreateRequest{Name: "s3", Bucket: "b", CredentialType: &api.SdkCredentialCreateRequest_AwsCredential{
			AwsCredential: &api.SdkAwsCredentialRequest{AccessKey: "a", SecretKey: "s3cr3t", Endpoint: "e", Region: "r"},
		}}
	}
	made, err := c.Create(ctx, aws())
	if err != nil || made.GetCredentialId() != "id-s3" {
		t.Fatalf("%v, %v", made, err)
	}
	for what, r := range map[string]func(*api.SdkCredentialCreateRequest){
		"no name":   func(r *api.SdkCredentialCreateRequest) { r.Name = "" },
		"no type":   func(r *api.SdkCredentialCreateRequest) { r.CredentialType = nil },
		"no key":    func(r *api.SdkCredentialCreateRequest) { r.GetAwsCredential().AccessKey = "" },
		"no secret": func(r *api.SdkCredentialCreateRequest) { r.GetAwsCredential().SecretKey = "" },
		"no region": func(r *api.SdkCredentialCreateRequest) { r.GetAwsCredential().Region = "" },
		"no store":  func(r *api.SdkCredentialCreateRequest) { r.GetAwsCredential().Endpoint = "" },
	} {
		spoiled := aws()
		r(spoiled)
		_, err := c.Create(ctx, spoiled)
		wants(t, what, err, codes.InvalidArgument)
	}
	gone := aws()
	gone.Name, gone.Bucket = "bad", "gone"
	_, err = c.Create(ctx, gone)
	wants(t, "a bucket that cannot be used", err, codes.PermissionDenied)
	if all, err := c.Enumerate(ctx, &api.SdkCredentialEnumerateRequest{}); err != nil || !slices.Equal(all.GetCredentialIds(), []string{"id-s3"}) {
		t.Errorf("what could not be validated stays: %v, %v", all, err)
	}
	for what, change := range map[string]func(*api.SdkCredentialCreateRequest){
		"proxy": func(r *api.SdkCredentialCreateRequest) { r.UseProxy = true }, "the node's keys": func(r *api.SdkCredentialCreateRequest) { r.IamPolicy = true },
		"encryption":          func(r *api.SdkCredentialCreateRequest) { r.EncryptionKey = "k" },
		"the style of a path": func(r *api.SdkCredentialCreateRequest) { r.GetAwsCredential().DisablePathStyle = true },
		"nfs": func(r *api.SdkCredentialCreateRequest) {
			r.CredentialType = &api.SdkCredentialCreateRequest_NfsCredential{NfsCredential: &api.SdkNfsCredentialRequest{Server: "s"}}
		},
	} {
		unserved := aws()
		change(unserved)
		_, err := c.Create(ctx, unserved)
		wants(t, what, err, codes.Unimplemented)
	}
	shown, err := c.Inspect(ctx, &api.SdkCredentialInspectRequest{CredentialId: "id-s3"})
	if err != nil || shown.GetAwsCredential().GetAccessKey() != "a" || strings.Contains(shown.String(), "s3cr3t") {
		t.Errorf("%v, %v", shown, err)
	}
	_, err = c.Validate(ctx, &api.SdkCredentialValidateRequest{CredentialId: "s3"})
	wants(t, "validate, by name", err, codes.OK)
	_, err = c.Update(ctx, &api.SdkCredentialUpdateRequest{CredentialId: "id-s3", UpdateReq: gone})
	wants(t, "update", err, codes.OK)
	_, err = c.Validate(ctx, &api.SdkCredentialValidateRequest{CredentialId: "id-s3"})
	wants(t, "validate what is gone", err, codes.Internal)
	_, err = c.Validate(ctx, &api.SdkCredentialValidateRequest{CredentialId: "other"})
	wants(t, "validate another", err, codes.NotFound)
	_, err = c.Delete(ctx, &api.SdkCredentialDeleteRequest{CredentialId: "other"})
	wants(t, "delete another", err, codes.NotFound)
	_, err = c.Update(ctx, &api.SdkCredentialUpdateRequest{CredentialId: "other", UpdateReq: aws()})
	wants(t, "update another", err, codes.NotFound)
	for what, call := range map[string]func() error{
		"inspect":  func() error { _, err := c.Inspect(ctx, &api.SdkCredentialInspectRequest{}); return err },
		"validate": func() error { _, err := c.Validate(ctx, &api.SdkCredentialValidateRequest{}); return err },
		"delete":   func() error { _, err := c.Delete(ctx, &api.SdkCredentialDeleteRequest{}); return err },
	} {
		wants(t, what+" nothing", call(), codes.InvalidArgument)
	}
	if _, err := c.Delete(ctx, &api.SdkCredentialDeleteRequest{CredentialId: "id-s3"}); err != nil {
		t.Error(err)
	}
	left, err := c.Enumerate(ctx, &api.SdkCredentialEnumerateRequest{})
	if err != nil || len(left.GetCredentialIds()) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestCredentialsOfOtherStores(t *testing.T) {
	c, ctx := api.NewOpenStorageCredentialsClient(serve(t).dial(t)), admin(t)
	azure := func(account, key string) *api.SdkCredentialCreateRequest {
		return &api.SdkCredentialCreateRequest{Name: "azure", CredentialType: &api.SdkCredentialCreateRequest_AzureCredential{
			AzureCredential: &api.SdkAzureCredentialRequest{AccountName: account, AccountKey: key},
		}}
	}
	google := func(project, key string) *api.SdkCredentialCreateRequest {
		return &api.SdkCredentialCreateRequest{Name: "google", CredentialType: &api.SdkCredentialCreateRequest_GoogleCredential{
			GoogleCredential: &api.SdkGoogleCredentialRequest{ProjectId: project, JsonKey: key},
		}}
	}
	for what, r := range map[string]*api.SdkCredentialCreateRequest{
		"no account": azure("", "s3cr3t"), "no account key": azure("a", ""), "no project": google("", "s3cr3t"), "no JSON key": google("p", ""),
	} {
		_, err := c.Create(ctx, r)
		wants(t, what, err, codes.InvalidArgument)
	}
	for _, r := range []*api.SdkCredentialCreateRequest{azure("a", "s3cr3t"), google("p", "s3cr3t")} {
		made, err := c.Create(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := c.Inspect(ctx, &api.SdkCredentialInspectRequest{CredentialId: made.GetCredentialId()})
		if err != nil || strings.Contains(shown.String(), "s3cr3t") || shown.GetName() != r.GetName() ||
			shown.GetAzureCredential().GetAccountName() != r.GetAzureCredential().GetAccountName() || shown.GetGoogleCredential().GetProjectId() != r.GetGoogleCredential().GetProjectId() {
			t.Errorf("%v, %v", shown, err)
		}
		_, err = c.Delete(ctx, &api.SdkCredentialDeleteRequest{CredentialId: made.GetCredentialId()})
		wants(t, "delete", err, codes.OK)
	}
}

func TestNodes(t *testing.T) {
	c, ctx := api.NewOpenStorageNodeClient(serve(t).dial(t)), admin(t)
	ids, err := c.Enumerate(ctx, &api.SdkNodeEnumerateRequest{})
	if err != nil || !slices.Equal(ids.GetNodeIds(), []string{"n1", "n2"}) {
		t.Errorf("%v, %v", ids, err)
	}
	all, err := c.EnumerateWithFilters(ctx, &api.SdkNodeEnumerateWithFiltersRequest{})
	if err != nil || len(all.GetNodes()) != 2 || all.GetNodes()[0].GetStatus() != api.Status_STATUS_OK || all.GetNodes()[1].GetStatus() != api.Status_STATUS_OFFLINE {
		t.Errorf("%v, %v", all, err)
	}
	here, err := c.InspectCurrent(ctx, &api.SdkNodeInspectCurrentRequest{})
	if err != nil || here.GetNode().GetId() != "n1" || here.GetNode().GetMgmtIp() != "10.0.0.1" {
		t.Errorf("%v, %v", here, err)
	}
	_, err = c.Inspect(ctx, &api.SdkNodeInspectRequest{})
	wants(t, "inspect nothing", err, codes.InvalidArgument)
	_, err = c.Inspect(ctx, &api.SdkNodeInspectRequest{NodeId: "n9"})
	wants(t, "inspect another", err, codes.Internal)
	for what, call := range map[string]func() error{
		"drain":  func() error { _, err := c.DrainAttachments(ctx, &api.SdkNodeDrainAttachmentsRequest{}); return err },
		"cordon": func() error { _, err := c.CordonAttachments(ctx, &api.SdkNodeCordonAttachmentsRequest{}); return err },
		"let be": func() error {
			_, err := c.UncordonAttachments(ctx, &api.SdkNodeUncordonAttachmentsRequest{})
			return err
		},
		"usage": func() error {
			_, err := c.VolumeUsageByNode(ctx, &api.SdkNodeVolumeUsageByNodeRequest{})
			return err
		},
	} {
		wants(t, what, call(), codes.Unimplemented)
	}
}

func TestMigrate(t *testing.T) {
	c, ctx := api.NewOpenStorageMigrateClient(serve(t).dial(t)), admin(t)
	start := func(task string) error {
		_, err := c.Start(ctx, &api.SdkCloudMigrateStartRequest{
			ClusterId: "remote-id", TaskId: task, Opt: &api.SdkCloudMigrateStartRequest_Volume{Volume: &api.SdkCloudMigrateStartRequest_MigrateVolume{VolumeId: "pv-1"}},
		})
		return err
	}
	wants(t, "start", start("t1"), codes.OK)
	wants(t, "start again", start("t1"), codes.AlreadyExists)
	_, err := c.Start(ctx, &api.SdkCloudMigrateStartRequest{ClusterId: "remote-id", TaskId: "t2", Opt: &api.SdkCloudMigrateStartRequest_VolumeGroup{
		VolumeGroup: &api.SdkCloudMigrateStartRequest_MigrateVolumeGroup{GroupId: "g"},
	}})
	wants(t, "start a group", err, codes.OK)
	_, err = c.Start(ctx, &api.SdkCloudMigrateStartRequest{ClusterId: "remote-id"})
	wants(t, "start nothing", err, codes.InvalidArgument)
	_, err = c.Start(ctx, &api.SdkCloudMigrateStartRequest{})
	wants(t, "start to nowhere", err, codes.InvalidArgument)
	told, err := c.Status(ctx, &api.SdkCloudMigrateStatusRequest{})
	if list := told.GetResult().GetInfo()["remote-id"].GetList(); err != nil || len(list) != 2 || list[0].GetBytesDone() != 5 || list[0].GetStartTime().GetSeconds() != 100 {
		t.Errorf("%v, %v", told, err)
	}
	_, err = c.Cancel(ctx, &api.SdkCloudMigrateCancelRequest{})
	wants(t, "cancel nothing", err, codes.InvalidArgument)
	_, err = c.Cancel(ctx, &api.SdkCloudMigrateCancelRequest{Request: &api.CloudMigrateCancelRequest{TaskId: "t9"}})
	wants(t, "cancel another", err, codes.NotFound)
}

func publicPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestTokens(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPublic := publicPEM(t, rsaKey.Public())
	s := serve(t, openstorage.Issuer{Name: "rsa", RSA: rsaPublic}, openstorage.Issuer{Name: "ec", ECDSA: publicPEM(t, ecKey.Public())})
	conn := s.dial(t)
	as := func(issuer string, roles ...string) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c["iss"], c["roles"] = issuer, roles }
	}
	without := func(claim string) func(jwt.MapClaims) { return func(c jwt.MapClaims) { delete(c, claim) } }
	call := func(ctx context.Context) error {
		_, err := api.NewOpenStorageClusterPairClient(conn).GetToken(ctx, &api.SdkClusterPairGetTokenRequest{})
		return err
	}
	for name, tt := range map[string]struct {
		token string
		want  codes.Code
	}{
		"HS256": {bearer(t, jwt.SigningMethodHS256, secret, nil), codes.OK},
		"RS256": {bearer(t, jwt.SigningMethodRS256, rsaKey, as("rsa", "system.admin")), codes.OK},
		"ES256": {bearer(t, jwt.SigningMethodES256, ecKey, as("ec", "system.admin")), codes.OK},
		// What follows must not get in.
		"no algorithm":              {bearer(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil), codes.PermissionDenied},
		"another secret":            {bearer(t, jwt.SigningMethodHS256, []byte("another secret"), nil), codes.PermissionDenied},
		"the public key as secret":  {bearer(t, jwt.SigningMethodHS256, rsaPublic, as("rsa", "system.admin")), codes.PermissionDenied},
		"another algorithm":         {bearer(t, jwt.SigningMethodEdDSA, edKey, nil), codes.PermissionDenied},
		"HS512":                     {bearer(t, jwt.SigningMethodHS512, secret, nil), codes.PermissionDenied},
		"another issuer":            {bearer(t, jwt.SigningMethodHS256, secret, as("them", "system.admin")), codes.Unauthenticated},
		"the key of another issuer": {bearer(t, jwt.SigningMethodES256, ecKey, as("rsa", "system.admin")), codes.PermissionDenied},
		"expired":                   {bearer(t, jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Minute).Unix() }), codes.PermissionDenied},
		"without an end":            {bearer(t, jwt.SigningMethodHS256, secret, without("exp")), codes.PermissionDenied},
		"issued tomorrow":           {bearer(t, jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) { c["iat"] = time.Now().Add(24 * time.Hour).Unix() }), codes.PermissionDenied},
		"without a name":            {bearer(t, jwt.SigningMethodHS256, secret, without("name")), codes.PermissionDenied},
		"without a subject":         {bearer(t, jwt.SigningMethodHS256, secret, without("sub")), codes.PermissionDenied},
		"without a role":            {bearer(t, jwt.SigningMethodHS256, secret, as("us")), codes.PermissionDenied},
		"a role that only looks":    {bearer(t, jwt.SigningMethodHS256, secret, as("us", "system.view")), codes.PermissionDenied},
		"a role of users":           {bearer(t, jwt.SigningMethodHS256, secret, as("us", "system.user")), codes.PermissionDenied},
		"a role of nobody":          {bearer(t, jwt.SigningMethodHS256, secret, as("us", "system.god")), codes.PermissionDenied},
		"no token at all":           {"x", codes.Unauthenticated},
	} {
		wants(t, name, call(with(t, tt.token)), tt.want)
	}
	wants(t, "no authorization", call(t.Context()), codes.Unauthenticated)
	wants(t, "another scheme", call(metadata.AppendToOutgoingContext(t.Context(), "authorization", "basic eA==")), codes.Unauthenticated)
	good := "bearer " + bearer(t, jwt.SigningMethodHS256, secret, nil)
	wants(t, "two authorizations", call(metadata.AppendToOutgoingContext(t.Context(), "authorization", good, "authorization", good)), codes.Unauthenticated)
	certificate, err := s.peer.TLSCertificate()
	if err != nil {
		t.Fatal(err)
	}
	_, err = api.NewOpenStorageClusterPairClient(s.dial(t, certificate)).GetToken(t.Context(), &api.SdkClusterPairGetTokenRequest{})
	wants(t, "a paired cluster, without a token", err, codes.Unauthenticated)
	_, err = api.NewOpenStorageClusterPairClient(conn).Enumerate(with(t, bearer(t, jwt.SigningMethodHS256, secret, as("us", "system.view"))), &api.SdkClusterPairEnumerateRequest{})
	wants(t, "who may look, looks", err, codes.OK)
	if _, err := openstorage.NewAuthority(time.Now, openstorage.Issuer{Name: "short", SharedSecret: []byte("short")}); err == nil {
		t.Error("a short secret was taken")
	}
}

// What grpcurl does: list the services, by a token.
func TestReflection(t *testing.T) {
	s := serve(t)
	list := func(ctx context.Context) ([]string, error) {
		stream, err := reflectionv1.NewServerReflectionClient(s.dial(t)).ServerReflectionInfo(ctx)
		if err != nil {
			return nil, err
		}
		// Where the stream was refused, only Recv says why.
		_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		answer, err := stream.Recv()
		var names []string
		for _, service := range answer.GetListServicesResponse().GetService() {
			names = append(names, service.GetName())
		}
		return names, err
	}
	names, err := list(admin(t))
	if err != nil || !slices.Contains(names, "openstorage.api.OpenStorageMigrate") || !slices.Contains(names, "godwit.v1.PairingService") {
		t.Errorf("%q, %v", names, err)
	}
	_, err = list(t.Context())
	wants(t, "a stranger", err, codes.Unauthenticated)
	_, err = healthv1.NewHealthClient(s.dial(t)).Check(admin(t), &healthv1.HealthCheckRequest{})
	wants(t, "health, by a token", err, codes.OK)
}

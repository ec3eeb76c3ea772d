package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/libopenstorage/openstorage/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/godwit-io/godwit/test/scenario"
)

// asAdmin dials a cluster's pairing port, and gives the context of an admin's calls.
func asAdmin(ctx context.Context, t *testing.T, c scenario.Cluster) (*grpc.ClientConn, context.Context) {
	t.Helper()
	// Which certificate the server has is not this test's affair.
	creds := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	conn, err := grpc.NewClient(pairingAddress(ctx, t, c), grpc.WithTransportCredentials(creds))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": sdkIssuer, "sub": "admin", "name": "admin", "email": "admin@example.com", "roles": []string{"system.admin"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString([]byte(sdkSecret))
	must(t, err)
	return conn, metadata.AppendToOutgoingContext(ctx, "authorization", "bearer "+token)
}

// oneVolume is a task for a single volume.
func oneVolume(cluster, task, volume string) *api.SdkCloudMigrateStartRequest {
	return &api.SdkCloudMigrateStartRequest{ClusterId: cluster, TaskId: task, Opt: &api.SdkCloudMigrateStartRequest_Volume{
		Volume: &api.SdkCloudMigrateStartRequest_MigrateVolume{VolumeId: volume},
	}}
}

func oneGroup(cluster, task, group string) *api.SdkCloudMigrateStartRequest {
	return &api.SdkCloudMigrateStartRequest{ClusterId: cluster, TaskId: task, Opt: &api.SdkCloudMigrateStartRequest_VolumeGroup{
		VolumeGroup: &api.SdkCloudMigrateStartRequest_MigrateVolumeGroup{GroupId: group},
	}}
}

// awaitTask waits until every volume of the task is over, and gives them by the
// claims' names.
func awaitTask(ctx context.Context, t *testing.T, c api.OpenStorageMigrateClient, cluster, task string) map[string]*api.CloudMigrateInfo {
	t.Helper()
	volumes := map[string]*api.CloudMigrateInfo{}
	must(t, scenario.Await(ctx, scenario.Long, "task "+task, func(ctx context.Context) (bool, string, error) {
		told, err := c.Status(ctx, &api.SdkCloudMigrateStatusRequest{Request: &api.CloudMigrateStatusRequest{TaskId: task, ClusterId: cluster}})
		if err != nil {
			return false, err.Error(), nil
		}
		list := told.GetResult().GetInfo()[cluster].GetList()
		over := len(list) > 0
		// A task that has just begun names no claims yet.
		clear(volumes)
		for _, v := range list {
			volumes[v.GetLocalVolumeName()] = v
			over = over && v.GetStatus() > api.CloudMigrate_InProgress
		}
		return over, fmt.Sprint(list), nil
	}))
	return volumes
}

// TestSDKTasks moves one volume, a group of two, and then nothing twice, by the
// OpenStorage SDK as it is served, and cancels a task.
func TestSDKTasks(t *testing.T) {
	g, ctx := ground(t)
	must(t, serveSDK(ctx, t, g, g.Source))
	must(t, serveSDK(ctx, t, g, g.Target))
	app := scenario.Archive("sdk")
	must(t, g.Start(ctx, app))
	must(t, g.Fill(ctx, app))
	source, admin := asAdmin(ctx, t, g.Source)
	cluster := sdkPair(ctx, admin, t, g, source)
	volume := func(claim string) string {
		name, err := g.Source.Kubectl(ctx, "-n", app.Namespace, "get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}")
		must(t, err)
		return name
	}
	for _, claim := range []string{"uploads", "data-books-0"} {
		_, err := g.Source.Kubectl(ctx, "-n", app.Namespace, "label", "pvc", claim, "godwit.io/volume-group=pages")
		must(t, err)
	}
	c := api.NewOpenStorageMigrateClient(source)
	for _, r := range []*api.SdkCloudMigrateStartRequest{oneVolume(cluster, "one", volume("ledger")), oneGroup(cluster, "two", "pages")} {
		_, err := c.Start(admin, r)
		must(t, err)
		if _, err = c.Start(admin, r); err == nil {
			t.Errorf("task %s was started twice", r.GetTaskId())
		}
	}
	for task, want := range map[string][]string{"one": {app.Namespace + "/ledger"}, "two": {app.Namespace + "/uploads", app.Namespace + "/data-books-0"}} {
		got := awaitTask(admin, t, c, cluster, task)
		for _, claim := range want {
			v := got[claim]
			if v.GetStatus() != api.CloudMigrate_Complete || v.GetCurrentStage() != api.CloudMigrate_Done || v.GetRemoteVolumeId() == "" {
				t.Errorf("task %s: %s came to %v", task, claim, v)
			}
		}
		if len(got) != len(want) {
			t.Errorf("task %s moved %v, want %v", task, got, want)
		}
	}
	there, err := g.Target.Kubectl(ctx, "-n", app.Namespace, "get", "pvc", "-o", "jsonpath={.items[*].status.phase}")
	must(t, err)
	if there != "Bound Bound Bound" {
		t.Errorf("the target has claims that are %q", there)
	}
	_, err = c.Cancel(admin, &api.SdkCloudMigrateCancelRequest{Request: &api.CloudMigrateCancelRequest{TaskId: "one"}})
	must(t, err)
	if got := awaitTask(admin, t, c, cluster, "one"); got[app.Namespace+"/ledger"].GetStatus() != api.CloudMigrate_Complete {
		t.Errorf("what was over is not as it was: %v", got)
	}
	_, err = g.Source.Kubectl(ctx, "-n", scenario.Namespace, "delete", "migrations.godwit.io", "--all", "--timeout", "90s")
	must(t, err)
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
}

// sdkPair makes a pair by the SDK alone: a token of the target, credentials on
// both sides, and the pair on the source. It returns the target's id.
func sdkPair(ctx, admin context.Context, t *testing.T, g *scenario.Ground, source *grpc.ClientConn) string {
	t.Helper()
	target, there := asAdmin(ctx, t, g.Target)
	store := plainStore(ctx, t, "sdk-tasks")
	who, err := api.NewOpenStorageClusterClient(target).InspectCurrent(there, &api.SdkClusterInspectCurrentRequest{})
	must(t, err)
	keep := func(as context.Context, conn *grpc.ClientConn) {
		made, err := api.NewOpenStorageCredentialsClient(conn).Create(as, &api.SdkCredentialCreateRequest{
			Name: "clusterPair_" + who.GetCluster().GetId(), Bucket: "sdk-tasks", CredentialType: &api.SdkCredentialCreateRequest_AwsCredential{AwsCredential: &api.SdkAwsCredentialRequest{
				AccessKey: storeKey, SecretKey: storeSecret, Endpoint: store, Region: "us-east-1", DisableSsl: true,
			}},
		})
		must(t, err)
		t.Cleanup(func() {
			_, err := api.NewOpenStorageCredentialsClient(conn).Delete(context.WithoutCancel(as), &api.SdkCredentialDeleteRequest{CredentialId: made.GetCredentialId()})
			must(t, err)
		})
	}
	keep(there, target)
	keep(admin, source)
	host, port, err := splitAddress(pairingAddress(ctx, t, g.Target))
	must(t, err)
	token, err := api.NewOpenStorageClusterPairClient(target).GetToken(there, &api.SdkClusterPairGetTokenRequest{})
	must(t, err)
	pairs := api.NewOpenStorageClusterPairClient(source)
	made, err := pairs.Create(admin, &api.SdkClusterPairCreateRequest{Request: &api.ClusterPairCreateRequest{
		RemoteClusterIp: host, RemoteClusterPort: port, RemoteClusterToken: token.GetResult().GetToken(),
	}})
	must(t, err)
	id := made.GetResult().GetRemoteClusterId()
	t.Cleanup(func() {
		_, err := pairs.Delete(context.WithoutCancel(admin), &api.SdkClusterPairDeleteRequest{ClusterId: id})
		must(t, err)
	})
	return id
}

func splitAddress(address string) (host string, port uint32, err error) {
	if _, err := fmt.Sscanf(address, "127.0.0.1:%d", &port); err != nil {
		return "", 0, errors.Join(fmt.Errorf("address %q", address), err)
	}
	return "127.0.0.1", port, nil
}

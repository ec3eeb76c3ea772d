package repository_test

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/repository"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// locator has a Secret "keys" in namespace cms, and one NFS folder.
func locator(t *testing.T, keys map[string]string, locations ...*api.BackupLocation) repository.Locator {
	t.Helper()
	data := map[string][]byte{}
	for k, v := range keys {
		data[k] = []byte(v)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "keys"}, Data: data}
	scheme := fake.NewClientBuilder().Build().Scheme()
	if err := api.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(secret)
	for _, l := range locations {
		builder.WithObjects(l)
	}
	mount, err := repository.ParseMount("nas:/exports/godwit=/nfs/nas/exports/godwit")
	if err != nil {
		t.Fatal(err)
	}
	return repository.Locator{Reader: builder.Build(), Host: "here", Mounts: []repository.Mount{mount}}
}

func at(item api.BackupLocationItem) api.BackupLocation {
	return api.BackupLocation{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "store"}, Location: item}
}

func TestResolveStorkKinds(t *testing.T) {
	for name, c := range map[string]struct {
		keys map[string]string
		item api.BackupLocationItem
		want snapshot.Location
	}{
		"s3": {
			map[string]string{"accessKeyID": "id\n", "secretAccessKey": "key\n", "sse": "AES256", "storageClass": "STANDARD_IA"},
			api.BackupLocationItem{Type: api.S3Location, Path: "box/deep", SecretConfig: "keys", S3Config: &api.S3Config{Endpoint: "http://s3:9000/"}},
			snapshot.Location{
				Type: snapshot.S3, Endpoint: "s3:9000", Bucket: "box", Prefix: "deep/", AccessKeyID: "id", SecretAccessKey: "key",
				DisableTLS: true, StorageClass: "STANDARD_IA", Encryption: "AES256",
			},
		},
		"azure": {
			map[string]string{"storageAccountName": "acc", "storageAccountKey": "key"},
			api.BackupLocationItem{Type: api.AzureLocation, Path: "box", SecretConfig: "keys"},
			snapshot.Location{Type: snapshot.Azure, Bucket: "box", AccessKeyID: "acc", SecretAccessKey: "key"},
		},
		"azure in China": {
			nil,
			api.BackupLocationItem{Type: api.AzureLocation, Path: "box/deep", AzureConfig: &api.AzureConfig{
				StorageAccountName: "acc", StorageAccountKey: "key", Environment: "AzureChinaCloud", SubscriptionID: "not needed",
			}},
			snapshot.Location{
				Type: snapshot.Azure, Endpoint: "blob.core.chinacloudapi.cn", Bucket: "box", Prefix: "deep/", AccessKeyID: "acc", SecretAccessKey: "key",
			},
		},
		"google": {
			map[string]string{"accessKeyID": "id", "secretAccessKey": "key"},
			api.BackupLocationItem{Type: api.GoogleLocation, Path: "box", SecretConfig: "keys", GoogleConfig: &api.GoogleConfig{ProjectID: "not needed"}},
			snapshot.Location{Type: snapshot.GCS, Bucket: "box", AccessKeyID: "id", SecretAccessKey: "key"},
		},
		"azure by an application": {
			map[string]string{"storageAccountName": "acc", "tenantID": "dir", "clientID": "app", "clientSecret": "word\n"},
			api.BackupLocationItem{Type: api.AzureLocation, Path: "box", SecretConfig: "keys"},
			snapshot.Location{Type: snapshot.Azure, Bucket: "box", AccessKeyID: "acc", Application: snapshot.Application{TenantID: "dir", ClientID: "app", ClientSecret: "word"}},
		},
		"azure, stork names an application beside the key": {
			map[string]string{"storageAccountName": "acc", "storageAccountKey": "key", "clientSecret": ""},
			api.BackupLocationItem{Type: api.AzureLocation, Path: "box", SecretConfig: "keys", AzureConfig: &api.AzureConfig{TenantID: "dir", ClientID: "app"}},
			snapshot.Location{Type: snapshot.Azure, Bucket: "box", AccessKeyID: "acc", SecretAccessKey: "key"},
		},
		"google by a service account": {
			map[string]string{"accountKey": "{}\n"},
			api.BackupLocationItem{Type: api.GoogleLocation, Path: "box/deep", SecretConfig: "keys"},
			snapshot.Location{Type: snapshot.GCS, Bucket: "box", Prefix: "deep/", ServiceAccount: "{}"},
		},
		"nfs": {
			map[string]string{"serverAddr": "nas", "subPath": "team"},
			api.BackupLocationItem{Type: api.NFSLocation, Path: "/exports/godwit/", SecretConfig: "keys"},
			snapshot.Location{Type: snapshot.Filesystem, Path: "/nfs/nas/exports/godwit/team"},
		},
		"nfs, out of the mount": {
			nil,
			api.BackupLocationItem{Type: api.NFSLocation, Path: "/exports/godwit", NFSConfig: &api.NFSConfig{ServerAddr: "nas", SubPath: "../../../etc"}},
			snapshot.Location{Type: snapshot.Filesystem, Path: "/nfs/nas/exports/godwit/etc"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := locator(t, c.keys).Resolve(t.Context(), at(c.item))
			if err != nil {
				t.Fatal(err)
			}
			if string(got.CABundle) != "" {
				t.Errorf("CA bundle %q", got.CABundle)
			}
			got.CABundle = nil
			if want := c.want; !same(got, want) {
				t.Errorf("got  %v\nwant %v", got.Data(), want.Data())
			}
		})
	}
}

func same(a, b snapshot.Location) bool {
	x, y := a.Data(), b.Data()
	if len(x) != len(y) {
		return false
	}
	for k, v := range x {
		if string(y[k]) != string(v) {
			return false
		}
	}
	return true
}

func TestResolveRefusesByName(t *testing.T) {
	for want, item := range map[string]api.BackupLocationItem{
		"s3Config.useIam": {Type: api.S3Location, Path: "b", S3Config: &api.S3Config{UseIam: true}},
		"no endpoint":     {Type: api.S3Location, Path: "b"},
		"a storageAccountKey and a clientSecret": {Type: api.AzureLocation, Path: "b", AzureConfig: &api.AzureConfig{
			StorageAccountName: "acc", StorageAccountKey: "hidden", ClientSecret: "hidden",
		}},
		"no tenantID": {Type: api.AzureLocation, Path: "b", AzureConfig: &api.AzureConfig{StorageAccountName: "acc", ClientID: "app", ClientSecret: "hidden"}},
		`in environment "AzureChinaCloud"`: {Type: api.AzureLocation, Path: "b", AzureConfig: &api.AzureConfig{
			StorageAccountName: "acc", TenantID: "dir", ClientID: "app", ClientSecret: "hidden", Environment: "AzureChinaCloud",
		}},
		"no storageAccountKey":              {Type: api.AzureLocation, Path: "b", AzureConfig: &api.AzureConfig{StorageAccountName: "acc"}},
		`environment "Mars"`:                {Type: api.AzureLocation, Path: "b", AzureConfig: &api.AzureConfig{StorageAccountName: "a", StorageAccountKey: "hidden", Environment: "Mars"}},
		"an accountKey and HMAC keys":       {Type: api.GoogleLocation, Path: "b", GoogleConfig: &api.GoogleConfig{AccountKey: "hidden", AccessKeyID: "id"}},
		"no accountKey":                     {Type: api.GoogleLocation, Path: "b"},
		"no secretAccessKey":                {Type: api.GoogleLocation, Path: "b", GoogleConfig: &api.GoogleConfig{AccessKeyID: "id"}},
		"chart's value nfs":                 {Type: api.NFSLocation, Path: "/exports/other", NFSConfig: &api.NFSConfig{ServerAddr: "nas"}},
		"nfsConfig.mountOptions":            {Type: api.NFSLocation, Path: "/exports/godwit", NFSConfig: &api.NFSConfig{ServerAddr: "nas", MountOptions: "soft"}},
		"no serverAddr":                     {Type: api.NFSLocation, Path: "/exports/godwit"},
		"its Secret nothere does not exist": {Type: api.S3Location, Path: "b", SecretConfig: "nothere"},
		`type "swift" is not served`:        {Type: "swift", Path: "b"},
	} {
		_, err := locator(t, nil).Resolve(t.Context(), at(item))
		if !errors.Is(err, repository.ErrConfiguration) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v\nwant: %s", err, want)
		}
	}
}

// TestNodeRole serves the nodes' role only where that is allowed, and says of both
// keys and role that they are one too many.
func TestNodeRole(t *testing.T) {
	l := locator(t, nil)
	item := api.BackupLocationItem{Type: api.S3Location, Path: "b", S3Config: &api.S3Config{Endpoint: "s3.example.com", UseIam: true}}
	if _, err := l.Resolve(t.Context(), at(item)); !errors.Is(err, repository.ErrConfiguration) || !strings.Contains(err.Error(), "--node-role") {
		t.Errorf("not allowed: %v", err)
	}
	l.NodeRole = true
	got, err := l.Resolve(t.Context(), at(item))
	if err != nil || !got.Role || got.AccessKeyID != "" {
		t.Errorf("%v, %v", got.Data(), err)
	}
	again, err := snapshot.LocationFromData(func() map[string][]byte { got.Password = "p"; return got.Data() }())
	if err != nil || !again.Role {
		t.Errorf("the nodes are not told: %v, %v", again.Data(), err)
	}
	item.S3Config.AccessKeyID = "id"
	if _, err := l.Resolve(t.Context(), at(item)); err == nil || !strings.Contains(err.Error(), "leave one out") {
		t.Errorf("role and keys: %v", err)
	}
}

// TestPairsOfOneFolder are kept apart as those of one bucket are.
func TestPairsOfOneFolder(t *testing.T) {
	l := at(api.BackupLocationItem{Type: api.NFSLocation, Path: "/exports/godwit", NFSConfig: &api.NFSConfig{ServerAddr: "nas"}})
	for prefix, want := range map[string]string{
		"godwit/one/":  "/nfs/nas/exports/godwit/godwit/one",
		"../../../etc": "/nfs/nas/exports/godwit/etc",
	} {
		got, err := locator(t, nil, &l).ForPeer(t.Context(), pairing.Peer{PairID: "one", RepositoryPrefix: prefix, RepositoryPassword: "p"}, "cms/store")
		if err != nil || got.Path != want || got.Prefix != "" {
			t.Errorf("%s: %s %q, %v; want %s", prefix, got.Path, got.Prefix, err, want)
		}
	}
}

func TestParseMount(t *testing.T) {
	for _, text := range []string{"", "nas", "nas:/a", "nas:/a=b", ":/a=/b", "nas=/b"} {
		if m, err := repository.ParseMount(text); err == nil {
			t.Errorf("%q: %+v", text, m)
		}
	}
	m, err := repository.ParseMount("fd00::1:/a/=/b")
	if err != nil || m != (repository.Mount{Server: "fd00::1", Path: "/a", Folder: "/b"}) {
		t.Errorf("%+v, %v", m, err)
	}
}

package sdk_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	sdkapi "github.com/libopenstorage/openstorage/api"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/repository"
	"github.com/godwit-io/godwit/daemon/sdk"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/openstorage"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/snapshot"
)

const home = "godwit-system"

// cluster is a backend whose Join stores a pair with cluster remote-id.
func cluster(t *testing.T, objects ...client.Object) (*sdk.Backend, *pairingtest.Grants) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	authority, err := pairing.NewAuthority("own-id", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	peers, grants := &pairingtest.Peers{}, &pairingtest.Grants{}
	return &sdk.Backend{
		Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(), Peers: peers, Grants: grants,
		Ring: pairing.NewRing(authority), Namespace: home, ClusterName: "own", Endpoint: "10.0.0.1:9310", Now: time.Now, Random: rand.Reader,
		Join: func(ctx context.Context, token pairing.Token, p pairing.ClusterPair) (pairing.Peer, error) {
			return peers.Put(ctx, pairing.Peer{
				PairID: token.ID, Direction: pairing.Outgoing, ClusterID: "remote-id", ClusterName: "remote", Endpoint: token.Endpoint,
				Namespace: p.Namespace, Name: p.Name, Scope: pairing.Scope{Admin: true}, Certificate: []byte{1},
			})
		},
	}, grants
}

// token is one that another cluster made.
func token(t *testing.T) pairing.Secret {
	t.Helper()
	made, err := pairing.Mint(t.Context(), &pairingtest.Grants{}, pairing.MintRequest{
		Scope: pairing.Scope{Admin: true}, Endpoint: "10.0.0.2:9310", ClusterID: "remote-id", CAFingerprint: pairing.Fingerprint{1},
	}, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	line, err := made.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return pairing.Secret(line)
}

func claim(namespace string, groups ...string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "data", Labels: map[string]string{}}}
	for _, g := range groups {
		c.Labels["godwit.io/volume-group"] = g
	}
	return c
}

// volume is bound to the namespace's claim; to none where that is empty.
func volume(name, handle, namespace string) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	v.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: handle}
	if namespace != "" {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: namespace, Name: "data"}
	}
	return v
}

func TestPairsAndTasks(t *testing.T) {
	foreign := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "west"}}
	b, _ := cluster(t, claim("cms"), claim("shop"), claim("kube-system"), claim(home), foreign)
	pairs, tasks := sdk.Pairs{Backend: b}, sdk.Tasks{Backend: b}
	if _, err := tasks.Start(t.Context(), openstorage.Operation{ClusterID: "remote-id", TaskID: "t"}); !errors.Is(err, openstorage.ErrNotFound) {
		t.Errorf("start without a pair: %v", err)
	}
	if _, err := pairs.Create(t.Context(), openstorage.PairRequest{Endpoint: "10.0.0.9:1", Token: "nonsense"}); !errors.Is(err, pairing.ErrTokenMalformed) {
		t.Errorf("create from nonsense: %v", err)
	}
	if _, err := pairs.Create(t.Context(), openstorage.PairRequest{Endpoint: "10.0.0.9:0", Token: token(t)}); !errors.Is(err, openstorage.ErrRequest) {
		t.Errorf("create without a port: %v", err)
	}
	for range 2 {
		made, err := pairs.Create(t.Context(), openstorage.PairRequest{Endpoint: "10.0.0.9:9310", Token: token(t), Mode: "DisasterRecovery", Default: true})
		if err != nil || made.ID != "remote-id" || made.Endpoint != "10.0.0.9:9310" {
			t.Fatalf("%+v, %v", made, err)
		}
	}
	all, err := pairs.List(t.Context())
	defaults := 0
	for _, p := range all {
		if p.Default {
			defaults++
		}
		for key, value := range p.Options {
			if strings.HasPrefix(value, "godwit1.") {
				t.Errorf("option %s shows a token", key)
			}
		}
	}
	if err != nil || len(all) != 2 || defaults != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	startAndCancel(t, b, tasks)
	if err := pairs.Delete(t.Context(), "remote-id"); err != nil {
		t.Error(err)
	}
	if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign); err != nil {
		t.Errorf("the ClusterPair of somebody else: %v", err)
	}
	if err := pairs.Delete(t.Context(), "other-id"); !errors.Is(err, openstorage.ErrNotFound) {
		t.Errorf("delete another: %v", err)
	}
}

func startAndCancel(t *testing.T, b *sdk.Backend, tasks sdk.Tasks) {
	t.Helper()
	id, err := tasks.Start(t.Context(), openstorage.Operation{ClusterID: "remote-id", TaskID: "t1"})
	if err != nil || id != "t1" {
		t.Fatalf("%s, %v", id, err)
	}
	if _, err := tasks.Start(t.Context(), openstorage.Operation{ClusterID: "remote-id", TaskID: "t1"}); !errors.Is(err, openstorage.ErrExists) {
		t.Errorf("start again: %v", err)
	}
	var list api.MigrationList
	if err := b.Client.List(t.Context(), &list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d Migrations, %v", len(list.Items), err)
	}
	m := list.Items[0]
	if got := strings.Join(m.Spec.Namespaces, ","); got != "cms,shop" || *m.Spec.IncludeResources || *m.Spec.StartApplications {
		t.Errorf("it moves %s: %+v", got, m.Spec)
	}
	m.Status.Status = api.MigrationStatusInProgress
	m.Status.Volumes = []api.MigrationVolumeInfo{{Namespace: "cms", PersistentVolumeClaim: "data", Volume: "pv-1", Status: api.MigrationStatusInProgress, Step: "Restore", BytesTotal: 10, BytesDone: 4}}
	if err := b.Client.Update(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	told, err := tasks.List(t.Context(), "t1")
	if err != nil || len(told) != 1 || told[0].VolumeID != "pv-1" || told[0].Stage != sdkapi.CloudMigrate_Restore || told[0].BytesDone != 4 {
		t.Errorf("%+v, %v", told, err)
	}
	for range 2 {
		if err := tasks.Cancel(t.Context(), "t1"); err != nil {
			t.Error(err)
		}
	}
	if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(&m), &m); err != nil || m.Spec.Cancel == nil || !*m.Spec.Cancel {
		t.Errorf("it is not cancelled: %+v, %v", m.Spec, err)
	}
	m.Status.Stage, m.Status.Status = api.MigrationStageFinal, api.MigrationStatusCancelled
	if err := b.Client.Update(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	if told, err = tasks.List(t.Context(), "t1"); err != nil || len(told) != 1 || told[0].Status != sdkapi.CloudMigrate_Canceled {
		t.Errorf("cancelled: %+v, %v", told, err)
	}
	if _, err := tasks.Start(t.Context(), openstorage.Operation{ClusterID: "remote-id", TaskID: "t1"}); !errors.Is(err, openstorage.ErrExists) {
		t.Errorf("start what was cancelled: %v", err)
	}
	if err := tasks.Cancel(t.Context(), "t9"); !errors.Is(err, openstorage.ErrNotFound) {
		t.Errorf("cancel another: %v", err)
	}
}

// paired has a pair with remote-id, of a scope.
func paired(t *testing.T, scope pairing.Scope, objects ...client.Object) *sdk.Backend {
	t.Helper()
	pair := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "west"}}
	b, _ := cluster(t, append(objects, pair)...)
	_, err := b.Peers.Put(t.Context(), pairing.Peer{
		PairID: "p", Direction: pairing.Outgoing, ClusterID: "remote-id", Namespace: home, Name: "west", Scope: scope, Certificate: []byte{1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTaskOfAVolume(t *testing.T) {
	b := paired(t, pairing.Scope{Namespaces: []string{"cms"}}, volume("pvc-1", "handle/1", "cms"), volume("pvc-2", "2", "shop"), volume("pvc-3", "2", ""), volume("pvc-4", "4", home))
	tasks := sdk.Tasks{Backend: b}
	start := func(volume, task string) error {
		_, err := tasks.Start(t.Context(), openstorage.Operation{ClusterID: "remote-id", VolumeID: volume, TaskID: task})
		return err
	}
	for volume, want := range map[string]error{
		"pvc-9": openstorage.ErrNotFound, "pvc-2": openstorage.ErrRequest, "pvc-3": openstorage.ErrRequest, "pvc-4": openstorage.ErrRequest, "2": openstorage.ErrRequest,
	} {
		if err := start(volume, "bad"); !errors.Is(err, want) {
			t.Errorf("start of volume %s: %v, want %v", volume, err, want)
		}
	}
	if err := errors.Join(start("pvc-1", "by-name"), start("handle/1", "by-handle")); err != nil {
		t.Fatal(err)
	}
	// A task may have moved its volume away: it was started all the same.
	if err := b.Client.Delete(t.Context(), volume("pvc-1", "", "")); err != nil {
		t.Fatal(err)
	}
	if err := start("pvc-1", "by-name"); !errors.Is(err, openstorage.ErrExists) {
		t.Errorf("start again: %v", err)
	}
	var list api.MigrationList
	if err := b.Client.List(t.Context(), &list); err != nil || len(list.Items) != 2 {
		t.Fatalf("%d Migrations, %v", len(list.Items), err)
	}
	for _, m := range list.Items {
		rules := m.Spec.Volumes
		if len(rules) != 2 || rules[0].Name != "cms/data" || rules[0].Action != api.VolumeCopy || rules[1].Name != "*" || rules[1].Action != api.VolumeSkip ||
			!slices.Equal(m.Spec.Namespaces, []string{"cms"}) || m.Spec.Application != list.Items[0].Spec.Application || m.Spec.Application == "" {
			t.Errorf("it moves %+v", m.Spec)
		}
	}
	told, err := tasks.List(t.Context(), "by-handle")
	if err != nil || len(told) != 1 || told[0].VolumeID != "pvc-1" || told[0].ClusterID != "remote-id" {
		t.Errorf("%+v, %v", told, err)
	}
}

func TestTaskOfAGroup(t *testing.T) {
	b := paired(t, pairing.Scope{Namespaces: []string{"cms", "shop"}},
		claim("cms", "books"), claim("shop", "books"), claim("bank", "split"), claim("kube-system", "system"), claim("blog"))
	tasks := sdk.Tasks{Backend: b}
	start := func(group string) error {
		_, err := tasks.Start(t.Context(), openstorage.Operation{ClusterID: "remote-id", GroupID: group, TaskID: group})
		return err
	}
	for group, want := range map[string]error{
		"nobody": openstorage.ErrNotFound, "split": openstorage.ErrRequest, "system": openstorage.ErrRequest, "a=b": openstorage.ErrRequest,
	} {
		if err := start(group); !errors.Is(err, want) {
			t.Errorf("start of group %s: %v, want %v", group, err, want)
		}
	}
	if err := start("books"); err != nil {
		t.Fatal(err)
	}
	if err := start("books"); !errors.Is(err, openstorage.ErrExists) {
		t.Errorf("start again: %v", err)
	}
	var list api.MigrationList
	if err := b.Client.List(t.Context(), &list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%d Migrations, %v", len(list.Items), err)
	}
	spec := list.Items[0].Spec
	if !slices.Equal(spec.Namespaces, []string{"cms", "shop"}) || len(spec.Volumes) != 2 || spec.Volumes[0].Labels["godwit.io/volume-group"] != "books" || spec.Volumes[1].Name != "*" {
		t.Errorf("it moves %+v", spec)
	}
}

func TestNodes(t *testing.T) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelHostname: "h1"}}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.7"}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	b, _ := cluster(t, n, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}})
	b.NodeName = "n2"
	all, err := sdk.Nodes{Backend: b}.List(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != "n1" || all[0].Hostname != "h1" || all[0].Address != "10.0.0.7" || !all[0].Ready || all[1].Ready || (sdk.Nodes{Backend: b}).Current() != "n2" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestCredentials(t *testing.T) {
	owned := &api.BackupLocation{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "owned"}, Location: api.BackupLocationItem{Type: api.S3Location, Path: "b"}}
	b, _ := cluster(t, owned)
	c := sdk.Credentials{Backend: b}
	mine := openstorage.Credential{Name: "My S3", Store: openstorage.S3, Bucket: "b", Endpoint: "e", Region: "r", AccessKey: "a", SecretKey: "s", StorageClass: "STANDARD_IA"}
	id, err := c.Create(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), mine); !errors.Is(err, openstorage.ErrExists) {
		t.Errorf("create again: %v", err)
	}
	all, err := c.List(t.Context())
	if err != nil || len(all) != 1 || all[0].ID != id || all[0].Name != "My S3" || all[0].AccessKey != "a" || all[0].SecretKey != "" || all[0].StorageClass != "STANDARD_IA" {
		t.Errorf("%+v, %v", all, err)
	}
	none, err := c.Create(t.Context(), openstorage.Credential{Name: "none", Store: openstorage.S3, Endpoint: "e", AccessKey: "a", SecretKey: "s"})
	if err != nil {
		t.Errorf("without a bucket: %v", err)
	}
	all, err = c.List(t.Context())
	at := slices.IndexFunc(all, func(c openstorage.Credential) bool { return c.ID == none })
	if err != nil || at < 0 || all[at].Bucket != "own-id" {
		t.Errorf("without a bucket: %+v, %v, want the cluster's id", all, err)
	}
	if err := c.Delete(t.Context(), none); err != nil {
		t.Error(err)
	}
	theirs := openstorage.Credential{ID: "k8s/" + home + "/owned", Store: openstorage.S3, Name: "x", Bucket: "evil", Endpoint: "e", AccessKey: "a", SecretKey: "s"}
	if err := c.Update(t.Context(), theirs); !errors.Is(err, openstorage.ErrNotFound) {
		t.Errorf("update of somebody's own: %v", err)
	}
	if err := c.Delete(t.Context(), theirs.ID); !errors.Is(err, openstorage.ErrRequest) {
		t.Errorf("delete of somebody's own: %v", err)
	}
	for _, id := range []string{"k8s/cms/s3", "s3", "k8s/" + home + "/../x"} {
		if err := c.Update(t.Context(), openstorage.Credential{ID: id, Bucket: "b"}); !errors.Is(err, openstorage.ErrNotFound) {
			t.Errorf("update of %s: %v", id, err)
		}
	}
	changed := openstorage.Credential{ID: id, Name: "My S3", Store: openstorage.S3, SecretKey: "s2", DisableSSL: true}
	if err := c.Update(t.Context(), changed); err != nil {
		t.Error(err)
	}
	if all, err = c.List(t.Context()); err != nil || len(all) != 1 || all[0].Endpoint != "e" || all[0].Bucket != "b" || all[0].AccessKey != "a" || !all[0].DisableSSL {
		t.Errorf("after the update: %+v, %v", all, err)
	}
	if err := c.Update(t.Context(), openstorage.Credential{ID: id, Name: "My S3", Store: openstorage.Azure}); !errors.Is(err, openstorage.ErrRequest) {
		t.Errorf("update to another store: %v", err)
	}
	if err := c.Delete(t.Context(), id); err != nil {
		t.Error(err)
	}
	var secrets corev1.SecretList
	if err := b.Client.List(t.Context(), &secrets); err != nil || len(secrets.Items) != 0 {
		t.Errorf("%d Secrets are left, %v", len(secrets.Items), err)
	}
}

func TestTokens(t *testing.T) {
	b, grants := cluster(t)
	pairs := sdk.Pairs{Backend: b}
	id, err := sdk.Credentials{Backend: b}.Create(t.Context(), openstorage.Credential{Name: "clusterPair_own-id", Store: openstorage.S3, Bucket: "b"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := pairs.Token(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pairs.Token(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	spent, err := pairing.ParseToken(first.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	line, err := pairs.Token(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	good, err := pairing.ParseToken(line.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if grant, err := grants.Get(t.Context(), good.ID); err != nil || "k8s/"+grant.BackupLocation != id {
		t.Errorf("a pair of the token goes by BackupLocation %q (%v), and the credential is %s", grant.BackupLocation, err, id)
	}
	if _, err := grants.Get(t.Context(), spent.ID); !errors.Is(err, pairing.ErrNotFound) {
		t.Errorf("the first token is not void: %v", err)
	}
}

// TestCredentialsOfOtherStores holds that a BackupLocation of Azure's or Google's
// kind finds in the Secret what it looks for, and that no keys come out again.
func TestCredentialsOfOtherStores(t *testing.T) {
	b, _ := cluster(t)
	c := sdk.Credentials{Backend: b}
	for name, tt := range map[string]struct {
		is   openstorage.Credential
		want snapshot.Location
	}{
		"azure": {
			is:   openstorage.Credential{Store: openstorage.Azure, Bucket: "box", AccessKey: "account", SecretKey: "a2V5"},
			want: snapshot.Location{Type: snapshot.Azure, Bucket: "box", AccessKeyID: "account", SecretAccessKey: "a2V5"},
		},
		"google": {
			is:   openstorage.Credential{Store: openstorage.Google, Bucket: "box", Project: "p", SecretKey: `{"accessKeyID": "GOOG1", "secretAccessKey": "s"}`},
			want: snapshot.Location{Type: snapshot.GCS, Bucket: "box", AccessKeyID: "GOOG1", SecretAccessKey: "s"},
		},
		"google by a service account's key": {
			is:   openstorage.Credential{Store: openstorage.Google, Bucket: "box", Project: "p", SecretKey: `{"type": "service_account", "private_key": "k"}`},
			want: snapshot.Location{Type: snapshot.GCS, Bucket: "box", ServiceAccount: `{"type": "service_account", "private_key": "k"}`},
		},
	} {
		tt.is.Name = name
		id, err := c.Create(t.Context(), tt.is)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		all, err := c.List(t.Context())
		at := slices.IndexFunc(all, func(c openstorage.Credential) bool { return c.ID == id })
		if err != nil || at < 0 || all[at].Store != tt.is.Store || all[at].Project != tt.is.Project || all[at].SecretKey != "" {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
		object := client.ObjectKey{Namespace: home, Name: strings.TrimPrefix(id, "k8s/"+home+"/")}
		got, err := (repository.Locator{Reader: b.Client, Namespace: home}).Location(t.Context(), object)
		if err != nil || got.Type != tt.want.Type || got.Bucket != tt.want.Bucket || got.AccessKeyID != tt.want.AccessKeyID || got.SecretAccessKey != tt.want.SecretAccessKey || got.ServiceAccount != tt.want.ServiceAccount {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tt.want)
		}
		if err := c.Delete(t.Context(), id); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Create(t.Context(), openstorage.Credential{Name: "x", Store: openstorage.Google, Project: "p", SecretKey: "no JSON"}); !errors.Is(err, openstorage.ErrRequest) {
		t.Errorf("a key that is no JSON: %v", err)
	}
}

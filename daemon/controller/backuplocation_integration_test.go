package controller_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
	located "github.com/godwit-io/godwit/daemon/repository"
	"github.com/godwit-io/godwit/snapshot/kopiastore"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// stores is a namespace with BackupLocations, and a real object store.
type stores struct {
	t          *testing.T
	client     client.Client
	ns         string
	gateway    *snapshottest.ObjectStore
	owner      *minio.Client
	reconciler controller.BackupLocations
	told       *events.FakeRecorder
}

func newStores(t *testing.T) *stores {
	t.Helper()
	s := &stores{t: t, gateway: snapshottest.StartGuardedObjectStore(t), told: events.NewFakeRecorder(100)}
	s.client, s.ns = connect(t)
	s.reconciler = controller.BackupLocations{
		Client: s.client, Locator: located.Locator{Reader: s.client, Namespace: home}, Opener: kopiastore.New(), Events: s.told, Now: time.Now,
	}
	here := s.gateway.Location(t, "unused")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.gateway.CA)
	owner, err := minio.New(s.gateway.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(here.AccessKeyID, here.SecretAccessKey.Reveal(), ""), Secure: true, Region: here.Region,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	})
	s.owner = owner
	s.must(err)
	return s
}

func (s *stores) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// location makes a BackupLocation of a bucket, with keys of its own in a Secret.
func (s *stores) location(bucket, id, key string, change func(*api.S3Config)) *api.BackupLocation {
	s.t.Helper()
	s.must(s.client.Create(s.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: bucket + "-keys"}, StringData: map[string]string{"accessKeyID": id, "secretAccessKey": key},
	}))
	b := &api.BackupLocation{ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: bucket}, Location: api.BackupLocationItem{
		Type: api.S3Location, Path: bucket, SecretConfig: bucket + "-keys",
		S3Config: &api.S3Config{Endpoint: s.gateway.Endpoint, Region: "us-east-1", CABundle: string(s.gateway.CA)},
	}}
	if change != nil {
		change(b.Location.S3Config)
	}
	s.must(s.client.Create(s.t.Context(), b))
	return b
}

// probed reconciles once and gives what the status says.
func (s *stores) probed(b *api.BackupLocation) *api.BackupLocation {
	s.t.Helper()
	_, err := s.reconciler.Reconcile(s.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(b)})
	s.must(err)
	var now api.BackupLocation
	s.must(s.client.Get(s.t.Context(), client.ObjectKeyFromObject(b), &now))
	if now.Status.LastChecked == nil || now.Status.ObservedGeneration != now.Generation {
		s.t.Errorf("status %+v", now.Status)
	}
	return &now
}

// says wants a condition, with words in its message.
func (s *stores) says(b *api.BackupLocation, kind string, status metav1.ConditionStatus, reason, words string) {
	s.t.Helper()
	c := meta.FindStatusCondition(b.Status.Conditions, kind)
	if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, words) {
		s.t.Errorf("condition %s is %+v, want %s %s with %q", kind, c, status, reason, words)
	}
}

// events drains what was told.
func (s *stores) events() string {
	var all []string
	for {
		select {
		case e := <-s.told.Events:
			all = append(all, e)
		default:
			return strings.Join(all, "\n")
		}
	}
}

// user may do to the bucket what the actions say.
func (s *stores) user(name, secret, bucket string, actions ...string) {
	s.t.Helper()
	s.gateway.Admin(s.t, "create-user", "--access", name, "--secret", secret, "--role", "user")
	policy := fmt.Sprintf(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": [%q]}, "Action": ["%s"], "Resource": ["arn:aws:s3:::%s", "arn:aws:s3:::%s/*"]}]}`,
		name, strings.Join(actions, `", "`), bucket, bucket)
	s.must(s.owner.SetBucketPolicy(s.t.Context(), bucket, policy))
}

// TestStoreThatGoesAway follows a bucket that is removed and made again, and a store
// whose keys are taken back: the status says so when it is looked at again, and is
// good again by itself.
func TestStoreThatGoesAway(t *testing.T) {
	t.Parallel()
	s := newStores(t)
	s.must(s.owner.MakeBucket(t.Context(), "going", minio.MakeBucketOptions{}))
	s.user("keeper", "keepersecret123", "going", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket")
	b := s.location("going", "keeper", "keepersecret123", nil)
	s.says(s.probed(b), api.ConditionReady, metav1.ConditionTrue, "Reachable", "written to and read from")

	aside := filepath.Join(t.TempDir(), "going")
	bucket := filepath.Join(s.gateway.Root, "going")
	s.must(os.Rename(bucket, aside))
	s.says(s.probed(b), api.ConditionReady, metav1.ConditionFalse, "ProbeFailed", `bucket "going" does not exist`)
	if told := s.events(); !strings.Contains(told, "Warning ProbeFailed") {
		t.Errorf("told %q", told)
	}
	// The same again is not told again.
	s.says(s.probed(b), api.ConditionReady, metav1.ConditionFalse, "ProbeFailed", "create it")
	if told := s.events(); told != "" {
		t.Errorf("told again: %q", told)
	}
	s.must(os.Rename(aside, bucket))
	s.says(s.probed(b), api.ConditionReady, metav1.ConditionTrue, "Reachable", "")

	s.gateway.Admin(t, "delete-user", "--access", "keeper")
	s.says(s.probed(b), api.ConditionReady, metav1.ConditionFalse, "ProbeFailed", "the keys were refused by "+s.gateway.Endpoint)
	s.must(s.client.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: "going-keys"}}))
	withdrawn := s.probed(b)
	s.says(withdrawn, api.ConditionReady, metav1.ConditionFalse, "ProbeFailed", "its Secret going-keys does not exist")
	for _, c := range withdrawn.Status.Conditions {
		if strings.Contains(c.Message, "keepersecret123") {
			t.Errorf("condition %s has the key", c.Type)
		}
	}
}

// TestStoreGuards notes what guards a bucket has, and what changes of them.
func TestStoreGuards(t *testing.T) {
	t.Parallel()
	s := newStores(t)
	root := s.gateway.Location(t, "plain")
	id, key := root.AccessKeyID, root.SecretAccessKey.Reveal()
	plain := s.probed(s.location("plain", id, key, nil))
	s.says(plain, api.ConditionVersioning, metav1.ConditionFalse, "Off", "it is off")
	s.says(plain, api.ConditionObjectLock, metav1.ConditionFalse, "Off", "it is off")

	s.must(s.owner.EnableVersioning(t.Context(), "plain"))
	s.says(s.probed(plain), api.ConditionVersioning, metav1.ConditionTrue, "On", "is kept")

	s.must(s.owner.MakeBucket(t.Context(), "locked", minio.MakeBucketOptions{ObjectLocking: true}))
	locked := s.probed(s.location("locked", id, key, nil))
	s.says(locked, api.ConditionReady, metav1.ConditionTrue, "Reachable", "")
	s.says(locked, api.ConditionObjectLock, metav1.ConditionTrue, "On", "can be locked")
	// A store that does not answer keeps what it told last.
	s.must(os.Rename(filepath.Join(s.gateway.Root, "locked"), filepath.Join(t.TempDir(), "locked")))
	gone := s.probed(locked)
	s.says(gone, api.ConditionReady, metav1.ConditionFalse, "ProbeFailed", "does not exist")
	s.says(gone, api.ConditionObjectLock, metav1.ConditionTrue, "On", "can be locked")

	// Keys that may not ask are told apart from a bucket that has none.
	s.must(s.owner.MakeBucket(t.Context(), "mute", minio.MakeBucketOptions{}))
	s.user("blind", "blindsecret123", "mute", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket")
	mute := s.probed(s.location("mute", "blind", "blindsecret123", nil))
	s.says(mute, api.ConditionReady, metav1.ConditionTrue, "Reachable", "")
	s.says(mute, api.ConditionVersioning, metav1.ConditionUnknown, "NotTold", "does not tell")
	s.says(mute, api.ConditionObjectLock, metav1.ConditionUnknown, "NotTold", "does not tell")
}

// TestStoreReadOnly takes keys that may only read as enough for the target of a pair.
func TestStoreReadOnly(t *testing.T) {
	t.Parallel()
	s := newStores(t)
	s.must(s.owner.MakeBucket(t.Context(), "readable", minio.MakeBucketOptions{}))
	s.user("reader", "readersecret123", "readable", "s3:GetObject", "s3:ListBucket")
	b := s.location("readable", "reader", "readersecret123", nil)
	s.says(s.probed(b), api.ConditionReady, metav1.ConditionTrue, "ReadOnly", "enough for the target of a pair, not for the source")
	left, err := os.ReadDir(filepath.Join(s.gateway.Root, "readable"))
	if err != nil || len(left) > 0 {
		t.Errorf("the probe left %v: %v", left, err)
	}
}

// TestStoreNotVerified warns as long as a certificate is not checked, and no longer.
func TestStoreNotVerified(t *testing.T) {
	t.Parallel()
	s := newStores(t)
	root := s.gateway.Location(t, "trusting")
	b := s.location("trusting", root.AccessKeyID, root.SecretAccessKey.Reveal(), func(c *api.S3Config) { c.CABundle, c.InsecureSkipVerify = "", true })
	now := s.probed(b)
	s.says(now, api.ConditionReady, metav1.ConditionTrue, "Reachable", "")
	s.says(now, api.ConditionInsecure, metav1.ConditionTrue, "CertificateNotChecked", "give caBundle instead")
	if told := s.events(); !strings.Contains(told, "Warning CertificateNotChecked") {
		t.Errorf("told %q", told)
	}
	// It stands, and is told once for what its owner wrote.
	now = s.probed(now)
	s.says(now, api.ConditionInsecure, metav1.ConditionTrue, "CertificateNotChecked", "")
	if told := s.events(); told != "" {
		t.Errorf("told again: %q", told)
	}
	now.Location.Path = "nothere"
	s.must(s.client.Update(t.Context(), now))
	now = s.probed(now)
	s.says(now, api.ConditionReady, metav1.ConditionFalse, "ProbeFailed", "does not exist")
	s.says(now, api.ConditionInsecure, metav1.ConditionTrue, "CertificateNotChecked", "")
	now.Location.Path, now.Location.S3Config.CABundle, now.Location.S3Config.InsecureSkipVerify = "trusting", string(s.gateway.CA), false
	s.must(s.client.Update(t.Context(), now))
	now = s.probed(now)
	s.says(now, api.ConditionReady, metav1.ConditionTrue, "Reachable", "")
	if c := meta.FindStatusCondition(now.Status.Conditions, api.ConditionInsecure); c != nil {
		t.Errorf("it still warns: %+v", c)
	}
}

package controller_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/snapshot"
)

const godwitNamespace = "godwit-system"

// keysOnly is a Locator of which only the forgetting matters.
type keysOnly struct{ forgotten []string }

func (*keysOnly) Location(context.Context, types.NamespacedName) (snapshot.Location, error) {
	return snapshot.Location{}, errors.New("no location is asked for here")
}

func (*keysOnly) ForPeer(context.Context, pairing.Peer, string) (snapshot.Location, error) {
	return snapshot.Location{}, errors.New("no repository is asked for here")
}

func (*keysOnly) EnsureSecret(context.Context, pairing.Peer, string) (string, error) {
	return "", errors.New("no Secret is asked for here")
}

func (k *keysOnly) DeleteSecret(_ context.Context, pairID string) error {
	k.forgotten = append(k.forgotten, pairID)
	return nil
}

// incoming is the target's side of one pair.
type incoming struct {
	controller.IncomingPairs
	peers  *pairingtest.Peers
	grants *pairingtest.Grants
	keys   *keysOnly
	client client.Client
}

func newIncoming(t *testing.T, peer pairing.Peer, objects ...client.Object) *incoming {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&api.ClusterPair{}).WithObjects(objects...).Build()
	r := &incoming{peers: &pairingtest.Peers{}, grants: &pairingtest.Grants{}, keys: &keysOnly{}, client: c}
	r.IncomingPairs = controller.IncomingPairs{
		Client: c, Peers: r.peers, Grants: r.grants, Locator: r.keys, Events: events.NewFakeRecorder(10), Namespace: godwitNamespace, Now: time.Now,
	}
	if _, err := r.peers.Put(t.Context(), peer); err != nil {
		t.Fatal(err)
	}
	r.reconcile(t)
	return r
}

func fromSource() pairing.Peer {
	return pairing.Peer{
		PairID: "p1", Direction: pairing.Incoming, ClusterID: "source-id", ClusterName: "east", Scope: pairing.Scope{Namespaces: []string{"cms"}},
		Namespace: "cms", Name: "west", BackupLocation: "cms/s3", CertificateExpires: time.Now().Add(time.Hour).Truncate(time.Second),
	}
}

func (r *incoming) key() client.ObjectKey {
	return client.ObjectKey{Namespace: godwitNamespace, Name: "from-p1"}
}

// reconcile goes on until nothing more comes of it.
func (r *incoming) reconcile(t *testing.T) {
	t.Helper()
	for range 3 {
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: r.key()}); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *incoming) shown(t *testing.T) (api.ClusterPair, metav1.Condition) {
	t.Helper()
	var p api.ClusterPair
	if err := r.client.Get(t.Context(), r.key(), &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Status.Conditions) != 1 {
		t.Fatalf("conditions %+v", p.Status.Conditions)
	}
	return p, p.Status.Conditions[0]
}

func TestIncomingPairIsShownAndRevoked(t *testing.T) {
	r := newIncoming(t, fromSource())
	p, ready := r.shown(t)
	if p.Status.RemoteClusterName != "east" || ready.Status != metav1.ConditionTrue || !strings.Contains(ready.Message, "cms") {
		t.Errorf("%+v", p.Status)
	}
	if err := r.client.Delete(t.Context(), &p); err != nil {
		t.Fatal(err)
	}
	r.reconcile(t)
	if _, err := r.peers.Get(t.Context(), pairing.Incoming, "p1"); !errors.Is(err, pairing.ErrNotFound) {
		t.Errorf("the pair stands: %v", err)
	}
	if err := r.client.Get(t.Context(), r.key(), &p); !apierrors.IsNotFound(err) || len(r.keys.forgotten) == 0 {
		t.Errorf("the object: %v; forgotten %q", err, r.keys.forgotten)
	}
}

// statusWrites counts what is written of statuses.
type statusWrites struct {
	client.Client
	count int
}

func (w *statusWrites) Status() client.SubResourceWriter {
	return countedStatus{w.Client.Status(), w}
}

type countedStatus struct {
	client.SubResourceWriter
	writes *statusWrites
}

func (c countedStatus) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
	c.writes.count++
	return c.SubResourceWriter.Patch(ctx, o, p, opts...)
}

func TestIncomingPairIsWrittenWhereItChanged(t *testing.T) {
	r := newIncoming(t, fromSource())
	writes := &statusWrites{Client: r.client}
	r.Client = writes
	r.reconcile(t)
	if writes.count != 0 {
		t.Errorf("the status of a pair that stands as it did was written %d times", writes.count)
	}
	peer, err := r.peers.Get(t.Context(), pairing.Incoming, "p1")
	if err != nil {
		t.Fatal(err)
	}
	peer.Left = time.Now()
	if _, err := r.peers.Put(t.Context(), peer); err != nil {
		t.Fatal(err)
	}
	r.reconcile(t)
	if _, ready := r.shown(t); ready.Reason != "Left" || writes.count != 1 {
		t.Errorf("%d writes, %+v", writes.count, ready)
	}
}

func TestIncomingPairSaysWhatIsWrong(t *testing.T) {
	left, silent := fromSource(), fromSource()
	left.Left = time.Now()
	silent.CertificateExpires = time.Now().Add(-time.Hour)
	for reason, peer := range map[string]pairing.Peer{"Left": left, "CertificateExpired": silent} {
		p, ready := newIncoming(t, peer).shown(t)
		if ready.Reason != reason || p.Status.SchedulerStatus != api.ClusterPairStatusDegraded {
			t.Errorf("want %s: %+v, %s", reason, ready, p.Status.SchedulerStatus)
		}
	}
}

// Only an object in Godwit's own namespace can revoke a pair.
func TestSomebodyElsesObjectRevokesNothing(t *testing.T) {
	r := newIncoming(t, fromSource())
	request := ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "shop", Name: "from-p1"}}
	forged := controller.IncomingPair("shop", "p1")
	forged.Finalizers = []string{api.Finalizer}
	if err := errors.Join(r.client.Create(t.Context(), forged), r.client.Delete(t.Context(), forged)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if _, err := r.peers.Get(t.Context(), pairing.Incoming, "p1"); err != nil {
		t.Errorf("the pair is gone: %v", err)
	}
}

func TestWayBackIsOpenedOnce(t *testing.T) {
	token, err := pairing.Mint(t.Context(), &pairingtest.Grants{}, pairing.MintRequest{
		Scope: pairing.Scope{Namespaces: []string{"cms"}}, Endpoint: "10.0.0.9:9310", ClusterID: "source-id", CAFingerprint: pairing.Fingerprint{1},
	}, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	line, err := token.Encode()
	if err != nil {
		t.Fatal(err)
	}
	peer := fromSource()
	peer.Return, peer.Twin = pairing.Secret(line), token.ID
	r := newIncoming(t, peer, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}})
	var back api.ClusterPair
	if err := r.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "west"}, &back); err != nil {
		t.Fatal(err)
	}
	if o := back.Spec.Options; o[api.OptionToken] != line || o[api.OptionIP] != "10.0.0.9" || o[api.OptionBackupLocation] != "s3" || o[api.OptionBidirectional] != "false" {
		t.Errorf("options %v", o)
	}
	stored, err := r.peers.Get(t.Context(), pairing.Incoming, "p1")
	if err != nil || stored.Return != "" {
		t.Errorf("the token is kept: %v", err)
	}
	if err := r.client.Delete(t.Context(), &back); err != nil {
		t.Fatal(err)
	}
	r.reconcile(t)
	if err := r.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "west"}, &back); !apierrors.IsNotFound(err) {
		t.Errorf("what was deleted came back: %v", err)
	}
}

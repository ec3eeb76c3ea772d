package controller_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
	located "github.com/godwit-io/godwit/daemon/repository"
	"github.com/godwit-io/godwit/daemon/rpc"
	"github.com/godwit-io/godwit/pairing"
	pairingrpc "github.com/godwit-io/godwit/pairing/rpc"
	"github.com/godwit-io/godwit/pairing/secretstore"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/kopiastore"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// twoSides is a source and a target that share an API server, in a namespace each,
// and nothing else but the wire and an object store.
type twoSides struct {
	t              *testing.T
	client         client.Client
	ns             string
	source, target *secretstore.Store
	locator        located.Locator
	opener         *kopiastore.Opener
	ring           *pairing.Ring
	endpoint       string
	pairs          controller.ClusterPairs
	deaths         *deaths
}

func newTwoSides(t *testing.T) *twoSides {
	t.Helper()
	s := &twoSides{t: t, opener: kopiastore.New(), deaths: &deaths{}}
	s.client, s.ns = connect(t)
	home := func(side string) string {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: side + "-"}}
		s.must(s.client.Create(t.Context(), ns))
		return ns.Name
	}
	east, west := home("east"), home("west")
	s.source, s.target = secretstore.New(s.client, east), secretstore.New(s.client, west)
	s.locator = located.Locator{Reader: s.client, Writer: s.client, Namespace: east, Host: "east-id"}
	place := snapshottest.StartObjectStore(t).Location(t, "relay")
	s.must(s.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: "keys"},
		StringData: map[string]string{"accessKeyID": place.AccessKeyID, "secretAccessKey": place.SecretAccessKey.Reveal()},
	}))
	s.must(s.client.Create(t.Context(), &api.BackupLocation{ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: "relay"}, Location: api.BackupLocationItem{
		Type: api.S3Location, Path: place.Bucket, SecretConfig: "keys",
		S3Config: &api.S3Config{Endpoint: place.Endpoint, Region: place.Region, CABundle: string(place.CABundle)},
	}}))
	s.serve()
	peers := dyingPeers{s.source.Peers(), s.deaths}
	wire := pairingrpc.Client{Now: time.Now}
	joiner := &pairing.Joiner{Peers: s.source.Peers(), Exchange: wire, ClusterID: "east-id", ClusterName: "east", Now: time.Now, Random: rand.Reader}
	s.pairs = controller.ClusterPairs{
		Client: s.client, Live: s.client, Peers: peers, Grants: s.source.Grants(), Exchange: dyingExchange{rpc.NewRemotes(joiner, wire), s.deaths},
		Locator: s.locator, Opener: s.opener, Checker: s.opener, Passwords: dyingPasswords{s.opener, s.deaths}, Events: events.NewFakeRecorder(1000),
		ClusterID: "east-id", Namespace: east,
	}
	return s
}

func (s *twoSides) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// serve is the target.
func (s *twoSides) serve() {
	s.t.Helper()
	var err error
	s.ring, err = s.target.EnsureRing(s.t.Context(), "west-id", time.Now())
	s.must(err)
	server := pairingrpc.NewServer(pairingrpc.Config{
		Issuer:       &pairing.Issuer{Grants: s.target.Grants(), Peers: s.target.Peers(), Ring: s.ring, ClusterName: "west", Now: time.Now, Random: rand.Reader},
		StorageCheck: func(ctx context.Context, p pairing.Peer) error { return s.opens(ctx, p) }, Log: slog.New(slog.DiscardHandler),
	}).GRPC()
	l, err := (&net.ListenConfig{}).Listen(s.t.Context(), "tcp", "127.0.0.1:0")
	s.must(err)
	s.endpoint = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	s.t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			s.t.Error(err)
		}
	})
}

// opens opens the repository as one side would.
func (s *twoSides) opens(ctx context.Context, p pairing.Peer) error {
	loc, err := s.locator.ForPeer(ctx, p, s.ns+"/relay")
	if err != nil {
		return err
	}
	r, err := s.opener.Open(ctx, loc, false)
	if err != nil {
		return err
	}
	return r.Close(ctx)
}

// pair applies a ClusterPair with a token, and reconciles until it is Ready.
func (s *twoSides) pair(name string) (*api.ClusterPair, time.Duration) {
	s.t.Helper()
	token, err := pairing.Mint(s.t.Context(), s.target.Grants(), pairing.MintRequest{
		Scope: pairing.Scope{Namespaces: []string{s.ns}}, BackupLocation: s.ns + "/relay", Endpoint: s.endpoint,
		ClusterID: "west-id", ClusterName: "west", CAFingerprint: s.ring.Current().Fingerprint(),
	}, time.Now(), rand.Reader)
	s.must(err)
	line, err := token.Encode()
	s.must(err)
	p := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: name}}
	p.Spec.Options = map[string]string{api.OptionToken: line, api.OptionBackupLocation: "relay"}
	s.must(s.client.Create(s.t.Context(), p))
	begun := time.Now()
	for range 5 {
		if p = s.reconcile(p); meta.IsStatusConditionTrue(p.Status.Conditions, api.ConditionReady) {
			return p, time.Since(begun)
		}
	}
	s.t.Fatalf("not Ready: %+v", p.Status)
	return nil, 0
}

func (s *twoSides) reconcile(p *api.ClusterPair) *api.ClusterPair {
	s.t.Helper()
	_, err := s.pairs.Reconcile(s.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(p)})
	s.must(err)
	var now api.ClusterPair
	s.must(s.client.Get(s.t.Context(), client.ObjectKeyFromObject(p), &now))
	return &now
}

// sides are what both have of the pair.
func (s *twoSides) sides(pairID string) (source, target pairing.Peer) {
	s.t.Helper()
	source, err := s.source.Peers().Get(s.t.Context(), pairing.Outgoing, pairID)
	s.must(err)
	target, err = s.target.Peers().Get(s.t.Context(), pairing.Incoming, pairID)
	s.must(err)
	return source, target
}

// deaths lets so many steps of a replacement through. The last one may be taken
// before the process ends.
type deaths struct {
	armed   bool
	left    int
	reaches bool
}

var errDied = errors.New("the process ended here")

func (d *deaths) step(do func() error) error {
	if !d.armed {
		return do()
	}
	d.left--
	switch {
	case d.left > 0:
		return do()
	case d.left == 0 && d.reaches:
		return errors.Join(errDied, do())
	}
	return errDied
}

type dyingPeers struct {
	pairing.PeerStore
	deaths *deaths
}

func (d dyingPeers) Put(ctx context.Context, p pairing.Peer) (stored pairing.Peer, err error) {
	err = d.deaths.step(func() (err error) {
		stored, err = d.PeerStore.Put(ctx, p)
		return err
	})
	return stored, err
}

type dyingExchange struct {
	controller.Exchange
	deaths *deaths
}

func (d dyingExchange) ReplacePassword(ctx context.Context, p pairing.Peer) error {
	return d.deaths.step(func() error { return d.Exchange.ReplacePassword(ctx, p) })
}

func (d dyingExchange) ReplaceSealingKey(ctx context.Context, p pairing.Peer, c pairing.SealingChange) error {
	return d.deaths.step(func() error { return d.Exchange.ReplaceSealingKey(ctx, p, c) })
}

type dyingPasswords struct {
	snapshot.Passwords
	deaths *deaths
}

func (d dyingPasswords) AdmitPassword(ctx context.Context, l snapshot.Location, next snapshot.Secret) error {
	return d.deaths.step(func() error { return d.Passwords.AdmitPassword(ctx, l, next) })
}

func (d dyingPasswords) SettlePassword(ctx context.Context, l snapshot.Location) error {
	return d.deaths.step(func() error { return d.Passwords.SettlePassword(ctx, l) })
}

func (d dyingPasswords) EndFormerPassword(ctx context.Context, l snapshot.Location) error {
	return d.deaths.step(func() error { return d.Passwords.EndFormerPassword(ctx, l) })
}

// seal seals a round as a Migration would, by a key.
func (s *twoSides) seal(by pairing.Peer, round string) {
	s.t.Helper()
	loc, err := s.locator.ForPeer(s.t.Context(), by, s.ns+"/relay")
	s.must(err)
	r, err := s.opener.Open(s.t.Context(), loc, false)
	s.must(err)
	key, err := by.SealingPrivateKey()
	s.must(err)
	sealed, err := snapshot.Seal(snapshot.RecoveryPoint{App: s.ns + "/app", Round: round, Cluster: "east-id", Sealed: time.Now().UTC()}, []byte("objects"), key)
	s.must(err)
	s.must(r.Seal(s.t.Context(), sealed))
	s.must(r.Close(s.t.Context()))
}

// counting are the rounds that the target would take.
func (s *twoSides) counting(target pairing.Peer) map[string]bool {
	s.t.Helper()
	loc, err := s.locator.ForPeer(s.t.Context(), target, s.ns+"/relay")
	s.must(err)
	r, err := s.opener.Open(s.t.Context(), loc, false)
	s.must(err)
	rounds, err := r.Recoverable(s.t.Context(), s.ns+"/app")
	s.must(err)
	counts := map[string]bool{}
	for _, sealed := range rounds {
		if p, err := sealed.Read(target); err == nil {
			counts[p.Round] = true
		}
	}
	s.must(r.Close(s.t.Context()))
	return counts
}

// TestReplacementsThatDie ends the controller at each step that replaces a password
// and a sealing key: both sides open the repository at that moment, the next
// controller ends what was begun, and what was sealed before goes on counting.
func TestReplacementsThatDie(t *testing.T) {
	t.Parallel()
	s := newTwoSides(t)
	p, _ := s.pair("west")
	first, _ := s.sides(p.Status.PairID)
	epochs, err := first.EpochPublicKey()
	s.must(err)
	const steps = 10 // Seven for the password, three for the sealing key.
	for kill := 1; kill <= steps; kill++ {
		before, _ := s.sides(p.Status.PairID)
		round := fmt.Sprintf("round-%02d", kill)
		s.seal(before, round)
		old := p.DeepCopy()
		p.Annotations = map[string]string{api.AnnotationRotate: "password, sealing-key"}
		s.must(s.client.Patch(t.Context(), p, client.MergeFrom(old)))

		*s.deaths = deaths{armed: true, left: kill, reaches: kill%2 == 0}
		p = s.reconcile(p)
		*s.deaths = deaths{}
		if c := meta.FindStatusCondition(p.Status.Conditions, api.ConditionRotating); c == nil || c.Reason != "RotationFailed" {
			t.Fatalf("step %d is not the end: %+v", kill, p.Status.Conditions)
		}
		if !meta.IsStatusConditionTrue(p.Status.Conditions, api.ConditionReady) {
			t.Errorf("step %d: the pair is not usable meanwhile: %+v", kill, p.Status.Conditions)
		}
		source, target := s.sides(p.Status.PairID)
		for side, peer := range map[string]pairing.Peer{"source": source, "target": target} {
			if err := s.opens(t.Context(), peer); err != nil {
				t.Errorf("step %d: the %s cannot open the repository: %v", kill, side, err)
			}
		}

		p = s.reconcile(p)
		if asked := p.Annotations[api.AnnotationRotate]; asked != "" || meta.FindStatusCondition(p.Status.Conditions, api.ConditionRotating) != nil {
			t.Fatalf("step %d: the next controller did not end it: %q, %+v", kill, asked, p.Status.Conditions)
		}
		source, target = s.sides(p.Status.PairID)
		s.agree(kill, before, source, target)
		if key, err := target.EpochPublicKey(); err != nil || !key.Equal(epochs) {
			t.Errorf("step %d: epochs are checked by another key: %v", kill, err)
		}
		if err := s.opens(t.Context(), before); err == nil {
			t.Errorf("step %d: the former password opens the repository", kill)
		}
		thief := before
		thief.RepositoryPassword = source.RepositoryPassword
		s.seal(thief, "stolen-"+round)
		counts := s.counting(target)
		if len(counts) != kill || !counts[round] {
			t.Errorf("step %d: the target takes %v", kill, counts)
		}
	}
}

// behind is a client whose cache has a pair as it was.
type behind struct {
	client.Client
	was *api.ClusterPair
}

func (b behind) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	if p, ok := into.(*api.ClusterPair); ok {
		b.was.DeepCopyInto(p)
		return nil
	}
	return b.Client.Get(ctx, key, into, opts...)
}

// interrupted does something else while the target is told of a new sealing key.
type interrupted struct {
	controller.Exchange
	by func()
}

func (i interrupted) ReplaceSealingKey(ctx context.Context, p pairing.Peer, c pairing.SealingChange) error {
	i.by()
	return i.Exchange.ReplaceSealingKey(ctx, p, c)
}

// TestReplacedOnceEach asks for two replacements, the second one while the first is
// under way: each is made once, though the cache goes on asking for the first.
func TestReplacedOnceEach(t *testing.T) {
	t.Parallel()
	s := newTwoSides(t)
	p, _ := s.pair("west")
	ask := func(words string) *api.ClusterPair {
		asks := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}
		old := asks.DeepCopy()
		asks.Annotations = map[string]string{api.AnnotationRotate: words}
		s.must(s.client.Patch(t.Context(), asks, client.MergeFrom(old)))
		return asks
	}
	before, _ := s.sides(p.Status.PairID)
	asked := ask(api.RotateSealingKey)
	exchange := s.pairs.Exchange
	s.pairs.Exchange = interrupted{exchange, func() { ask(api.RotateSealingKey + "," + api.RotatePassword) }}
	p = s.reconcile(p)
	s.pairs.Exchange = exchange
	if left := p.Annotations[api.AnnotationRotate]; left != api.RotatePassword {
		t.Fatalf("after the first replacement %q is asked for", left)
	}
	first, _ := s.sides(p.Status.PairID)
	if first.SealingKey == before.SealingKey || first.RepositoryPassword != before.RepositoryPassword {
		t.Fatal("not the sealing key alone was replaced")
	}

	s.pairs.Client = behind{s.client, asked}
	p = s.reconcile(p)
	second, target := s.sides(p.Status.PairID)
	if second.SealingKey != first.SealingKey {
		t.Error("the sealing key was replaced twice")
	}
	if second.RepositoryPassword == first.RepositoryPassword || second.RepositoryPassword != target.RepositoryPassword {
		t.Error("the password was not replaced on both sides")
	}
	if left, ok := p.Annotations[api.AnnotationRotate]; ok {
		t.Errorf("%q is still asked for", left)
	}
	p = s.reconcile(p)
	if third, _ := s.sides(p.Status.PairID); third.RepositoryPassword != second.RepositoryPassword || third.SealingKey != second.SealingKey {
		t.Error("what nobody asks for any more was replaced again")
	}
}

// agree wants both sides to have the same, new secrets, and nothing under way.
func (s *twoSides) agree(step int, before, source, target pairing.Peer) {
	s.t.Helper()
	if source.RepositoryPassword == before.RepositoryPassword || source.RepositoryPassword != target.RepositoryPassword || source.NextRepositoryPassword != "" {
		s.t.Errorf("step %d: the password is not replaced on both sides", step)
	}
	if source.SealingKey == before.SealingKey || !source.SealingPublicKey.Equal(target.SealingPublicKey) || source.NextSealingKey != "" {
		s.t.Errorf("step %d: the sealing key is not replaced on both sides", step)
	}
	secret := &corev1.Secret{}
	s.must(s.client.Get(s.t.Context(), client.ObjectKey{Namespace: s.locator.Namespace, Name: located.SecretName(source.PairID)}, secret))
	if string(secret.Data["password"]) != source.RepositoryPassword.Reveal() {
		s.t.Errorf("step %d: the nodes have another password", step)
	}
}

// TestPairSoon tells how long it takes from a ClusterPair with a token until it is
// Ready: the token redeemed over TLS, the repository made, and opened from both sides.
// It prints the figure, since machines differ.
func TestPairSoon(t *testing.T) {
	s := newTwoSides(t)
	for _, name := range []string{"first", "second", "third"} {
		_, took := s.pair(name)
		t.Logf("pair %s is Ready after %d ms", name, took.Milliseconds())
	}
}

// A pair is looked at as long as it exists.
func TestPairThatStandsIsNotWritten(t *testing.T) {
	s := newTwoSides(t)
	p, _ := s.pair("standing")
	writes := &statusWrites{Client: s.client}
	s.pairs.Client = writes
	for range 2 {
		p = s.reconcile(p)
	}
	if writes.count != 0 || !meta.IsStatusConditionTrue(p.Status.Conditions, api.ConditionReady) {
		t.Errorf("%d writes, %+v", writes.count, p.Status)
	}
}

package target

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

const home = "godwit-system"

// device is what a standby volume holds: an image's content, or something between two.
type device struct{ at, towards string }

// apply does what the engine promises of snapshot.Apply: from unknown content all
// is written; by difference, only from the image that is there, or from halfway
// between the two. Anything else would be a silent wrong byte.
func (d *device) apply(from, to string, whole bool) error {
	between := d.towards != "" && (d.at == from && d.towards == to || d.at == to && d.towards == from)
	atOneEnd := d.towards == "" && (d.at == from || d.at == to)
	if from != "" && !between && !atOneEnd {
		return fmt.Errorf("a difference from %q to %q is applied to a volume that holds %+v", from, to, *d)
	}
	if whole {
		*d = device{at: to}
		return nil
	}
	if !between && d.at != to {
		*d = device{at: d.at, towards: to}
	}
	return nil
}

// model is a target cluster whose storage and nodes are played by the test, with
// what each volume must hold.
type model struct {
	t       *testing.T
	client  client.Client
	agent   *Agent
	session migrate.Target
	memory  *snapshottest.Memory
	key     ed25519.PrivateKey
	peer    pairing.Peer
	// devices are by the uid of their claim.
	devices map[types.UID]*device
	claims  int
	// rounds maps a round to the content of each claim, content an image to its own.
	rounds  map[string]map[string]string
	content map[string]string
	random  *rand.Rand
	// kill lets a write fail now and then.
	kill bool
	// made, where set, sees what is created.
	made func(client.Object)
}

// schemeOfFakes has what the agent writes and no other kind: a fake client goes through
// all of them for each object that it writes.
func schemeOfFakes(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	err := errors.Join(corev1.AddToScheme(scheme), storagev1.AddToScheme(scheme), api.AddToScheme(scheme))
	if err != nil {
		t.Fatal(err)
	}
	return scheme
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	scheme := schemeOfFakes(t)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &model{
		t: t, memory: snapshottest.NewMemory(), key: private, devices: map[types.UID]*device{}, rounds: map[string]map[string]string{}, content: map[string]string{},
		random: rand.New(rand.NewPCG(seed, 1)),
		peer:   pairing.Peer{PairID: "p", Direction: pairing.Incoming, ClusterID: "east", Scope: pairing.Scope{Namespaces: []string{"cms"}}, SealingPublicKey: public, RepositoryPassword: "password"},
	}
	m.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&api.Standby{}, &api.VolumeTransfer{}).
		WithObjects(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if err := m.killed(); err != nil {
					return err
				}
				if m.made != nil {
					m.made(o)
				}
				if pvc, ok := o.(*corev1.PersistentVolumeClaim); ok {
					m.claims++
					pvc.UID = types.UID(fmt.Sprintf("claim-%d", m.claims))
					m.devices[pvc.UID] = &device{at: "noise"}
				}
				return w.Create(ctx, o, opts...)
			},
			SubResourcePatch: func(ctx context.Context, w client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if err := m.killed(); err != nil {
					return err
				}
				return w.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	peers := &pairingtest.Peers{}
	if _, err := peers.Put(t.Context(), m.peer); err != nil {
		t.Fatal(err)
	}
	m.agent = &Agent{
		Client: m.client, Live: m.client, Peers: peers, Locator: nowhere{}, Opener: memoryOpener{m.memory}, Holds: holds{m}, ClusterID: "west",
		Events: events.NewFakeRecorder(100000), Namespace: home, Now: time.Now,
	}
	m.session = m.agent.For(m.peer)
	return m
}

func (m *model) killed() error {
	if m.kill && m.random.IntN(6) == 0 {
		return errKilled
	}
	return nil
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// store makes an image of one chunk, which holds the content.
func store(t *testing.T, s *snapshottest.Memory, volume snapshot.Volume, round, content string) snapshot.Image {
	t.Helper()
	const size = 4096
	w, err := s.Begin(t.Context(), snapshot.Image{Volume: volume, Kind: snapshot.Block, Round: round, Size: size, ChunkSize: size}, "")
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, size)
	copy(chunk, content)
	if _, err := w.Put(t.Context(), 0, chunk); err != nil {
		t.Fatal(err)
	}
	image, _, err := w.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// written is what a claim holds in a round: now and then it is what it held before.
func (m *model) written(round, claim string) string {
	for _, before := range slices.Sorted(maps.Keys(m.rounds)) {
		if c, there := m.rounds[before][claim]; there && before != round && m.random.IntN(3) == 0 {
			return c
		}
	}
	return claim + " of " + round
}

// seal puts a round with these claims into the repository.
func (m *model) seal(round string, claims ...string) migrate.Begin {
	m.t.Helper()
	held := map[string]string{}
	for _, claim := range claims {
		held[claim] = m.written(round, claim)
	}
	return m.sealWith(round, held)
}

// sealWith says what each claim holds.
func (m *model) sealWith(round string, held map[string]string) migrate.Begin {
	m.t.Helper()
	point := snapshot.RecoveryPoint{App: "cms/cms", Round: round, Cluster: "east", Sealed: time.Now()}
	b := migrate.Begin{RoundRef: ref(round), Stage: true}
	m.rounds[round] = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		content := held[name]
		image := store(m.t, m.memory, snapshot.Volume{Cluster: "east", Namespace: "cms", Name: name}, round, content)
		point.Images = append(point.Images, image)
		m.rounds[round][name], m.content[string(image.ID)] = content, content
		b.Volumes = append(b.Volumes, migrate.Claim{Namespace: "cms", Name: name, StorageClass: "fast", VolumeMode: "Filesystem", AccessModes: []string{"ReadWriteOnce"}, SizeBytes: 4096})
	}
	sealed, err := snapshot.Seal(point, []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: cms}\n"), m.key)
	m.must(err)
	m.must(m.memory.Seal(m.t.Context(), sealed))
	return b
}

func ref(round string) migrate.RoundRef {
	return migrate.RoundRef{Application: "cms/cms", Round: round, Namespaces: []string{"cms"}}
}

func (m *model) standby() *api.Standby {
	m.t.Helper()
	var s api.Standby
	err := m.client.Get(m.t.Context(), types.NamespacedName{Namespace: home, Name: standbyName("p", "cms/cms")}, &s)
	if apierrors.IsNotFound(err) {
		return nil
	}
	m.must(err)
	return &s
}

// step lets the agent look once, and the nodes work a little.
func (m *model) step() {
	m.t.Helper()
	_, err := m.agent.Reconcile(m.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: home, Name: standbyName("p", "cms/cms")}})
	if err != nil && !errors.Is(err, errKilled) {
		m.t.Fatal(err)
	}
	m.work()
}

// work plays the nodes: each transfer goes halfway, or to its end.
func (m *model) work() {
	m.t.Helper()
	var list api.VolumeTransferList
	m.must(m.client.List(m.t.Context(), &list))
	for _, t := range list.Items {
		if t.Status.Phase == api.TransferSucceeded {
			continue
		}
		var pvc corev1.PersistentVolumeClaim
		m.must(m.client.Get(m.t.Context(), types.NamespacedName{Namespace: home, Name: t.Name}, &pvc))
		whole := m.random.IntN(2) == 0
		m.must(m.devices[pvc.UID].apply(m.content[t.Spec.From], m.content[t.Spec.Image], whole))
		if whole {
			t.Status.Phase = api.TransferSucceeded
			m.must(m.client.Status().Update(m.t.Context(), &t))
		}
	}
}

// settle steps until the standby rests, and returns it; nil where there is none.
func (m *model) settle(done func() bool) {
	m.t.Helper()
	for range 300 {
		if done() {
			return
		}
		m.step()
	}
	m.t.Fatalf("it never rests: %s", m.standby().Status.Message)
}

// holdsRound fails unless the volumes are exactly those of the round.
func (m *model) holdsRound(round string) {
	m.t.Helper()
	want := m.rounds[round]
	var claims corev1.PersistentVolumeClaimList
	m.must(m.client.List(m.t.Context(), &claims, client.InNamespace(home)))
	got := map[string]string{}
	for _, pvc := range claims.Items {
		d := m.devices[pvc.UID]
		got[pvc.Annotations["godwit.io/claim"][len("cms/"):]] = d.at
		if d.towards != "" {
			m.t.Errorf("volume %s is between %s and %s", pvc.Name, d.at, d.towards)
		}
	}
	if !maps.Equal(got, want) {
		m.t.Errorf("round %s: the volumes hold %v, want %v", round, got, want)
	}
}

// TestRoundsInPlace goes through random rounds that are reached, cancelled at any
// moment, cut by lost claims and by killed writes. Whatever comes, no difference is
// applied to a volume that does not hold its origin, and a standby at rest holds
// exactly one round.
func TestRoundsInPlace(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newModel(t, seed)
			reached := ""
			for n := range 6 {
				round := fmt.Sprintf("r%d", n)
				claims := []string{"a", "b", "c"}[:1+m.random.IntN(3)]
				reached = m.play(m.seal(round, claims...), reached)
				if m.random.IntN(4) == 0 && reached != "" {
					m.loseClaim()
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// TestUnchangedIsLeftAlone brings a standby to a round in which one of two volumes
// changed: the other is published to no node, but where all of it is to be read.
func TestUnchangedIsLeftAlone(t *testing.T) {
	t.Parallel()
	for verify, touched := range map[api.VerifyMode]int{api.VerifySealed: 1, api.VerifyReadBack: 1, api.VerifySample: 2, api.VerifyFull: 2} {
		t.Run(string(verify), func(t *testing.T) {
			m := newModel(t, 1)
			held := map[string]string{"a": "idle", "b": "busy"}
			m.reach(m.sealWith("r1", held))
			held["b"] = "busier"
			b := m.sealWith("r2", held)
			b.Verify = string(verify)
			made := 0
			m.made = func(o client.Object) {
				if _, is := o.(*api.VolumeTransfer); is {
					made++
				}
			}
			m.reach(b)
			m.holdsRound("r2")
			if made != touched {
				t.Errorf("%d volumes were published to a node, and %d have something to do", made, touched)
			}
		})
	}
}

// play begins a round, and ends it one way or the other. It returns the round that
// the standby holds then.
func (m *model) play(b migrate.Begin, before string) string {
	m.t.Helper()
	m.must(m.session.Begin(m.t.Context(), b))
	m.kill = m.random.IntN(2) == 0
	if m.random.IntN(3) > 0 {
		m.settle(func() bool {
			s, err := m.session.Status(m.t.Context(), b.RoundRef)
			m.must(err)
			return s.Phase == migrate.TargetReady
		})
		m.kill = false
		m.settle(func() bool { return reachedRound(m.standby()) })
		m.holdsRound(b.Round)
		return b.Round
	}
	for range m.random.IntN(25) {
		m.step()
	}
	m.settle(func() bool {
		m.step()
		done, err := m.session.Cancel(m.t.Context(), migrate.Cancel{RoundRef: b.RoundRef})
		if err != nil && !errors.Is(err, errKilled) {
			m.t.Fatal(err)
		}
		return done
	})
	m.kill = false
	s := m.standby()
	if s == nil {
		m.holdsRound("")
		return ""
	}
	m.settle(func() bool { return reachedRound(m.standby()) })
	// A stage that was reached before it was cancelled stays.
	if s = m.standby(); s.Status.Round != before && s.Status.Round != b.Round {
		m.t.Errorf("it went back to %q, and it came from %q", s.Status.Round, before)
	}
	m.holdsRound(s.Status.Round)
	return s.Status.Round
}

// loseClaim deletes a standby claim behind the agent's back.
func (m *model) loseClaim() {
	m.t.Helper()
	var claims corev1.PersistentVolumeClaimList
	m.must(m.client.List(m.t.Context(), &claims, client.InNamespace(home)))
	if len(claims.Items) > 0 {
		m.must(m.client.Delete(m.t.Context(), &claims.Items[m.random.IntN(len(claims.Items))]))
	}
}

// holds publishes every claim at once.
type holds struct{ m *model }

func (h holds) EnsureHold(ctx context.Context, r csi.HoldRequest) (csi.Mounted, error) {
	var pvc corev1.PersistentVolumeClaim
	if err := h.m.client.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: r.Claim}, &pvc); err != nil {
		return csi.Mounted{}, err
	}
	return csi.Mounted{Ready: true, Node: "n1", PodUID: "pod", PersistentVolume: "pv-of-" + string(pvc.UID), Mode: r.Mode}, nil
}

func (holds) DropHold(context.Context, csi.HoldRequest) (bool, error) { return true, nil }

type nowhere struct{}

func (nowhere) ForPeer(context.Context, pairing.Peer, string) (snapshot.Location, error) {
	return snapshot.Location{}, nil
}

func (nowhere) EnsureSecret(context.Context, pairing.Peer, string) (string, error) {
	return "repository", nil
}

type memoryOpener struct{ memory *snapshottest.Memory }

type memoryRepository struct {
	*snapshottest.Memory
	snapshot.Trees
}

func (memoryRepository) Close(context.Context) error { return nil }

func (o memoryOpener) Open(context.Context, snapshot.Location, bool) (snapshot.Repository, error) {
	return memoryRepository{Memory: o.memory}, nil
}
func (memoryOpener) Probe(context.Context, snapshot.Location) (snapshot.StoreTraits, error) {
	return snapshot.StoreTraits{}, nil
}

// TestTurn gives volumes in every state another image to hold.
func TestTurn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		v     api.StandbyVolume
		wants string
		from  string
	}{
		"new":               {api.StandbyVolume{}, "b", ""},
		"at rest":           {api.StandbyVolume{Image: "a", Wants: "a"}, "b", ""},
		"goes on":           {api.StandbyVolume{From: "a", Wants: "b"}, "b", "a"},
		"goes back":         {api.StandbyVolume{From: "a", Wants: "b"}, "a", "b"},
		"to a third":        {api.StandbyVolume{From: "a", Wants: "b"}, "c", ""},
		"unknown goes back": {api.StandbyVolume{Wants: "b"}, "a", ""},
	} {
		v := c.v
		if turn(&v, c.wants); v.From != c.from || v.Wants != c.wants || v.Image != c.v.Image {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

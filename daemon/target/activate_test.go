package target

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/snapshot"
)

// activate asks for the standby as godwitctl does.
func (m *model) activate(round string) {
	m.t.Helper()
	s := m.standby()
	s.Spec.Activation = &api.StandbyActivation{Round: round}
	m.must(m.client.Update(m.t.Context(), s))
}

// chosen steps until the activation goes by a round, and returns it.
func (m *model) chosen() string {
	m.t.Helper()
	m.settle(func() bool { s := m.standby(); return s.Status.Activating && s.Status.Bringing == s.Spec.Round })
	return m.standby().Spec.Round
}

// volumesHeld steps until every volume holds the round whole.
func (m *model) volumesHeld() {
	m.t.Helper()
	m.settle(func() bool {
		s := m.standby()
		if s.Status.Phase != api.StandbyVolumes || len(s.Status.Volumes) == 0 {
			return false
		}
		for _, v := range s.Status.Volumes {
			if v.Image != v.Wants {
				return false
			}
		}
		return true
	})
}

func (m *model) reach(b migrate.Begin) {
	m.t.Helper()
	m.must(m.session.Begin(m.t.Context(), b))
	m.settle(func() bool { return reachedRound(m.standby()) })
}

func told(m *model, words string) bool {
	recorder, ok := m.agent.Events.(*events.FakeRecorder)
	if !ok {
		m.t.Fatal("no recorder")
	}
	for {
		select {
		case e := <-recorder.Events:
			if strings.Contains(e, words) {
				return true
			}
		default:
			return false
		}
	}
}

// TestActivateAnywhere activates at any moment of a round: what is handed over is
// always one round, whole, and the newest that was sealed.
func TestActivateAnywhere(t *testing.T) {
	t.Parallel()
	for steps := range 24 {
		t.Run(fmt.Sprint(steps), func(t *testing.T) {
			m := newModel(t, uint64(steps))
			m.reach(m.seal("r1", "a", "b"))
			m.must(m.session.Begin(t.Context(), m.seal("r2", "a", "b")))
			m.kill = steps%2 == 1
			for range steps {
				m.step()
			}
			m.activate("")
			if got := m.chosen(); got != "r2" {
				t.Fatalf("round %s is activated", got)
			}
			m.volumesHeld()
			m.kill = false
			m.holdsRound("r2")
			// It goes on to hand the volumes over, which a stage never does.
			m.settle(func() bool { return m.standby().Status.Phase == api.StandbyVolumes && handingOver(m) })
		})
	}
}

// TestActivateWhatIsHere asks to activate an application that a Migration has brought
// for good: the wish is taken back, and nothing is brought up beside it.
func TestActivateWhatIsHere(t *testing.T) {
	t.Parallel()
	m := newModel(t, 1)
	m.reach(m.seal("r1", "a", "b"))
	s := m.standby()
	for i := range s.Status.Volumes {
		s.Status.Volumes[i].HandedOver = true
	}
	m.must(m.client.Status().Update(t.Context(), s))
	s.Spec.Stage, s.Spec.Activation = false, &api.StandbyActivation{}
	m.must(m.client.Update(t.Context(), s))
	status := m.standby().Status
	for range 5 {
		m.step()
	}
	if s = m.standby(); s.Spec.Activation != nil || s.Spec.Round != "r1" || !equality.Semantic.DeepEqual(s.Status, status) {
		t.Errorf("it goes on with %+v and %+v", s.Spec, s.Status)
	}
	if !told(m, "ActivationRefused") {
		t.Error("nobody was told")
	}
}

// TestActivateWhatAnotherHas asks to activate an application that another target has:
// the wish is taken back and stays away when that one gives it back, and only taking it
// over goes on.
func TestActivateWhatAnotherHas(t *testing.T) {
	t.Parallel()
	m := newModel(t, 1)
	m.reach(m.seal("r1", "a", "b"))
	key, err := m.peer.EpochKey()
	m.must(err)
	raise := func(cluster, from string) {
		t.Helper()
		_, err := snapshot.Raise(t.Context(), m.memory, snapshot.RaiseRequest{App: "cms/cms", Cluster: cluster, From: from, Key: key, Now: time.Now})
		m.must(err)
	}
	wish := func(a api.StandbyActivation) {
		t.Helper()
		s := m.standby()
		// The API server counts what is wished for; this client does not.
		s.Generation++
		s.Spec.Activation = &a
		m.must(m.client.Update(t.Context(), s))
	}
	raise("south", "east")
	wish(api.StandbyActivation{})
	m.settle(func() bool { return m.standby().Spec.Activation == nil })
	if !told(m, "south") {
		t.Error("nobody was told who has it")
	}
	raise("east", "south")
	for range 10 {
		m.step()
	}
	if s := m.standby(); s.Spec.Activation != nil || s.Status.Activating || handingOver(m) {
		t.Fatalf("it was activated when the other one gave it back: %+v", s.Status)
	}
	raise("south", "east")
	wish(api.StandbyActivation{TakeOver: true})
	if got := m.chosen(); got != "r1" {
		t.Errorf("round %s was taken over", got)
	}
	e, err := snapshot.EpochOf(t.Context(), m.memory, "cms/cms", key.Public().(ed25519.PublicKey))
	if err != nil || e.Cluster != "west" {
		t.Errorf("cluster %s has it: %v", e.Cluster, err)
	}
}

func handingOver(m *model) bool {
	for _, c := range m.standby().Status.Conditions {
		if c.Type == conditionHandingOver {
			return true
		}
	}
	return false
}

// TestActivateTakesWhatTheTargetWasNeverToldOf: the source was lost between the
// seal and the call.
func TestActivateTakesWhatTheTargetWasNeverToldOf(t *testing.T) {
	t.Parallel()
	m := newModel(t, 1)
	m.reach(m.seal("r1", "a"))
	m.seal("r2", "a")
	m.activate("")
	if got := m.chosen(); got != "r2" {
		t.Fatalf("round %s is activated, and r2 is sealed", got)
	}
	m.volumesHeld()
	m.holdsRound("r2")
	if !told(m, "round r2, sealed at") {
		t.Error("nobody is told which round it is")
	}
}

func TestActivateAnOlderRound(t *testing.T) {
	t.Parallel()
	m := newModel(t, 2)
	m.seal("r1", "a")
	m.reach(m.seal("r2", "a"))
	m.activate("r1")
	if got := m.chosen(); got != "r1" {
		t.Fatalf("round %s is activated", got)
	}
	m.volumesHeld()
	m.holdsRound("r1")
}

// TestActivateOnlyWhatTheSourceSealed puts rounds beside the source's that are
// newer, and that nobody may be brought up from.
func TestActivateOnlyWhatTheSourceSealed(t *testing.T) {
	t.Parallel()
	m := newModel(t, 3)
	m.reach(m.seal("r1", "a"))
	_, forged, err := ed25519.GenerateKey(nil)
	m.must(err)
	for round, c := range map[string]struct {
		key     ed25519.PrivateKey
		cluster string
		claims  []string
	}{
		"r5": {forged, "east", []string{"a"}},
		"r6": {m.key, "elsewhere", []string{"a"}},
		"r7": {m.key, "east", []string{"a", "b"}},
		"r8": {m.key, "east", nil},
	} {
		point := snapshot.RecoveryPoint{App: "cms/cms", Round: round, Cluster: c.cluster, Sealed: time.Now()}
		for _, name := range c.claims {
			point.Images = append(point.Images, store(t, m.memory, snapshot.Volume{Cluster: "east", Namespace: "cms", Name: name}, round, round))
		}
		sealed, err := snapshot.Seal(point, []byte("x"), c.key)
		m.must(err)
		m.must(m.memory.Seal(t.Context(), sealed))
	}
	m.activate("")
	if got := m.chosen(); got != "r1" {
		t.Fatalf("round %s is activated", got)
	}
	if !told(m, "is left out") {
		t.Error("what was left out is not told")
	}
	m.volumesHeld()
	m.holdsRound("r1")
}

// TestActivatedIsFenced sees that the source cannot overwrite, or take back, what
// runs on the target.
func TestActivatedIsFenced(t *testing.T) {
	t.Parallel()
	m := newModel(t, 4)
	m.reach(m.seal("r1", "a"))
	m.activate("")
	late := m.seal("r9", "a")
	for _, at := range []string{"asked", "under way"} {
		before := m.standby().DeepCopy()
		if err := m.session.Begin(t.Context(), late); !errors.Is(err, migrate.ErrActivated) {
			t.Errorf("%s: another round: %v", at, err)
		}
		if _, err := m.session.Preflight(t.Context(), migrate.Preflight{Application: "cms/cms", Namespaces: []string{"cms"}}); !errors.Is(err, migrate.ErrActivated) {
			t.Errorf("%s: preflight: %v", at, err)
		}
		for _, whole := range []bool{false, true} {
			if done, err := m.session.Cancel(t.Context(), migrate.Cancel{RoundRef: ref(before.Spec.Round), Whole: whole}); err != nil || !done {
				t.Errorf("%s: cancel: %v %v", at, done, err)
			}
		}
		if now := m.standby(); now == nil || now.ResourceVersion != before.ResourceVersion {
			t.Fatalf("%s: the source changed the standby: %+v", at, now)
		}
		m.chosen()
	}
}

func TestActivateARoundThatIsNotThere(t *testing.T) {
	t.Parallel()
	m := newModel(t, 5)
	m.reach(m.seal("r1", "a"))
	m.activate("r0")
	for range 5 {
		_, err := m.agent.Reconcile(context.WithoutCancel(t.Context()), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: home, Name: standbyName("p", "cms/cms")}})
		if err == nil || !strings.Contains(err.Error(), "round r0 of cms/cms is not in the repository") {
			t.Fatalf("it says %v", err)
		}
	}
	if s := m.standby(); s.Status.Activating || s.Status.Round != "r1" {
		t.Errorf("the standby moved: %+v", s.Status)
	}
	// Another word, and it goes on.
	m.activate("")
	if got := m.chosen(); got != "r1" {
		t.Errorf("round %s is activated", got)
	}
}

package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// south gives the rig a second target, which shares the first one's repository.
func (r *rig) south() *target {
	r.t.Helper()
	peer := r.peer
	peer.PairID, peer.ClusterID, peer.Version = "south-"+r.ns, "south", ""
	there := newTarget()
	r.remote[peer.PairID] = there
	r.pair("south", peer)
	return there
}

func stagedTo(pair string) func(*api.MigrationSpec) {
	return func(s *api.MigrationSpec) {
		staged(s)
		s.ClusterPair = pair
	}
}

// TestTargetsShareARepository stages to two targets in turn: each round starts from what
// was stored last, for whichever target that was, and the bases stay until both are
// done with the application.
func TestTargetsShareARepository(t *testing.T) {
	r := newRig(t)
	south := r.south()
	r.claim("data")
	last := ""
	for _, name := range []string{"west", "south", "west-again", "south-again"} {
		pair := strings.TrimSuffix(name, "-again")
		r.storage.taken = r.storage.taken.Add(time.Minute)
		m, transfer := r.stage(name, stagedTo(pair))
		if base := transfer.Spec.Base; last != "" && (base == nil || base.Image != last) {
			t.Errorf("%s starts from %+v, and %s was stored last", name, base, last)
		}
		last = m.Status.Volumes[0].Image
		if left := r.storage.left(); len(left) != 1 {
			t.Errorf("after %s there is not one base: %v", name, left)
		}
		sealed, err := r.repository.Sealed(t.Context(), m.Status.Application, m.Status.Round)
		r.must(err)
		if _, of := sealed.Says(); r.remote[of] == nil || (r.remote[of] == south) != (pair == "south") {
			t.Errorf("%s was sealed for pair %s", name, of)
		}
	}
	if len(r.target.begun) != 2 || len(south.begun) != 2 {
		t.Errorf("the targets were told of %d and %d rounds", len(r.target.begun), len(south.begun))
	}
	r.storage.taken = r.storage.taken.Add(time.Minute)
	// To one target the application is moved for good: the other one's rounds go on.
	if _, transfer := r.stage("move", nil); transfer.Spec.Base == nil || transfer.Spec.Base.Image != last {
		t.Errorf("the move starts from %+v", transfer.Spec.Base)
	}
	if _, transfer := r.stage("south-still", stagedTo("south")); transfer.Spec.Base == nil || transfer.Spec.Base.Image != last {
		t.Errorf("after a move elsewhere it starts from %+v", transfer.Spec.Base)
	}
	for i, name := range []string{"move", "west-again", "west", "south", "south-still", "south-again"} {
		m := r.get(name)
		r.must(r.client.Delete(t.Context(), m))
		for range 8 {
			r.step(name)
		}
		if err := r.client.Get(t.Context(), client.ObjectKeyFromObject(m), m); client.IgnoreNotFound(err) != nil || err == nil {
			t.Fatalf("%s is still there: %v %+v", name, err, m.Status)
		}
		if kept := len(r.storage.left()); (kept == 1) != (i < 5) {
			t.Errorf("after %s was deleted there are %d bases", name, kept)
		}
	}
}

// TestTargetsTakeTurns has a round to one target wait while one to another reads the
// source, but not while that one waits for its target.
func TestTargetsTakeTurns(t *testing.T) {
	r := newRig(t)
	south := r.south()
	r.claim("data")
	r.target.phase = migrate.TargetVolumes
	r.migration("west", stagedTo("west"))
	west := r.until("west", "its upload", func(m *api.Migration) bool { return len(r.transfersOf(m)) > 0 })
	r.storage.taken = r.storage.taken.Add(time.Minute)
	r.migration("south", stagedTo("south"))
	for range 5 {
		r.step("south")
	}
	if m := r.get("south"); is(admitted)(m) || !strings.Contains(readyOf(m), "Migration west of the same application") {
		t.Fatalf("two read the source at once: %s", readyOf(m))
	}
	// The west is out of reach while its round is read.
	r.ready("west", metav1.ConditionFalse)
	m := r.until("south", "its end", ended, r.carryOut("south"))
	if len(south.begun) != 1 || m.Status.Status != api.MigrationStatusSuccessful {
		t.Fatalf("one target keeps the other waiting: %+v", m.Status)
	}
	// What the west's round took before that is older than the base that there is now.
	r.ready("west", metav1.ConditionTrue)
	for _, transfer := range r.transfersOf(west) {
		r.must(r.client.Delete(t.Context(), &transfer))
	}
	var again []api.VolumeTransfer
	r.until("west", "the target", is(begun), func() { again = append(again, r.transfersOf(west)...) }, r.carryOut("west"))
	if slices.ContainsFunc(again, func(t api.VolumeTransfer) bool {
		return t.Spec.Base != nil && t.Spec.Base.Image == m.Status.Volumes[0].Image
	}) {
		t.Error("a snapshot was compared with one that may be younger")
	}
	r.target.phase = migrate.TargetReady
	r.until("west", "its end", ended)
	if left := r.storage.left(); len(left) != 1 {
		t.Errorf("there is not one base: %v", left)
	}
	r.storage.taken = r.storage.taken.Add(time.Minute)
	if _, transfer := r.stage("later", stagedTo("south")); transfer.Spec.Base == nil || transfer.Spec.Base.Image != m.Status.Volumes[0].Image {
		t.Errorf("the base is not the youngest one: %+v", transfer.Spec.Base)
	}
}

func (r *rig) ready(pair string, status metav1.ConditionStatus) {
	r.t.Helper()
	var p api.ClusterPair
	r.must(r.client.Get(r.t.Context(), client.ObjectKey{Namespace: r.ns, Name: pair}, &p))
	meta.SetStatusCondition(&p.Status.Conditions, metav1.Condition{Type: api.ConditionReady, Status: status, Reason: "Said", Message: "by the test"})
	r.must(r.client.Status().Update(r.t.Context(), &p))
}

// TestSharedRepositoryIsKeptOnce sees that of two pairs the one which the repository was
// made for keeps it, asking each target about its own rounds only.
func TestSharedRepositoryIsKeptOnce(t *testing.T) {
	r := newRig(t)
	r.south()
	r.claim("data")
	for _, pair := range []string{"west", "south"} {
		s := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: pair}}
		s.Spec.Continuous = true
		s.Spec.Template.Spec = api.MigrationSpec{ClusterPair: pair, Namespaces: []string{r.ns}}
		s.Spec.RecoveryPoints = &api.RecoveryPointRetention{Last: 1}
		r.must(r.client.Create(t.Context(), s))
		var p api.ClusterPair
		r.must(r.client.Get(t.Context(), client.ObjectKey{Namespace: r.ns, Name: pair}, &p))
		p.Status.StorageStatus = api.ClusterPairStatusReady
		r.must(r.client.Status().Update(t.Context(), &p))
	}
	for i := range 2 {
		for _, pair := range []string{"west", "south"} {
			r.now, r.storage.taken = r.now.Add(time.Minute), r.storage.taken.Add(time.Minute)
			r.stage(fmt.Sprint(pair, i), stagedTo(pair))
		}
		time.Sleep(time.Second) // The API server tells Migrations apart by whole seconds.
	}
	maintained := 0
	u := r.upkeep(keptOpener{opener{r.repository}, kept{repository: repository{Memory: r.repository}, maintained: &maintained}}, nil)
	if got := r.keepBy(u, "south"); !strings.Contains(got.Message, "that of ClusterPair west") || got.Failing || maintained != 0 {
		t.Errorf("the pair that shares it: %+v", got)
	}
	if got := r.keepBy(u, "west"); got.RemovedPoints != 2 || got.Points != 2 || got.Failing || maintained != 1 {
		t.Errorf("the pair that it was made for: %+v", got)
	}
}

package target

import (
	"context"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

func (m *model) listed() *api.RecoveryPoints {
	m.t.Helper()
	_, err := listPoints{m.agent}.Reconcile(m.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: home, Name: standbyName("p", "cms/cms")}})
	m.must(err)
	points := m.standby().Status.Points
	if points == nil {
		m.t.Fatal("nothing is listed")
	}
	return points
}

// TestPoints lists what is in the repository, with nobody but the store to ask, and
// says of what the paired source did not seal that it is not to be used.
func TestPoints(t *testing.T) {
	t.Parallel()
	m := newModel(t, 1)
	m.reach(m.seal("r1", "a", "b"))
	m.seal("r2", "a", "b")
	_, foreign, err := ed25519.GenerateKey(nil)
	m.must(err)
	forged, err := snapshot.Seal(snapshot.RecoveryPoint{App: "cms/cms", Round: "r3", Cluster: "east", Sealed: time.Now()}, nil, foreign)
	m.must(err)
	m.must(m.memory.Seal(t.Context(), forged))
	points := m.listed()
	if points.Total != 3 || len(points.Items) != 3 || points.Message != "" || points.Listed == nil {
		t.Fatalf("%+v", points)
	}
	if p := points.Items[0]; p.Round != "r3" || p.Seal != api.SealRefused || p.Volumes != 0 || !strings.Contains(p.Reason, "not sealed by the paired cluster") {
		t.Errorf("forged: %+v", p)
	}
	for i, round := range []string{"r2", "r1"} {
		if p := points.Items[i+1]; p.Round != round || p.Seal != api.SealValid || p.Volumes != 2 || p.SizeBytes != 8192 || p.Sealed == nil {
			t.Errorf("%s: %+v", round, p)
		}
	}
	if !told(m, "RoundRefused") {
		t.Error("nobody is told of the forged round")
	}
	if points = m.listed(); told(m, "RoundRefused") {
		t.Error("it is told again")
	}
	if s := m.standby(); s.Status.SizeBytes != 8192 {
		t.Errorf("the standby says %d bytes", s.Status.SizeBytes)
	}
	// A store that cannot be read takes nothing from what was known.
	m.agent.Peers = noPeers{m.agent.Peers}
	if after := m.listed(); len(after.Items) != 3 || after.Message == "" || !after.Listed.Equal(points.Listed) {
		t.Errorf("%+v", after)
	}
}

type noPeers struct{ pairing.PeerStore }

func (noPeers) Get(context.Context, pairing.Direction, string) (pairing.Peer, error) {
	return pairing.Peer{}, errKilled
}

// TestActivatable foresees an activation of a standby at rest: ready, in the way of a
// claim of that name, and with a volume that went.
func TestActivatable(t *testing.T) {
	t.Parallel()
	m := newModel(t, 2)
	foreseen := func() *api.StandbyActivatable {
		t.Helper()
		var claims corev1.PersistentVolumeClaimList
		m.must(m.client.List(t.Context(), &claims, client.InNamespace(home)))
		for i := range claims.Items {
			if claims.Items[i].Status.Phase != "" {
				continue
			}
			claims.Items[i].Status.Phase = corev1.ClaimBound
			m.must(m.client.Status().Update(t.Context(), &claims.Items[i]))
		}
		m.listed()
		return m.standby().Status.Activatable
	}
	m.must(m.session.Begin(t.Context(), m.seal("r1", "a", "b")))
	if a := foreseen(); a != nil {
		t.Errorf("before the first round: %+v", a)
	}
	m.settle(func() bool { return reachedRound(m.standby()) })
	if a := foreseen(); a == nil || !a.Ready || a.Round != "r1" || !strings.Contains(a.Message, "2 volumes hold the round, Bound in namespace "+home) {
		t.Errorf("at rest: %+v", a)
	}
	theirs := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "b"}}
	m.must(m.client.Create(t.Context(), theirs))
	for range 2 {
		if a := foreseen(); a == nil || a.Ready || !strings.Contains(a.Message, "claim cms/b is on this cluster already") {
			t.Errorf("with a claim in the way: %+v", a)
		}
	}
	if !told(m, "NotActivatable") {
		t.Error("nobody is told")
	}
	m.must(m.client.Delete(t.Context(), theirs))
	m.must(m.session.Begin(t.Context(), m.seal("r2", "a", "b")))
	if a := foreseen(); a == nil || a.Ready || a.Round != "r1" {
		t.Errorf("under way it is not as it was: %+v", a)
	}
	m.settle(func() bool { return reachedRound(m.standby()) })
	if a := foreseen(); a == nil || !a.Ready || a.Round != "r2" {
		t.Errorf("at the next round: %+v", a)
	}
	var claims corev1.PersistentVolumeClaimList
	m.must(m.client.List(t.Context(), &claims, client.InNamespace(home)))
	claims.Items[0].Status.Phase = corev1.ClaimLost
	m.must(m.client.Status().Update(t.Context(), &claims.Items[0]))
	if a := foreseen(); a == nil || a.Ready || !strings.Contains(a.Message, "is Lost: see claim "+claims.Items[0].Name) {
		t.Errorf("with a volume lost: %+v", a)
	}
	m.activate("")
	if a := foreseen(); a != nil {
		t.Errorf("activated: %+v", a)
	}
}

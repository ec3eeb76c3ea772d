package target

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// threeRounds is a target that holds the third of three rounds, and has snapshots of
// the last two.
func threeRounds(t *testing.T) (w *world, to *side, older, newer string) {
	t.Helper()
	w = newWorld(t, 11)
	to = w.sides["west"]
	w.round()
	s := to.standby()
	s.Spec.Snapshots = 2
	w.must(to.client.Update(t.Context(), s))
	w.round()
	w.round()
	kept := to.standby().Status.Snapshots
	if len(kept) != 2 || !kept[0].Ready || !kept[1].Ready {
		t.Fatalf("snapshots are kept of %+v", kept)
	}
	return w, to, kept[1].Round, kept[0].Round
}

func (s *side) activate(round string) {
	s.w.t.Helper()
	standby := s.standby()
	standby.Spec.Activation = &api.StandbyActivation{Round: round}
	s.w.must(s.client.Update(s.w.t.Context(), standby))
	s.settle("its activation", func() bool { now := s.standby(); return now.Status.Activating && reachedRound(now) })
}

// claims are Godwit's own.
func (s *side) claims() []corev1.PersistentVolumeClaim {
	s.w.t.Helper()
	var list corev1.PersistentVolumeClaimList
	s.w.must(s.client.List(s.w.t.Context(), &list, client.InNamespace(home)))
	return list.Items
}

func (s *side) told(words string) bool {
	recorder, is := s.agent.Events.(*events.FakeRecorder)
	for is {
		select {
		case e := <-recorder.Events:
			if strings.Contains(e, words) {
				return true
			}
		default:
			return false
		}
	}
	return false
}

func activatedBy(s *api.Standby) (reason, message string) {
	c := meta.FindStatusCondition(s.Status.Conditions, conditionActivating)
	return c.Reason, c.Message
}

// TestOlderRoundFromSnapshots activates an older round with the bucket out of reach,
// and loses nothing that is nowhere else.
func TestOlderRoundFromSnapshots(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]bool{"the newer round is in snapshots": true, "the newer round is nowhere else": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, to, older, newer := threeRounds(t)
			if !kept {
				s := to.standby()
				s.Status.Snapshots = s.Status.Snapshots[1:]
				w.must(to.client.Status().Update(t.Context(), s))
			}
			to.lost = true
			to.activate(older)
			to.check("older round", w.rounds[older])
			if reason, message := activatedBy(to.standby()); reason != reasonFromSnapshots || !strings.Contains(message, "up to round "+newer) || !strings.Contains(message, "is given up") {
				t.Errorf("it says %s: %s", reason, message)
			}
			left := to.claims()
			if kept {
				if len(left) > 0 || to.standby().Status.Volumes[0].Displaced != nil {
					t.Errorf("%d claims are left, and snapshots hold what they do", len(left))
				}
				return
			}
			if len(left) != len(volumesOfApp()) || !to.told("is left as it is") {
				t.Fatalf("%d claims are left, of %d that are the only copy", len(left), len(volumesOfApp()))
			}
			for _, claim := range left {
				volume := claim.Annotations["godwit.io/claim"][len("cms/"):]
				if got := w.holds(to.device(home, claim.Name)); got != w.rounds[newer][volume] || claim.Labels[labelOwner] != "" {
					t.Errorf("claim %s, left for nobody, holds %q: %v", claim.Name, got, claim.Labels)
				}
			}
		})
	}
}

// TestOlderRoundFromTheStoreInstead sees that a round which is not known to be in the
// snapshots is brought from the store, and that this is told.
func TestOlderRoundFromTheStoreInstead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(w *world, to *side, older string)
		told  string
	}{
		"a snapshot was deleted": {func(_ *world, to *side, _ string) {
			delete(to.shots, to.standby().Status.Snapshots[1].Volumes[0].Snapshot)
		}, "of claim cms/a"},
		"a snapshot was replaced": {func(w *world, to *side, _ string) {
			s := to.standby()
			s.Status.Snapshots[1].Volumes[0].UID = "before"
			w.must(to.client.Status().Update(w.t.Context(), s))
		}, "is another than the one that was taken"},
		"a snapshot is of another image": {func(w *world, to *side, _ string) {
			s := to.standby()
			s.Status.Snapshots[1].Volumes[1].Image = "another"
			w.must(to.client.Status().Update(w.t.Context(), s))
		}, "claim cms/b has no snapshot that is known to be of this round"},
		"nothing says what was sealed": {func(w *world, to *side, older string) {
			var list corev1.SecretList
			w.must(to.client.List(w.t.Context(), &list, client.HasLabels{labelKept}))
			for i := range list.Items {
				if list.Items[i].Annotations[annotationRound] == older {
					w.must(to.client.Delete(w.t.Context(), &list.Items[i]))
				}
			}
		}, "is not kept here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, to, older, _ := threeRounds(t)
			c.spoil(w, to, older)
			to.activate(older)
			to.check("older round", w.rounds[older])
			if reason, _ := activatedBy(to.standby()); reason == reasonFromSnapshots || !to.told(c.told) {
				t.Errorf("it goes by %s, and nobody is told why", reason)
			}
		})
	}
}

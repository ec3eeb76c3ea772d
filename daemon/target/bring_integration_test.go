package target_test

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// leadsBack gives the victim a pair that leads back to the source.
func (p *played) leadsBack() {
	p.t.Helper()
	in, err := p.peers.Get(p.t.Context(), pairing.Incoming, p.peer.PairID)
	p.must(err)
	_, err = p.peers.Put(p.t.Context(), pairing.Peer{
		PairID: "back", Direction: pairing.Outgoing, Namespace: "cms", Name: "back", ClusterID: in.ClusterID, Twin: in.PairID,
		RepositoryPrefix: in.RepositoryPrefix, Certificate: []byte("of a peer that has joined"),
	})
	p.must(err)
}

// failback plays the controller: it ends the Action that is under way, and counts all.
func (p *played) failback(how api.ActionStatusType, why string) (all int) {
	p.t.Helper()
	var list api.ActionList
	p.must(p.client.List(p.t.Context(), &list))
	for _, a := range list.Items {
		if a.Spec.ActionType != api.ActionFailback || a.Namespace != "cms" || a.Spec.ActionParameter.FailbackParameter.MigrationScheduleReference != "cms" {
			p.t.Errorf("it asks for %+v", a)
		}
		if a.Status.Stage != api.ActionStageFinal {
			a.Status.Stage, a.Status.Status, a.Status.Reason = api.ActionStageFinal, how, why
			p.must(p.client.Status().Update(p.t.Context(), &a))
		}
	}
	return len(list.Items)
}

// bringBack asks for the writes until they are there, or it is refused; the process is
// killed after so many writes, unless that is negative.
func (p *played) bringBack(request int64, how api.ActionStatusType, cut int) (report migrate.RollBackReport, killed bool) {
	p.t.Helper()
	c := &cutClient{Client: p.client, left: cut}
	if cut >= 0 {
		p.agent.Client = c
	}
	defer func() { p.agent.Client = p.client }()
	for range 80 {
		report, err := p.target.RollBack(p.t.Context(), migrate.RollBack{RoundRef: p.round, BringWrites: true, Request: request})
		switch {
		case c.left < 0 && cut >= 0:
			return report, true
		case err != nil:
			p.t.Fatal(err)
		case report.Done || report.Refused:
			return report, false
		}
		p.failback(how, "the source's store is full")
		p.step()
	}
	p.t.Fatalf("it comes to no end: %+v", p.standby().Status)
	return migrate.RollBackReport{}, false
}

func (p *played) epoch() snapshot.Epoch {
	p.t.Helper()
	key, err := p.peer.EpochPublicKey()
	p.must(err)
	e, err := snapshot.EpochOf(p.t.Context(), p.bucket, "cms/cms", key)
	p.must(err)
	return e
}

// TestRollBackBringsWrites fails the application back before the round is taken back,
// and takes nothing back where that fails; killed at each of its writes it is done once.
func TestRollBackBringsWrites(t *testing.T) {
	p := handedOver(t)
	p.agent.ClusterID = "target-id"
	if chosen := p.standby().Spec.Selection; chosen == nil || len(chosen.ExcludeResourceTypes) != 1 || chosen.ExcludeResourceTypes[0] != "Secret" {
		t.Errorf("what the source selected is forgotten: %+v", chosen)
	}
	malformed := migrate.Begin{RoundRef: p.round, Selection: []byte("{")}
	if err := p.target.Begin(t.Context(), malformed); !errors.Is(err, pairing.ErrRequest) {
		t.Errorf("a selection that is none: %v", err)
	}
	if report, _ := p.bringBack(1, "", -1); !report.Refused || !strings.Contains(report.Message, "no pair of namespace cms leads from cluster target-id back") {
		t.Fatalf("%+v", report)
	}
	if p.isMoved(); p.epoch().Number != 0 || p.failback("", "") != 0 {
		t.Error("something was begun")
	}
	p.leadsBack()
	if report, _ := p.bringBack(2, api.ActionStatusFailed, -1); !report.Refused || !strings.Contains(report.Message, "the source's store is full") {
		t.Fatalf("%+v", report)
	}
	if p.isMoved(); p.epoch().Cluster != "target-id" {
		t.Errorf("the application is of %+v", p.epoch())
	}
	if report, err := p.target.RollBack(t.Context(), migrate.RollBack{RoundRef: p.round, DropWrites: true, Request: 3}); err != nil || !report.Refused || !strings.Contains(report.Message, "bringTargetWrites again") {
		t.Errorf("to drop them then: %+v, %v", report, err)
	}
	var report migrate.RollBackReport
	for cut, killed := 0, true; killed; cut++ {
		report, killed = p.bringBack(4, api.ActionStatusSuccessful, cut)
	}
	if !report.Done || !strings.Contains(report.Message, "what was written since is at the source") || !strings.Contains(report.Message, "1 volumes are kept") {
		t.Errorf("%+v", report)
	}
	p.isBack(true)
	if n := p.failback("", ""); n != 2 {
		t.Errorf("%d Actions were made", n)
	}
	if s := p.standby(); s.Spec.Activation != nil || s.Status.Epoch != 0 || meta.IsStatusConditionTrue(s.Status.Conditions, "EpochRaised") {
		t.Errorf("the standby is active still: %+v", s)
	}
	for range 20 {
		done, err := p.target.Cancel(t.Context(), migrate.Cancel{RoundRef: p.round})
		p.must(err)
		if done {
			return
		}
		p.step()
	}
	t.Errorf("the Migration cannot be deleted: %+v", p.standby())
}

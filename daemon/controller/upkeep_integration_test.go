package controller_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// kept is the rig's repository with an owner of its maintenance.
type kept struct {
	repository
	maintained *int
	err        error
}

func (k kept) Maintain(context.Context, snapshot.MaintainRequest) (snapshot.Maintained, error) {
	*k.maintained++
	return snapshot.Maintained{Mode: snapshot.MaintenanceFull}, k.err
}

type keptOpener struct {
	opener
	kept
}

func (o keptOpener) Open(context.Context, snapshot.Location, bool) (snapshot.Repository, error) {
	return o.kept, nil
}

// answers is a target that says err to whoever asks.
type answers struct {
	remote
	err error
}

func (a answers) Target(ctx context.Context, p pairing.Peer) (migrate.Target, error) {
	if a.err == nil {
		return a.remote.Target(ctx, p)
	}
	return refuses{err: a.err}, nil
}

type refuses struct {
	migrate.Target
	err error
}

func (r refuses) Preflight(context.Context, migrate.Preflight) (migrate.Forecast, error) {
	return migrate.Forecast{}, r.err
}

func (r *rig) upkeep(o keptOpener, answer error) *controller.Upkeep {
	return &controller.Upkeep{
		Client: r.client, Live: r.client, Peers: r.migrations.Peers, Remote: answers{r.remote, answer}, Locator: locator{}, Opener: o,
		Events: events.NewFakeRecorder(1000), ClusterID: "east", Namespace: home, Now: func() time.Time { return r.now },
	}
}

func (r *rig) keep(u *controller.Upkeep) *api.RepositoryUpkeep {
	r.t.Helper()
	return r.keepBy(u, "west")
}

func (r *rig) keepBy(u *controller.Upkeep, pair string) *api.RepositoryUpkeep {
	r.t.Helper()
	key := client.ObjectKey{Namespace: r.ns, Name: pair}
	_, err := u.Reconcile(r.t.Context(), ctrl.Request{NamespacedName: key})
	r.must(err)
	var p api.ClusterPair
	r.must(r.client.Get(r.t.Context(), key, &p))
	if p.Status.Upkeep == nil {
		r.t.Fatal("the status says nothing")
	}
	return p.Status.Upkeep
}

func (r *rig) images() int {
	r.t.Helper()
	images, err := r.repository.Images(r.t.Context(), snapshot.Volume{})
	r.must(err)
	return len(images)
}

// TestUpkeep removes what no schedule keeps, and nothing while that could do harm.
func TestUpkeep(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	for i := range 4 {
		r.stage(fmt.Sprintf("stage-%d", i), staged)
		r.now = r.now.Add(time.Minute)
		time.Sleep(time.Second) // The API server tells Migrations apart by whole seconds.
	}
	var pair api.ClusterPair
	r.must(r.client.Get(t.Context(), client.ObjectKey{Namespace: r.ns, Name: "west"}, &pair))
	pair.Status.StorageStatus = api.ClusterPairStatusReady
	r.must(r.client.Status().Update(t.Context(), &pair))
	maintained := 0
	o := keptOpener{opener{r.repository}, kept{repository: repository{Memory: r.repository}, maintained: &maintained}}
	if got := r.keep(r.upkeep(o, nil)); got.RemovedPoints != 0 || got.Points != 4 || got.Failing || got.Done == nil || maintained != 1 {
		t.Fatalf("without a schedule: %+v", got)
	}
	s := &api.MigrationSchedule{}
	s.Namespace, s.Name = r.ns, "dr"
	s.Spec.Continuous = true
	s.Spec.Template.Spec = api.MigrationSpec{ClusterPair: "west", Namespaces: []string{r.ns}}
	s.Spec.RecoveryPoints = &api.RecoveryPointRetention{}
	if err := r.client.Create(t.Context(), s); err == nil || !strings.Contains(err.Error(), "say at least one rule") {
		t.Fatalf("a retention without rules: %v", err)
	}
	s.Spec.RecoveryPoints.Last = 2
	r.must(r.client.Create(t.Context(), s))
	for answer, words := range map[error]string{
		migrate.ErrActivated: "runs on the target", pairing.ErrUnreachable: "may be failing over",
	} {
		if got := r.keep(r.upkeep(o, answer)); got.RemovedPoints != 0 || got.Points != 4 || !strings.Contains(got.Message, words) || got.Failing {
			t.Errorf("the target says %q: %+v", answer, got)
		}
	}
	u := r.upkeep(o, nil)
	got := r.keep(u)
	if got.RemovedPoints != 2 || got.RemovedImages != 2 || got.Points != 2 || got.Message != "" || r.images() != 2 {
		t.Errorf("%d images are left, %+v", r.images(), got)
	}
	if again := r.keep(u); again.RemovedPoints != 2 || again.Points != 2 || r.images() != 2 {
		t.Errorf("again: %+v", again)
	}
	// A round goes on from its base, which is still there.
	if _, transfer := r.stage("later", staged); transfer.Spec.Base == nil {
		t.Error("the base is gone")
	}
	o.err = fmt.Errorf("%w: somebody else does", snapshot.ErrNotOwner)
	if got := r.keep(r.upkeep(o, nil)); got.Failing || !strings.Contains(got.Message, "somebody else") {
		t.Errorf("another owner: %+v", got)
	}
	o.err = fmt.Errorf("the store is full")
	if got := r.keep(r.upkeep(o, nil)); !got.Failing || !strings.Contains(got.Message, "the store is full") {
		t.Errorf("a store in trouble: %+v", got)
	}
}

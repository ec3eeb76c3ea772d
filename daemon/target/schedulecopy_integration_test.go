package target_test

import (
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// TestCopyOfASchedule has two sources bring rounds of schedules: each copy is its own
// pair's, a schedule of this cluster stays as it is, and an application that is
// marked as started here takes no round.
func TestCopyOfASchedule(t *testing.T) {
	v := newVictim(t)
	a := v.pair(t, pairing.Scope{Namespaces: []string{"cms", "nosuch"}})
	b := v.pairBy(t, sourceOf("another-id"), pairing.Scope{Namespaces: []string{"cms"}})
	begin := func(from *attacker, application, schedule, template string) error {
		namespace, _, _ := strings.Cut(application, "/")
		return from.target.Begin(t.Context(), migrate.Begin{
			RoundRef: migrate.RoundRef{Application: application, Round: "r1", Namespaces: []string{namespace}}, Stage: true,
			Schedule: &migrate.Schedule{Name: schedule, Policy: "daily", AutoSuspend: true, Template: []byte(template)},
		})
	}
	good := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) api.MigrationSchedule {
		t.Helper()
		var s api.MigrationSchedule
		good(v.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: name}, &s))
		return s
	}
	own := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "own"}}
	own.Spec.Template.Spec.ClusterPair, own.Spec.Template.Spec.Namespaces = "back", []string{"cms"}
	v.create(t, own)
	const template = `{"clusterPair":"west","namespaces":["cms"]}`

	good(begin(a, "cms/one", "nightly", template))
	if s := read("nightly"); !s.IsCopy() || !*s.Spec.Suspend || !s.Spec.AutoSuspend || s.Spec.SchedulePolicyName != "daily" || s.Spec.Template.Spec.ClusterPair != "west" {
		t.Errorf("the copy is %+v", s)
	}
	good(begin(a, "cms/one", "nightly", `{"clusterPair":"far-west","namespaces":["cms"],"application":"one"}`))
	if s := read("nightly"); s.Spec.Template.Spec.ClusterPair != "far-west" || s.Spec.Template.Spec.Application != "one" {
		t.Errorf("the copy does not follow the template: %+v", s.Spec)
	}
	still := read("nightly").ResourceVersion
	good(begin(a, "cms/one", "nightly", `{"clusterPair":"far-west","namespaces":["cms"],"application":"one"}`))
	if now := read("nightly").ResourceVersion; now != still {
		t.Error("a copy that is as it should be is written again")
	}
	good(begin(b, "cms/one", "nightly", template))
	good(begin(a, "cms/two", "own", template))
	if n, o := read("nightly"), read("own"); n.Spec.Template.Spec.ClusterPair != "far-west" || o.IsCopy() || o.Spec.Template.Spec.ClusterPair != "back" {
		t.Errorf("what is another's was changed: %+v %+v", n, o)
	}
	good(begin(a, "nosuch/three", "nightly", template))
	var none api.MigrationSchedule
	if err := v.client.Get(t.Context(), client.ObjectKey{Namespace: "nosuch", Name: "nightly"}, &none); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	if err := begin(a, "cms/one", "nightly", "no JSON"); err == nil {
		t.Error("a template that cannot be read is taken")
	}

	s := read("nightly")
	s.Status.ApplicationActivated = true
	good(v.client.Status().Update(t.Context(), &s))
	preflight := func(from *attacker, application string) error {
		_, err := from.target.Preflight(t.Context(), migrate.Preflight{Application: application, Namespaces: []string{"cms"}})
		return err
	}
	for _, err := range []error{begin(a, "cms/one", "nightly", template), preflight(a, "cms/one")} {
		if !errors.Is(err, migrate.ErrActivated) || !strings.Contains(err.Error(), "deactivate migration -n cms") {
			t.Errorf("a round of what was started here: %v", err)
		}
	}
	good(errors.Join(preflight(a, "cms/two"), preflight(b, "cms/one")))
	if got := read("nightly"); got.Spec.Template.Spec.ClusterPair != "far-west" || !got.Status.ApplicationActivated {
		t.Errorf("a refused round changed the copy: %+v", got)
	}
}

// TestWhoMayAskForAFailover has schedules of this cluster failed over by those that
// they replicate to, and by others.
func TestWhoMayAskForAFailover(t *testing.T) {
	v := newVictim(t)
	a := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}})
	b := v.pairBy(t, sourceOf("another-id"), pairing.Scope{Namespaces: []string{"cms"}})
	if _, err := v.peers.Put(t.Context(), pairing.Peer{PairID: "out", Direction: pairing.Outgoing, Namespace: "cms", Name: "there", ClusterID: "source-id"}); err != nil {
		t.Fatal(err)
	}
	for name, namespaces := range map[string][]string{"dr": {"cms"}, "wide": {"cms", "shop"}, "copied": {"cms"}} {
		s := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: name}}
		s.Spec.Template.Spec.ClusterPair, s.Spec.Template.Spec.Namespaces = "there", namespaces
		if name == "copied" {
			s.Annotations = map[string]string{api.AnnotationStaticCopy: "true"}
		}
		v.create(t, s)
	}
	ask := func(from *attacker, schedule string, started bool, namespaces ...string) (migrate.FailOverReport, error) {
		return from.target.FailOver(t.Context(), migrate.FailOver{Schedule: schedule, Namespaces: namespaces, Request: "wish", Started: started})
	}
	actions := func() []api.Action {
		t.Helper()
		var list api.ActionList
		if err := v.client.List(t.Context(), &list); err != nil {
			t.Fatal(err)
		}
		return list.Items
	}
	for name, c := range map[string]struct {
		from       *attacker
		schedule   string
		started    bool
		namespaces []string
		want       string
	}{
		"another cluster":        {b, "cms/dr", false, []string{"cms"}, "MigrationSchedule cms/dr does not replicate to cluster another-id"},
		"no schedule":            {a, "cms/none", false, []string{"cms"}, "MigrationSchedule cms/none is not on cluster"},
		"a copy":                 {a, "cms/copied", false, []string{"cms"}, "is a copy itself"},
		"more than it may see":   {a, "cms/wide", false, []string{"cms"}, "shop"},
		"elsewhere":              {a, "shop/dr", false, []string{"shop"}, "shop"},
		"of which nothing stays": {a, "cms/dr", true, []string{"cms"}, "was deleted on cluster"},
	} {
		report, err := ask(c.from, c.schedule, c.started, c.namespaces...)
		said := report.Message
		if err != nil {
			said = err.Error()
		}
		if report.Good || err == nil && !report.Ended || !strings.Contains(said, c.want) || len(actions()) != 0 {
			t.Errorf("%s: %+v, %v; want %q and no Action (%d)", name, report, err, c.want, len(actions()))
		}
	}
	for range 2 {
		if report, err := ask(a, "cms/dr", false, "cms"); err != nil || report.Ended {
			t.Fatalf("%+v, %v", report, err)
		}
	}
	made := actions()
	if len(made) != 1 || made[0].Annotations[api.AnnotationAskedBy] != "source-id" || made[0].Spec.ActionParameter.FailoverParameter.MigrationScheduleReference != "dr" {
		t.Fatalf("made %+v", made)
	}
	made[0].Status.Stage, made[0].Status.Status, made[0].Status.Reason = api.ActionStageFinal, api.ActionStatusFailed, "no room"
	if err := v.client.Status().Update(t.Context(), &made[0]); err != nil {
		t.Fatal(err)
	}
	if report, err := ask(a, "cms/dr", true, "cms"); err != nil || !report.Ended || report.Good || report.Message != "no room" {
		t.Errorf("%+v, %v", report, err)
	}
}

package cli

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func (c *cluster) testFailover(t *testing.T) {
	c.bad(t, "perform failover -m shop/shop", "this cluster keeps no standby of shop/shop (it keeps: none)")
	round := time.Now().Add(-2*time.Minute).UTC().Format("20060102T150405Z") + "-abc"
	s := &api.Standby{
		ObjectMeta: metav1.ObjectMeta{Namespace: "godwit-system", Name: "shop-shop-1"},
		Spec:       api.StandbySpec{PairID: "p", Application: "shop/shop", Round: round, Namespaces: []string{"shop"}, Stage: true},
	}
	c.create(t, s)
	s.Status = api.StandbyStatus{Phase: api.StandbyReady, Round: round, Bringing: round}
	if err := c.client.Status().Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := c.good(t, "perform failover -m shop/shop --dry-run"); !strings.Contains(got, "the round that is here whole is "+round+", 2m") ||
		!strings.Contains(got, "what was written on the source since its snapshots is not in it") {
		t.Errorf("dry run: %q", got)
	}
	c.testRecoveryPoints(t, s)
	c.testOlderRoundHere(t, s)
	c.testDrill(t)
	key := client.ObjectKeyFromObject(s)
	if err := c.client.Get(t.Context(), key, s); err != nil || s.Spec.Activation != nil {
		t.Fatalf("a dry run activates: %v %+v", err, s.Spec)
	}
	done := make(chan result, 1)
	go func() { done <- c.run(t, "perform failover -n shop -m shop") }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s.Spec.Activation == nil {
		<-tick.C
		if err := c.client.Get(t.Context(), key, s); err != nil {
			t.Fatal(err)
		}
	}
	s.Status.Activating = true
	if err := c.client.Status().Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.code != 0 || !strings.Contains(got.out, "Started failover for shop/shop") || !strings.HasSuffix(got.out, "Failover of shop/shop completed successfully\n") {
		t.Errorf("failover: %+v", got)
	}
	if got := c.good(t, "perform failover -m shop-shop-1"); strings.Contains(got, "Started") || !strings.Contains(got, "completed successfully") {
		t.Errorf("again: %q", got)
	}
}

// testRecoveryPoints lists what the target knows to be in the repository, and holds
// --to against it.
func (c *cluster) testRecoveryPoints(t *testing.T, s *api.Standby) {
	t.Helper()
	if got := c.run(t, "get recoverypoints shop/shop"); got.code != 0 || !strings.Contains(got.err, "has not been read yet") {
		t.Errorf("before the store was read: %+v", got)
	}
	now := metav1.Now()
	taken := metav1.NewTime(now.Add(-3 * time.Minute))
	s.Status.Points = &api.RecoveryPoints{Listed: &now, Total: 3, Items: []api.RecoveryPoint{
		{Round: s.Status.Round, Taken: &taken, Sealed: &now, SizeBytes: 3 << 30, Volumes: 2, Seal: api.SealValid},
		{Round: "forged", Seal: api.SealRefused, Reason: "signature does not match"},
		{Round: "older", Taken: &taken, Sealed: &taken, SizeBytes: 1 << 30, Volumes: 1, Seal: api.SealValid},
	}}
	if err := c.client.Status().Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	got := c.good(t, "get recoverypoints")
	for _, words := range []string{"ROUND", s.Status.Round, "3m", "3.0 GiB", "Valid", "yes", "Refused"} {
		if !strings.Contains(got, words) {
			t.Errorf("the list does not say %q:\n%s", words, got)
		}
	}
	if got := c.good(t, "get recoverypoints shop-shop-1 -o json"); !strings.Contains(got, `"round": "forged"`) || !strings.Contains(got, `"application": "shop/shop"`) {
		t.Errorf("as JSON: %s", got)
	}
	c.bad(t, "perform failover -m shop/shop --to forged", "round forged of shop/shop is not to be used: signature does not match")
	c.bad(t, "perform failover -m shop/shop --to nonsense", "round nonsense of shop/shop is not in the repository (there: "+s.Status.Round+", older)")
}

// testOlderRoundHere names a round that only the target has, in snapshots.
func (c *cluster) testOlderRoundHere(t *testing.T, s *api.Standby) {
	t.Helper()
	c.bad(t, "perform failover -m shop/shop --to kept --dry-run", "round kept of shop/shop is not in the repository")
	s.Status.Snapshots = []api.StandbySnapshot{{Round: "kept", Ready: true}}
	if err := c.client.Status().Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := c.good(t, "perform failover -m shop/shop --to kept --dry-run"); !strings.Contains(got, "Round kept is activated, by volumes that are made of the snapshots") {
		t.Errorf("a round in snapshots: %q", got)
	}
}

func (c *cluster) testDrill(t *testing.T) {
	t.Helper()
	c.bad(t, "drill start", "drill start takes one application")
	c.bad(t, "drill start shop/shop --namespace-mapping other=x", "shop/shop has no namespace other (it has: shop)")
	c.bad(t, "drill start shop/shop -n shop", "a drill is opened beside the application, not in its namespaces")
	if got := c.good(t, "drill start shop/shop --wait=false --every-hours 24"); !strings.Contains(got, "Started drill shop-drill of shop/shop in shop-drill") {
		t.Errorf("start: %q", got)
	}
	c.bad(t, "drill start shop/shop -n shop-drill", "already exists")
	d := &api.Drill{ObjectMeta: metav1.ObjectMeta{Namespace: "godwit-system", Name: "shop-drill"}}
	if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil || d.Spec.IntervalHours != 24 || d.Spec.Namespaces["shop"] != "shop-drill" {
		t.Fatalf("it asks for %+v (%v)", d.Spec, err)
	}
	now := metav1.Now()
	d.Status = api.DrillStatus{Phase: api.DrillSucceeded, Round: "r", Ready: "2/2", Seconds: 42, Started: &now, Ended: &now, LastSuccess: &now}
	if err := c.client.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := c.good(t, "get drill"); !strings.Contains(got, "Succeeded") || !strings.Contains(got, "42s") || !strings.Contains(got, "2/2") {
		t.Errorf("the list: %s", got)
	}
	c.good(t, "drill stop shop-drill -n shop-drill")
	c.bad(t, "drill stop shop-drill", "not")
}

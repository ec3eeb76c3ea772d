package node

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// limit makes, changes or (by nil) deletes the TransferLimit, and has the node
// look at them.
func (r *rig) limit(spec *api.TransferLimitSpec) {
	r.t.Helper()
	ctx := r.t.Context()
	key := types.NamespacedName{Namespace: home, Name: api.TransferLimitName}
	l := &api.TransferLimit{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	r.must(client.IgnoreNotFound(r.client.Delete(ctx, l)))
	if spec != nil {
		l = &api.TransferLimit{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: *spec}
		r.must(r.client.Create(ctx, l))
	}
	reconciler := &limitsReconciler{client: r.client, events: r.events, node: "n1", limiters: r.limiters}
	_, err := reconciler.Reconcile(ctx, ctrl.Request{NamespacedName: key})
	r.must(err)
}

// TestPausedTransferWaits holds a transfer back for longer than there is
// patience, and lets it go.
func TestPausedTransferWaits(t *testing.T) {
	for what, spec := range map[string]api.TransferLimitSpec{
		"the store":   {Store: api.TransferRate{Paused: true}},
		"the volumes": {Volumes: api.TransferRate{Paused: true}},
		"the store, whatever windows say": {Store: api.TransferRate{Paused: true}, Windows: []api.TransferWindow{
			{From: "00:00", To: "24:00", Store: &api.TransferRate{}},
		}},
		"a window of all day": {Windows: []api.TransferWindow{
			{From: "00:00", To: "24:00", Store: &api.TransferRate{Paused: true}},
		}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			// Longer than opening a repository takes on a machine that has much to do.
			r.patience = 15 * time.Second
			content := make([]byte, 4<<20)
			copy(content[1<<20:], "what is in the volume")
			r.publish("pv", content)
			d := r.daemon()
			r.limit(&spec)
			r.upload("up", "pv", "r1")
			d.see("up")
			r.eventually("it says that it is paused", func() bool { return r.get("up").Status.Message == pausedMessage })
			began := time.Now()
			r.eventually("it waits for longer than there is patience", func() bool { return time.Since(began) > r.patience+2*time.Second })
			if s := r.get("up").Status; s.Phase != api.TransferRunning || s.Attempts != 1 || s.Message != pausedMessage {
				t.Fatalf("after %s: %+v", time.Since(began), s)
			}
			r.limit(nil)
			r.eventually("it ends", func() bool { return r.get("up").Status.Phase != api.TransferRunning })
			if s := r.get("up").Status; s.Phase != api.TransferSucceeded || s.Attempts != 1 || s.Message != "" {
				t.Errorf("in the end: %+v", s)
			}
		})
	}
}

// TestLimitsThatSayNothing keeps those before, and tells of it.
func TestLimitsThatSayNothing(t *testing.T) {
	r := newRig(t)
	rate := resource.MustParse("20Mi")
	r.limit(&api.TransferLimitSpec{
		Store: api.TransferRate{BytesPerSecond: &rate, RequestsPerSecond: 7}, TimeZone: "Europe/Madrid",
		Windows: []api.TransferWindow{{From: "22:00", To: "06:30", Volumes: &api.TransferRate{RequestsPerSecond: 3}}},
	})
	madrid, err := time.LoadLocation("Europe/Madrid")
	r.must(err)
	check := func() {
		t.Helper()
		s, v := r.limiters.Store.Limits(), r.limiters.Volumes.Limits()
		if s.Rate != (snapshot.Rate{Bytes: 20 << 20, Requests: 7}) || s.Zone.String() != madrid.String() {
			t.Errorf("store: %+v", s)
		}
		want := snapshot.Window{From: 22 * time.Hour, To: 6*time.Hour + 30*time.Minute, Rate: snapshot.Rate{Requests: 3}}
		if len(v.Windows) != 1 || v.Windows[0] != want || v.Rate != (snapshot.Rate{}) {
			t.Errorf("volumes: %+v", v)
		}
	}
	check()
	for say, spec := range map[string]api.TransferLimitSpec{
		"Europe/Atlantis":                       {TimeZone: "Europe/Atlantis"},
		"spec.store: bytesPerSecond 0":          {Store: api.TransferRate{BytesPerSecond: &resource.Quantity{}}},
		"spec.windows[0].to: \"25:00\"":         {Windows: []api.TransferWindow{{From: "01:00", To: "25:00"}}},
		"spec.windows[0].store: bytesPerSecond": {Windows: []api.TransferWindow{{From: "01:00", To: "02:00", Store: &api.TransferRate{BytesPerSecond: &resource.Quantity{}}}}},
	} {
		r.limit(&spec)
		check()
		select {
		case e := <-r.events.Events:
			if !strings.Contains(e, "LimitsNotUsed") || !strings.Contains(e, say) || !strings.Contains(e, "n1") {
				t.Errorf("event %q, and it should say %q", e, say)
			}
		default:
			t.Errorf("no event tells that the limits are not used: %s", say)
		}
	}
	r.limit(nil)
	if s := r.limiters.Store.Limits(); s.Rate != (snapshot.Rate{}) || len(s.Windows) != 0 {
		t.Errorf("without TransferLimit: %+v", s)
	}
}

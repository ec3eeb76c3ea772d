package node

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// cable leads to a store, and can be cut.
type cable struct {
	address string
	mu      sync.Mutex
	cut     bool
	ends    map[net.Conn]bool
	// carried counts what came over it.
	carried int64
}

func newCable(t *testing.T, store string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{address: l.Addr().String(), ends: map[net.Conn]bool{}}
	t.Cleanup(func() { _ = l.Close(); c.set(true) })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(conn, store)
		}
	}()
	return c
}

// set cuts the cable, or mends it. What is under way when it is cut is lost.
func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	for end := range c.ends {
		if cut {
			_ = end.Close()
			delete(c.ends, end)
		}
	}
}

func (c *cable) carry(from net.Conn, store string) {
	to, err := net.Dial("tcp", store)
	c.mu.Lock()
	if err != nil || c.cut {
		c.mu.Unlock()
		_ = from.Close()
		return
	}
	c.ends[from], c.ends[to] = true, true
	c.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { c.pass(to, from) })
	both.Go(func() { c.pass(from, to) })
	both.Wait()
}

func (c *cable) pass(to, from net.Conn) {
	n, _ := io.Copy(to, from) // It ends by being cut, or closed.
	_ = to.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.carried += n
	delete(c.ends, from)
}

// far is a rig whose repository is at the other end of a cable.
func far(t *testing.T) (*rig, *cable) {
	t.Helper()
	store := snapshottest.StartObjectStore(t)
	r, c := newRig(t), newCable(t, store.Endpoint)
	location := store.Location(t, "volumes")
	location.Endpoint = c.address
	r.must(r.client.Update(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: secret}, Data: location.Data()}))
	return r, c
}

// TestNetworkIsCut cuts the way to the bucket in the middle of an upload and of an
// apply, for longer than an attempt takes: both go on by themselves when it is back.
func TestNetworkIsCut(t *testing.T) {
	r, c := far(t)
	want := content(1, 24<<20)
	r.publish("pv-src", want)
	during := func(name string, d *daemon) *api.VolumeTransfer {
		t.Helper()
		release := r.devices.hold()
		d.see(name)
		select {
		case <-r.devices.entered:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s never touches its volume", name)
		}
		c.set(true)
		release()
		time.AfterFunc(6*time.Second, func() { c.set(false) })
		return d.persist(name)
	}
	d := r.daemon()
	r.upload("up", "pv-src", "1")
	up := during("up", d).Status
	if up.Phase != api.TransferSucceeded {
		t.Fatalf("the upload ended as %s after %d attempts: %s", up.Phase, up.Attempts, up.Message)
	}
	r.cache = t.TempDir()
	dst := r.publish("pv-dst", content(9, 24<<20))
	r.apply("down", "pv-dst", up.Image, "")
	down := during("down", r.daemon()).Status
	if down.Phase != api.TransferSucceeded {
		t.Fatalf("the apply ended as %s after %d attempts: %s", down.Phase, down.Attempts, down.Message)
	}
	r.wantFile(dst, want)
	t.Logf("%d and %d attempts", up.Attempts, down.Attempts)
}

// TestPatience: attempts alone never end a transfer, and one that gets no further for
// too long ends with what it waits for.
func TestPatience(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) *metav1.Time { at := metav1.NewTime(now.Add(-d)); return &at }
	for name, c := range map[string]struct {
		s    api.VolumeTransferStatus
		want bool
	}{
		"few attempts, long ago":     {api.VolumeTransferStatus{Attempts: 3, StartTime: ago(24 * time.Hour)}, false},
		"many attempts in an outage": {api.VolumeTransferStatus{Attempts: 40, StartTime: ago(24 * time.Hour), LastProgress: ago(10 * time.Minute)}, false},
		"many, and no further":       {api.VolumeTransferStatus{Attempts: 40, StartTime: ago(24 * time.Hour), LastProgress: ago(31 * time.Minute)}, true},
		"many, never any further":    {api.VolumeTransferStatus{Attempts: 10, StartTime: ago(31 * time.Minute)}, true},
	} {
		if got := hopeless(c.s, now, DefaultPatience); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	dog := watchdog{patience: time.Minute}
	for i := range 100 { // A byte a minute moves.
		if err := dog.look(now.Add(time.Duration(i)*time.Minute), snapshot.Stats{Done: int64(i), Total: 1000}); err != nil {
			t.Fatalf("what moves is stuck: %v", err)
		}
	}
	err := dog.look(now.Add(101*time.Minute), snapshot.Stats{Done: 99, Total: 1000})
	if err == nil || !isLasting(err, fewAttempts) || isLasting(err, 1) || !strings.Contains(err.Error(), "after 99 of 1000 bytes") {
		t.Errorf("what is stuck says %v", err)
	}
}

// TestStuck: a device that does not answer ends the attempt with a word, and the
// transfer after a few of them.
func TestStuck(t *testing.T) {
	r := newRig(t)
	r.patience = 1500 * time.Millisecond
	r.publish("pv-src", content(1, size))
	r.upload("up", "pv-src", "1")
	d := r.daemon()
	release := r.devices.hold()
	defer release()
	d.see("up")
	r.eventually("it says that it is stuck", func() bool { return strings.Contains(r.get("up").Status.Message, "nothing has moved for") })
}

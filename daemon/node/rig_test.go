package node

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/blockdev"
	"github.com/godwit-io/godwit/snapshot/kopiastore"
)

const (
	home   = "godwit-system"
	podUID = "11d6"
	secret = "repository"
)

// rig is a cluster with one node, a kubelet's folder and a kopia repository.
type rig struct {
	t       *testing.T
	client  client.Client
	kubelet string
	cache   string
	devices *files
	opener  snapshot.Opener
	events  *events.FakeRecorder
	plain   bool
	places  int
	tracker *storage
	metrics *prometheus.Registry
	// patience is the daemon's; zero for the usual one.
	patience time.Duration
	// limiters are those of every daemon of the node.
	limiters Limiters
	// store is the folder of the repository.
	store string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, api.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	location := snapshot.Location{Type: snapshot.Filesystem, Path: t.TempDir(), Password: "secret"}
	c := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&api.VolumeTransfer{}).
		WithObjects(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: secret}, Data: location.Data()}).Build()
	limiters, err := NewLimiters()
	if err != nil {
		t.Fatal(err)
	}
	return &rig{
		store: location.Path, limiters: limiters,
		t: t, client: c, kubelet: t.TempDir(), cache: t.TempDir(), devices: &files{}, opener: kopiastore.New(kopiastore.WithLimiter(limiters.Store)),
		events: events.NewFakeRecorder(1000), plain: true, places: 2, tracker: &storage{},
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// daemon is one life of the node's daemon.
type daemon struct {
	*Reconciler
	rig *rig
	// kill ends its context, wait waits for all that it runs.
	kill, wait func()
	turn       func(context.Context, types.NamespacedName) (ctrl.Result, error)
}

func (r *rig) daemon() *daemon {
	r.t.Helper()
	return r.daemonWith(r.devices)
}

func (r *rig) daemonWith(devices Devices) *daemon {
	r.t.Helper()
	r.metrics = prometheus.NewRegistry()
	reconciler, err := newReconciler(r.client, r.client, r.events, time.Now, Config{
		NodeName: "n1", ClusterID: "c1", Namespace: home, KubeletDir: r.kubelet, Opener: r.opener, Devices: devices,
		CacheDir: r.cache, Transfers: r.places, PlainFiles: r.plain, Patience: r.patience, Limiters: r.limiters,
		Tracker: r.tracker, Metrics: r.metrics,
	})
	r.must(err)
	ctx, cancel := context.WithCancel(r.t.Context())
	// As a controller does: one object is looked at by one turn at a time, and again
	// after a conflict.
	var one sync.Mutex
	turn := func(ctx context.Context, key types.NamespacedName) (ctrl.Result, error) {
		one.Lock()
		defer one.Unlock()
		for {
			result, err := reconciler.Reconcile(ctx, ctrl.Request{NamespacedName: key})
			if !apierrors.IsConflict(err) {
				return result, err
			}
		}
	}
	var all sync.WaitGroup
	all.Go(func() { _ = reconciler.work.Start(ctx) })
	all.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-reconciler.work.wake:
				_, err := turn(ctx, client.ObjectKeyFromObject(e.Object))
				if err != nil && ctx.Err() == nil {
					r.t.Errorf("reconcile: %v", err)
				}
			}
		}
	})
	r.t.Cleanup(func() { cancel(); all.Wait() })
	return &daemon{reconciler, r, cancel, all.Wait, turn}
}

// see plays the watch: the daemon looks at a transfer that has changed.
func (d *daemon) see(name string) ctrl.Result {
	d.rig.t.Helper()
	result, err := d.turn(d.rig.t.Context(), types.NamespacedName{Namespace: home, Name: name})
	d.rig.must(err)
	return result
}

func (r *rig) get(name string) *api.VolumeTransfer {
	r.t.Helper()
	var t api.VolumeTransfer
	r.must(r.client.Get(r.t.Context(), types.NamespacedName{Namespace: home, Name: name}, &t))
	return &t
}

func (r *rig) eventually(what string, holds func() bool) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// finish lets the daemon work until the transfer is final.
func (d *daemon) finish(name string) *api.VolumeTransfer {
	d.rig.t.Helper()
	d.see(name)
	d.rig.eventually("transfer "+name+" is final", func() bool { return isFinal(d.rig.get(name).Status.Phase) })
	return d.rig.get(name)
}

// ended says that the transfer has phase p and nothing works on it.
func (d *daemon) ended(name string, p api.TransferPhase) bool {
	t := d.rig.get(name)
	return t.Status.Phase == p && !d.work.running(t.UID)
}

// publish puts a file where kubelet puts the device of a volume.
func (r *rig) publish(pv string, content []byte) string {
	r.t.Helper()
	dir := filepath.Join(r.kubelet, "plugins/kubernetes.io/csi/volumeDevices/publish", pv)
	r.must(os.MkdirAll(dir, 0o755))
	path := filepath.Join(dir, podUID)
	r.must(os.WriteFile(path, content, 0o600))
	return path
}

func (r *rig) transfer(name string, spec api.VolumeTransferSpec) {
	r.t.Helper()
	spec.Node, spec.RepositorySecret = "n1", secret
	spec.Volume = api.TransferVolume{Cluster: "c1", Namespace: "cms", Name: "data"}
	if spec.Mount.Mode == "" {
		spec.Mount.Mode = modeBlock
	}
	spec.Mount.PodUID = podUID
	r.must(r.client.Create(r.t.Context(), &api.VolumeTransfer{
		ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: name, UID: types.UID("uid-" + name)}, Spec: spec,
	}))
}

func (r *rig) upload(name, pv, round string) {
	r.t.Helper()
	r.transfer(name, api.VolumeTransferSpec{Direction: api.Upload, Round: round, Mount: api.VolumeMount{PersistentVolume: pv}})
}

func (r *rig) apply(name, pv, image, from string) {
	r.t.Helper()
	r.transfer(name, api.VolumeTransferSpec{Direction: api.Apply, Round: "r", Image: image, From: from, Mount: api.VolumeMount{PersistentVolume: pv}})
}

// content is random, with a hole in the middle.
func content(seed uint64, size int) []byte {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = source.Read(b)
	clear(b[size/4 : size/2])
	return b
}

func (r *rig) wantFile(path string, want []byte) {
	r.t.Helper()
	got, err := os.ReadFile(path)
	r.must(err)
	if !bytes.Equal(got, want) {
		r.t.Fatalf("%s has other bytes than were uploaded", path)
	}
}

// files opens devices and files. While gate is set, every read and write waits
// for it to be closed; entered tells of the first.
type files struct {
	mu      sync.Mutex
	gate    chan struct{}
	entered chan struct{}
	// silent is for devices that do not tell what they have allocated.
	silent bool
}

func (d *files) hold() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := make(chan struct{})
	d.gate, d.entered = gate, make(chan struct{}, 1000)
	return sync.OnceFunc(func() {
		d.mu.Lock()
		d.gate = nil
		d.mu.Unlock()
		close(gate)
	})
}

func (d *files) wait() {
	d.mu.Lock()
	gate, entered := d.gate, d.entered
	d.mu.Unlock()
	if gate == nil {
		return
	}
	select {
	case entered <- struct{}{}:
	default:
	}
	<-gate
}

func (d *files) Filesystem(r io.ReaderAt) (string, error) {
	if g, ok := r.(gatedSource); ok {
		r = g.Source // What is waited for are the reads of the transfer.
	}
	return blockdev.Filesystem(r)
}

func (d *files) OpenSource(path string) (Source, error) {
	s, err := blockdev.OpenSource(path)
	if err != nil {
		return nil, err
	}
	if d.silent {
		return gatedSource{silent{s}, d}, nil
	}
	return gatedSource{s, d}, nil
}

func (d *files) OpenSink(path string) (Sink, error) {
	s, err := blockdev.OpenSink(path)
	if err != nil {
		return nil, err
	}
	return gatedSink{s, d}, nil
}

type gatedSource struct {
	Source
	files *files
}

func (g gatedSource) ReadAt(b []byte, at int64) (int, error) {
	g.files.wait()
	return g.Source.ReadAt(b, at)
}

type gatedSink struct {
	Sink
	files *files
}

func (g gatedSink) WriteAt(b []byte, at int64) (int, error) {
	g.files.wait()
	return g.Sink.WriteAt(b, at)
}

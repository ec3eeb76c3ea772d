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

	corev1 "k8s.io/api/core/v1"
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
	devices *files
	opener  snapshot.Opener
	events  *events.FakeRecorder
	plain   bool
	places  int
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
	return &rig{
		t: t, client: c, kubelet: t.TempDir(), devices: &files{}, opener: kopiastore.New(),
		events: events.NewFakeRecorder(1000), plain: true, places: 2,
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
}

func (r *rig) daemon() *daemon {
	r.t.Helper()
	reconciler, err := newReconciler(r.client, r.client, r.events, time.Now, Config{
		NodeName: "n1", ClusterID: "c1", Namespace: home, KubeletDir: r.kubelet, Opener: r.opener, Devices: r.devices,
		CacheDir: r.t.TempDir(), Transfers: r.places, PlainFiles: r.plain,
	})
	r.must(err)
	ctx, cancel := context.WithCancel(r.t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = reconciler.work.Start(ctx) })
	all.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-reconciler.work.wake:
				_, err := reconciler.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(e.Object)})
				if err != nil && ctx.Err() == nil {
					r.t.Errorf("reconcile: %v", err)
				}
			}
		}
	})
	r.t.Cleanup(func() { cancel(); all.Wait() })
	return &daemon{reconciler, r, cancel, all.Wait}
}

// see plays the watch: the daemon looks at a transfer that has changed.
func (d *daemon) see(name string) ctrl.Result {
	d.rig.t.Helper()
	result, err := d.Reconcile(d.rig.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: home, Name: name}})
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
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within 20 s: %s", what)
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

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/repository"
	"github.com/godwit-io/godwit/daemon/rpc"
	"github.com/godwit-io/godwit/daemon/target"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	pairingrpc "github.com/godwit-io/godwit/pairing/rpc"
	"github.com/godwit-io/godwit/pairing/secretstore"
	"github.com/godwit-io/godwit/snapshot/csi"
	"github.com/godwit-io/godwit/snapshot/kopiastore"
)

// clusterInfo is the ConfigMap that tells godwitctl about the cluster.
const clusterInfo = "godwit-cluster-info"

// stopGrace is how long running calls may take when the process ends.
const stopGrace = 5 * time.Second

type controllerOptions struct {
	namespace, clusterName, image, cacheDir string
	pairingAddress, advertise               string
	metricsAddress, healthAddress           string
	leaderElect                             bool
	concurrent                              int
}

func controllerCommand() *cobra.Command {
	var o controllerOptions
	cmd := &cobra.Command{
		Use: "controller", Short: "Run the reconcilers, the pairing service and the target agent", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.namespace, "namespace", "godwit-system", "Godwit's own namespace")
	f.StringVar(&o.clusterName, "cluster-name", "", "what people call this cluster; its id when empty")
	f.StringVar(&o.image, "image", "", "image of the holder pods: this program's own")
	f.StringVar(&o.cacheDir, "cache-dir", "", "where repositories cache what they read; a temporary folder when empty")
	f.StringVar(&o.pairingAddress, "pairing-address", ":9310", "address that other clusters' calls come in at")
	f.StringVar(&o.advertise, "advertise", "", "host:port by which other clusters reach --pairing-address")
	f.StringVar(&o.metricsAddress, "metrics-address", ":8080", "address of the metrics; 0 for none")
	f.StringVar(&o.healthAddress, "health-address", ":8081", "address of /healthz and /readyz")
	f.BoolVar(&o.leaderElect, "leader-elect", false, "let only one of several replicas reconcile")
	f.IntVar(&o.concurrent, "concurrent", 4, "how many Migrations and standbys advance at once")
	return cmd
}

// wiring is what the parts of the controller share.
type wiring struct {
	controllerOptions
	mgr       ctrl.Manager
	cluster   workload.Cluster
	clusterID string
	store     *secretstore.Store
	authority *pairing.Authority
	opener    *kopiastore.Opener
	locator   repository.Locator
	snapshots *csi.Snapshots
}

func (o controllerOptions) run(ctx context.Context) error {
	w, err := o.wire(ctx)
	if err != nil {
		return err
	}
	agent := w.agent()
	if err := errors.Join(w.addReconcilers(), agent.SetupWithManager(w.mgr), w.mgr.Add(w.server(agent))); err != nil {
		return fmt.Errorf("set up the controller: %w", err)
	}
	return w.mgr.Start(ctx)
}

func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(clientgoscheme.AddToScheme(s), snapshotv1.AddToScheme(s), api.AddToScheme(s))
}

func (o controllerOptions) wire(ctx context.Context) (*wiring, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	config.QPS, config.Burst = 100, 200
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: o.metricsAddress}, HealthProbeBindAddress: o.healthAddress,
		LeaderElection: o.leaderElect, LeaderElectionID: "godwit-controller", LeaderElectionNamespace: o.namespace,
		LeaderElectionReleaseOnCancel: true,
		// Secrets and pods of a whole cluster do not belong in memory, and the
		// snapshot kinds may not be served at all.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{
			&corev1.Secret{}, &corev1.ConfigMap{}, &corev1.Pod{}, &corev1.Event{}, &storagev1.VolumeAttachment{},
			&snapshotv1.VolumeSnapshot{}, &snapshotv1.VolumeSnapshotContent{}, &snapshotv1.VolumeSnapshotClass{},
		}}},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	w := &wiring{controllerOptions: o, mgr: mgr, opener: kopiastore.New()}
	if err := errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping)); err != nil {
		return nil, err
	}
	if w.cluster, err = newCluster(config); err != nil {
		return nil, err
	}
	return w, w.identify(ctx)
}

func newCluster(config *rest.Config) (workload.Cluster, error) {
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return workload.Cluster{}, fmt.Errorf("connect to the cluster: %w", err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return workload.Cluster{}, fmt.Errorf("connect to the cluster: %w", err)
	}
	return workload.Cluster{Discovery: d, Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))}, nil
}

// identify finds out who this cluster is, and publishes it for godwitctl.
func (w *wiring) identify(ctx context.Context) error {
	direct, err := client.New(w.mgr.GetConfig(), client.Options{Scheme: w.mgr.GetScheme()})
	if err != nil {
		return fmt.Errorf("connect to the cluster: %w", err)
	}
	var system corev1.Namespace
	if err := direct.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, &system); err != nil {
		return fmt.Errorf("read namespace kube-system, whose uid is the cluster's id: %w", err)
	}
	w.clusterID = string(system.UID)
	if w.clusterName == "" {
		w.clusterName = w.clusterID
	}
	w.store = secretstore.New(direct, w.namespace)
	if w.authority, err = w.store.EnsureAuthority(ctx, w.clusterID, time.Now()); err != nil {
		return err
	}
	w.locator = repository.Locator{Reader: direct, Writer: direct, Namespace: w.namespace, Host: w.clusterID, CacheDir: w.cacheDir}
	w.snapshots = csi.New(w.mgr.GetClient(), w.mgr.GetAPIReader(), csi.Config{
		Namespace: w.namespace, HolderImage: w.image, HolderImagePullPolicy: corev1.PullIfNotPresent,
	})
	return w.publish(ctx, direct)
}

func (w *wiring) publish(ctx context.Context, c client.Client) error {
	info := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: clusterInfo}}
	_, err := controllerutil.CreateOrUpdate(ctx, c, info, func() error {
		info.Data = map[string]string{
			"clusterID": w.clusterID, "clusterName": w.clusterName, "endpoint": w.advertise,
			"caFingerprint": w.authority.Fingerprint().String(), "version": version,
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish ConfigMap %s/%s: %w", w.namespace, clusterInfo, err)
	}
	return nil
}

func (w *wiring) addReconcilers() error {
	remotes := rpc.NewRemotes(&pairing.Joiner{
		Peers: w.store.Peers(), Exchange: pairingrpc.Client{Now: time.Now}, ClusterID: w.clusterID, ClusterName: w.clusterName,
		Now: time.Now, Random: rand.Reader,
	}, pairingrpc.Client{Now: time.Now})
	events := w.mgr.GetEventRecorder("godwit")
	locations := &controller.BackupLocations{Client: w.mgr.GetClient(), Locator: w.locator, Opener: w.opener, Events: events, Now: time.Now}
	pairs := &controller.ClusterPairs{
		Client: w.mgr.GetClient(), Peers: w.store.Peers(), Remote: remotes, Locator: w.locator, Opener: w.opener, Events: events,
	}
	migrations := &controller.Migrations{
		Client: w.mgr.GetClient(), Peers: w.store.Peers(), Remote: remotes, Locator: w.locator, Opener: w.opener,
		Snapshots: w.snapshots, Objects: w.cluster, Events: events, ClusterID: w.clusterID,
		Namespace: w.namespace, AdminNamespace: w.namespace, Concurrent: w.concurrent, Now: time.Now,
	}
	return errors.Join(locations.SetupWithManager(w.mgr), pairs.SetupWithManager(w.mgr), migrations.SetupWithManager(w.mgr))
}

func (w *wiring) agent() *target.Agent {
	return &target.Agent{
		Client: w.mgr.GetClient(), Live: w.mgr.GetAPIReader(), Peers: w.store.Peers(), Locator: w.locator, Opener: w.opener,
		Holds: w.snapshots, Objects: w.cluster, Events: w.mgr.GetEventRecorder("godwit"),
		Namespace: w.namespace, Concurrent: w.concurrent, Now: time.Now,
	}
}

// server answers other clusters. Every replica may: all state is in objects.
func (w *wiring) server(agent *target.Agent) manager.Runnable {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	s := pairingrpc.NewServer(pairingrpc.Config{
		Issuer: &pairing.Issuer{
			Grants: w.store.Grants(), Peers: w.store.Peers(), Authority: w.authority, ClusterName: w.clusterName,
			Now: time.Now, Random: rand.Reader,
		},
		Hosts: hosts(w.advertise), StorageCheck: w.checkStorage, Log: log,
	}).GRPC()
	rpc.Register(s, func(p pairing.Peer) migrate.Target { return agent.For(p) })
	return unelected{serve: func(ctx context.Context) error { return listen(ctx, w.pairingAddress, s) }}
}

func hosts(advertise string) []string {
	host, _, err := net.SplitHostPort(advertise)
	if err != nil || host == "" {
		return nil
	}
	return []string{host}
}

// checkStorage says what keeps this cluster from the pair's repository.
func (w *wiring) checkStorage(ctx context.Context, p pairing.Peer) error {
	location, err := w.locator.ForPeer(ctx, p, p.BackupLocation)
	if err != nil {
		return err
	}
	r, err := w.opener.Open(ctx, location, false)
	if err != nil {
		return err
	}
	return r.Close(ctx)
}

// unelected is a runnable that every replica runs.
type unelected struct {
	serve func(context.Context) error
}

func (u unelected) Start(ctx context.Context) error { return u.serve(ctx) }
func (u unelected) NeedLeaderElection() bool        { return false }

func listen(ctx context.Context, address string, s *grpc.Server) error {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for other clusters: %w", err)
	}
	stopped := context.AfterFunc(ctx, func() {
		// Calls are short, and each may be said again: none is worth waiting for long.
		force := time.AfterFunc(stopGrace, s.Stop)
		defer force.Stop()
		s.GracefulStop()
	})
	defer stopped()
	if err := s.Serve(l); err != nil {
		return fmt.Errorf("serve other clusters: %w", err)
	}
	return nil
}

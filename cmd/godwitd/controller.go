package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/spf13/cobra"
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
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
	"github.com/godwit-io/godwit/daemon/hook"
	objectmetrics "github.com/godwit-io/godwit/daemon/metrics"
	"github.com/godwit-io/godwit/daemon/repository"
	"github.com/godwit-io/godwit/daemon/rule"
	"github.com/godwit-io/godwit/daemon/target"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/secretstore"
	"github.com/godwit-io/godwit/snapshot/csi"
	"github.com/godwit-io/godwit/snapshot/kopiastore"
)

// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update,namespace=godwit-system

// clusterInfo is the ConfigMap that tells godwitctl about the cluster.
const clusterInfo = "godwit-cluster-info"

// stopGrace is how long running calls may take when the process ends.
const stopGrace = 5 * time.Second

// scrapeLimit is how long Prometheus may wait for the metrics.
const scrapeLimit = 10 * time.Second

type controllerOptions struct {
	namespace, clusterName, image, cacheDir string
	nodeName                                string
	pairingAddress, advertise, sdkSecret    string
	certificateTTL, grace                   time.Duration
	processOptions
	leaderElect           bool
	mounts                []string
	concurrent, exposures int
	rules, nodeRole       bool
	ruleLimit             time.Duration
	hooks                 bool
	hookRunnerImage       string
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
	f.StringVar(&o.nodeName, "node-name", "", "the node that this runs on, which the OpenStorage SDK tells")
	f.StringVar(&o.image, "image", "", "image of the holder pods: this program's own")
	f.StringVar(&o.cacheDir, "cache-dir", "", "where repositories cache what they read; a temporary folder when empty")
	f.StringArrayVar(&o.mounts, "nfs", nil, "SERVER:/PATH=/FOLDER: an NFS folder that is mounted here and on every node, for BackupLocations of type nfs; may be given again")
	f.StringVar(&o.pairingAddress, "pairing-address", ":9310", "address that other clusters' calls come in at")
	f.StringVar(&o.advertise, "advertise", "", "host:port by which other clusters reach --pairing-address")
	f.StringVar(&o.sdkSecret, "sdk-secret", "godwit-sdk", "Secret of --namespace with the issuer and key of the OpenStorage SDK's tokens; without it the SDK is not served")
	f.DurationVar(&o.certificateTTL, "certificate-ttl", pairing.DefaultCertificateTTL, "how long the certificates of pairs are good; they renew themselves at two thirds")
	f.DurationVar(&o.grace, "renewal-grace", pairing.DefaultGrace, "how long after its end the holder of a certificate's key can still renew it")
	o.addProcess(f)
	f.BoolVar(&o.leaderElect, "leader-elect", false, "let only one of several replicas reconcile")
	f.IntVar(&o.concurrent, "concurrent", 4, "how many Migrations and standbys advance at once")
	f.BoolVar(&o.nodeRole, "node-role", false, "let BackupLocations take keys of the role that the nodes or Godwit's service accounts have (useIam); whoever may make BackupLocations then reaches all that the role opens")
	f.BoolVar(&o.rules, "rules", false, "run the commands of Rules in the pods of applications around their snapshots; whoever may make Migrations and Rules in a namespace can then run commands in its pods")
	f.DurationVar(&o.ruleLimit, "rule-limit", 15*time.Minute, "how long one command of a Rule may take, its hold included")
	f.BoolVar(&o.hooks, "hooks", false, "run hooks of Migrations as Jobs on this cluster, those of sources paired with it too; whoever may make Migrations in a namespace can then run pods in it")
	f.StringVar(&o.hookRunnerImage, "hook-runner-image", "", "image of hooks that name a playbook and no image; it has ansible-playbook")
	f.IntVar(&o.exposures, "exposures", controller.DefaultExposures, "how many volumes of one Migration are exposed to nodes at once")
	return cmd
}

// wiring is what the parts of the controller share.
type wiring struct {
	controllerOptions
	mgr       ctrl.Manager
	cluster   workload.Cluster
	clusterID string
	store     *secretstore.Store
	ring      *pairing.Ring
	changed   chan event.GenericEvent
	opener    *kopiastore.Opener
	locator   repository.Locator
	snapshots *csi.Snapshots
	// runner is nil where hooks are not enabled.
	runner *hook.Runner
}

func (o controllerOptions) run(ctx context.Context) error {
	if err := o.boundMemory(); err != nil {
		return err
	}
	w, err := o.wire(ctx)
	if err != nil {
		return err
	}
	if w.runner, err = w.hookRunner(); err != nil {
		return err
	}
	agent := w.agent()
	server, err := w.server(ctx, agent)
	if err != nil {
		return err
	}
	if err := errors.Join(w.addReconcilers(), w.addIncomingPairs(), w.addMetrics(ctx), agent.SetupWithManager(w.mgr), w.mgr.Add(server)); err != nil {
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
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: o.metricsAddress}, HealthProbeBindAddress: o.healthAddress, PprofBindAddress: o.profileAddress,
		LeaderElection: o.leaderElect, LeaderElectionID: "godwit-controller", LeaderElectionNamespace: o.namespace,
		LeaderElectionReleaseOnCancel: true,
		Controller:                    queues(),
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
	w := &wiring{controllerOptions: o, mgr: tellingManager{mgr}}
	if w.opener, err = openRepositories(mgr); err != nil {
		return nil, err
	}
	if err := errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping)); err != nil {
		return nil, err
	}
	if w.cluster, err = newCluster(config); err != nil {
		return nil, err
	}
	return w, w.identify(ctx)
}

func newCluster(config *rest.Config) (workload.Cluster, error) {
	// An application's objects are many, and few at a time: how many a second is
	// for the server's own fairness to say.
	config = rest.CopyConfig(config)
	config.QPS = -1
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
	if w.ring, err = w.store.EnsureRing(ctx, w.clusterID, time.Now()); err != nil {
		return err
	}
	w.locator = repository.Locator{Reader: direct, Writer: direct, Namespace: w.namespace, Host: w.clusterID, NodeRole: w.nodeRole, CacheDir: w.cacheDir}
	for _, text := range w.mounts {
		m, err := repository.ParseMount(text)
		if err != nil {
			return fmt.Errorf("--nfs: %w", err)
		}
		w.locator.Mounts = append(w.locator.Mounts, m)
	}
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
			"caFingerprint": w.ring.Current().Fingerprint().String(), "version": version,
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish ConfigMap %s/%s: %w", w.namespace, clusterInfo, err)
	}
	return nil
}

// commands runs rules in pods, where that is enabled.
func (w *wiring) commands() (controller.Commands, error) {
	if !w.rules {
		return nil, nil //nolint:nilnil // Rules are refused then.
	}
	shell, err := rule.NewExec(w.mgr.GetConfig())
	if err != nil {
		return nil, err
	}
	return rule.Runner{Shell: shell, Now: time.Now, Limit: w.ruleLimit}, nil
}

// hookRunner runs hooks here, where that is enabled.
func (w *wiring) hookRunner() (*hook.Runner, error) {
	if !w.hooks {
		return nil, nil //nolint:nilnil // Hooks are refused then.
	}
	logs, err := hook.NewPodLogs(w.mgr.GetConfig())
	if err != nil {
		return nil, err
	}
	return &hook.Runner{Client: w.mgr.GetClient(), Live: w.mgr.GetAPIReader(), Logs: logs, PlaybookImage: w.hookRunnerImage}, nil
}

func (w *wiring) addReconcilers() error {
	commands, err := w.commands()
	if err != nil {
		return err
	}
	remotes := w.remotes()
	events := w.mgr.GetEventRecorder("godwit")
	locations := &controller.BackupLocations{Client: w.mgr.GetClient(), Locator: w.locator, Opener: w.opener, Events: events, Now: time.Now}
	pairs := &controller.ClusterPairs{
		Client: w.mgr.GetClient(), Live: w.mgr.GetAPIReader(), Peers: w.store.Peers(), Grants: w.store.Grants(), Exchange: remotes,
		Locator: w.locator, Opener: w.opener, Checker: w.opener, Passwords: w.opener, Events: events, ClusterID: w.clusterID, Namespace: w.namespace,
	}
	migrations := &controller.Migrations{
		Client: w.mgr.GetClient(), Live: w.mgr.GetAPIReader(), Peers: w.store.Peers(), Remote: remotes, Locator: w.locator, Opener: w.opener,
		Exposures: w.exposures, Snapshots: w.snapshots, Objects: w.cluster, Events: events, ClusterID: w.clusterID,
		Namespace: w.namespace, AdminNamespace: w.namespace, Concurrent: w.concurrent, Now: time.Now,
		Commands: commands, CommandLimit: w.ruleLimit,
	}
	if w.runner != nil {
		migrations.Hooks = w.runner
	}
	transformations := &controller.ResourceTransformations{Client: w.mgr.GetClient(), Objects: w.cluster, Events: events, Now: time.Now}
	schedules := &controller.MigrationSchedules{Client: w.mgr.GetClient(), Live: w.mgr.GetAPIReader(), Objects: w.cluster, Events: events, Now: time.Now}
	upkeep := &controller.Upkeep{
		Client: w.mgr.GetClient(), Live: w.mgr.GetAPIReader(), Peers: w.store.Peers(), Remote: remotes, Locator: w.locator, Opener: w.opener,
		Events: events, ClusterID: w.clusterID, Namespace: w.namespace, Now: time.Now,
	}
	actions := &controller.Actions{
		Client: w.mgr.GetClient(), Live: w.mgr.GetAPIReader(), Peers: w.store.Peers(), Remote: remotes, Events: events, Namespace: w.namespace, Now: time.Now,
	}
	return errors.Join(upkeep.SetupWithManager(w.mgr), actions.SetupWithManager(w.mgr), locations.SetupWithManager(w.mgr), pairs.SetupWithManager(w.mgr), migrations.SetupWithManager(w.mgr),
		schedules.SetupWithManager(w.mgr), transformations.SetupWithManager(w.mgr), w.mgr.Add(controller.DefaultPolicies{Client: w.mgr.GetClient()}))
}

// addMetrics tells of objects on every replica: Prometheus asks them all, and
// each reads the same.
func (w *wiring) addMetrics(ctx context.Context) error {
	err := metrics.Registry.Register(&objectmetrics.Collector{
		Reader: w.mgr.GetClient(),
		Bound:  func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, scrapeLimit) },
		Now:    time.Now, Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	})
	if err != nil {
		return fmt.Errorf("register the metrics: %w", err)
	}
	return nil
}

func (w *wiring) agent() *target.Agent {
	return &target.Agent{
		Client: w.mgr.GetClient(), Live: w.mgr.GetAPIReader(), Peers: w.store.Peers(), Locator: w.locator, Opener: w.opener,
		Hooks: w.runner, Holds: w.snapshots, Snapshots: w.snapshots, ClusterID: w.clusterID, Objects: w.cluster, Events: w.mgr.GetEventRecorder("godwit"),
		Namespace: w.namespace, Concurrent: w.concurrent, Now: time.Now,
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	metadatav1 "github.com/kubernetes-csi/external-snapshot-metadata/client/apis/snapshotmetadataservice/v1beta1"
	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/godwit-io/godwit/daemon/node"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/kopiastore"
)

// clusterInfoPoll is how often the controller's word is looked for.
const clusterInfoPoll = time.Second

type nodeOptions struct {
	nodeName, namespace, kubeletDir, cacheDir string
	processOptions
	changedBlocksAccount, memory string
	transfers                    int
	patience                     time.Duration
	plainFiles                   bool
}

func nodeCommand() *cobra.Command {
	var o nodeOptions
	cmd := &cobra.Command{
		Use: "node", Short: "Run the transfers of one node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.nodeName, "node-name", "", "this node's name")
	f.StringVar(&o.namespace, "namespace", "godwit-system", "Godwit's own namespace")
	f.StringVar(&o.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "kubelet's root folder, mounted at the same path")
	f.StringVar(&o.cacheDir, "cache-dir", "", "where repositories cache what they read")
	f.StringVar(&o.changedBlocksAccount, "changed-blocks-account", "godwit-changed-blocks",
		"ServiceAccount in --namespace that storages are asked as; empty asks none which blocks changed")
	f.DurationVar(&o.patience, "patience", node.DefaultPatience, "how long a transfer may get no further before it is given up")
	f.IntVar(&o.transfers, "transfers", 2, "how many transfers run at once")
	f.StringVar(&o.memory, "memory", "512Mi", "memory that transfers take together for what they read and write")
	f.BoolVar(&o.plainFiles, "plain-files", false, "take files for devices and folders for mounts, where kubelet cannot mount")
	o.addProcess(f)
	return cmd
}

func (o nodeOptions) run(ctx context.Context) error {
	if o.nodeName == "" {
		return errors.New("--node-name is empty: give this node's name")
	}
	if err := o.boundMemory(); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	if err := metadatav1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("set up the node: %w", err)
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: o.metricsAddress}, HealthProbeBindAddress: o.healthAddress, PprofBindAddress: o.profileAddress,
		Controller: queues(),
		Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{o.namespace: {}}},
		Client:     client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return fmt.Errorf("connect to the cluster: %w", err)
	}
	mgr = tellingManager{mgr}
	// Health is served meanwhile: a daemon that waits is not a sick one.
	var up atomic.Bool
	setUp := manager.RunnableFunc(func(ctx context.Context) error {
		err := o.setUp(ctx, mgr)
		up.Store(err == nil)
		return err
	})
	if err := errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("set-up", isUp(&up)), mgr.Add(setUp),
	); err != nil {
		return fmt.Errorf("set up the node: %w", err)
	}
	return mgr.Start(ctx)
}

func isUp(up *atomic.Bool) healthz.Checker {
	return func(*http.Request) error {
		if !up.Load() {
			return errors.New("it is not known yet which cluster this is")
		}
		return nil
	}
}

// setUp adds the node's work to a manager that runs already.
func (o nodeOptions) setUp(ctx context.Context, mgr ctrl.Manager) error {
	memory, err := resource.ParseQuantity(o.memory)
	if err != nil {
		return fmt.Errorf("--memory %s: %w", o.memory, err)
	}
	clusterID, err := o.clusterID(ctx, mgr.GetAPIReader())
	if err != nil {
		return err
	}
	limiters, err := node.NewLimiters()
	if err != nil {
		return fmt.Errorf("set up the node: %w", err)
	}
	budget := snapshot.NewBudget(memory.Value())
	opener, err := openRepositories(mgr, kopiastore.WithLimiter(limiters.Store), kopiastore.WithBudget(budget))
	if err != nil {
		return fmt.Errorf("set up the node: %w", err)
	}
	err = node.Setup(mgr, node.Config{
		NodeName: o.nodeName, ClusterID: clusterID, Namespace: o.namespace, KubeletDir: o.kubeletDir, CacheDir: o.cacheDir,
		Transfers: o.transfers, Patience: o.patience, Budget: budget, Limiters: limiters, Opener: opener, Devices: devices{}, PlainFiles: o.plainFiles,
		Tracker: o.tracker(mgr), Metrics: metrics.Registry,
	})
	if err != nil {
		return fmt.Errorf("set up the node: %w", err)
	}
	return nil
}

// tracker asks storages which blocks changed, where it has somebody to ask as.
func (o nodeOptions) tracker(mgr ctrl.Manager) node.Tracker {
	if o.changedBlocksAccount == "" {
		return nil
	}
	return node.Sidecars{Live: mgr.GetAPIReader(), Client: mgr.GetClient(), Namespace: o.namespace, Account: o.changedBlocksAccount}
}

// clusterID is what the controller publishes of itself. Where Godwit has just
// been installed, it comes a moment after the node's daemon: that is waited for.
func (o nodeOptions) clusterID(ctx context.Context, r client.Reader) (string, error) {
	key := client.ObjectKey{Namespace: o.namespace, Name: clusterInfo}
	log := ctrl.Log.WithName("node").WithValues("configMap", key.String())
	tick := time.NewTicker(clusterInfoPoll)
	defer tick.Stop()
	told := ""
	for {
		id, waiting, err := readClusterID(ctx, r, key)
		if err != nil || id != "" {
			return id, err
		}
		if waiting != told {
			told = waiting
			log.Info("waits for the controller to say which cluster this is", "because", waiting)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for ConfigMap %s, which the controller writes when it starts: %w", key, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// readClusterID returns the id, or why there is none yet. What waiting does not
// mend is an error.
func readClusterID(ctx context.Context, r client.Reader, key client.ObjectKey) (id, waiting string, err error) {
	var info corev1.ConfigMap
	err = r.Get(ctx, key, &info)
	switch {
	case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
		return "", "", fmt.Errorf("read ConfigMap %s: check the roles of the node's ServiceAccount: %w", key, err)
	case apierrors.IsNotFound(err):
		return "", "it is not there yet", nil
	case err != nil:
		return "", err.Error(), nil
	case info.Data["clusterID"] == "":
		return "", "it has no clusterID yet", nil
	}
	return info.Data["clusterID"], "", nil
}

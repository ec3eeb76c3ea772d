package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	corev1 "k8s.io/api/core/v1"

	"github.com/godwit-io/godwit/daemon/node"
	"github.com/godwit-io/godwit/snapshot/kopiastore"
)

type nodeOptions struct {
	nodeName, namespace, kubeletDir, cacheDir string
	metricsAddress, healthAddress             string
	transfers                                 int
	plainFiles                                bool
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
	f.IntVar(&o.transfers, "transfers", 2, "how many transfers run at once")
	f.BoolVar(&o.plainFiles, "plain-files", false, "take files for devices and folders for mounts, where kubelet cannot mount")
	f.StringVar(&o.metricsAddress, "metrics-address", ":8080", "address of the metrics; 0 for none")
	f.StringVar(&o.healthAddress, "health-address", ":8081", "address of /healthz and /readyz")
	return cmd
}

func (o nodeOptions) run(ctx context.Context) error {
	if o.nodeName == "" {
		return errors.New("--node-name is empty: give this node's name")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: o.metricsAddress}, HealthProbeBindAddress: o.healthAddress,
		Cache:  cache.Options{DefaultNamespaces: map[string]cache.Config{o.namespace: {}}},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return fmt.Errorf("connect to the cluster: %w", err)
	}
	clusterID, err := o.clusterID(ctx, mgr.GetAPIReader())
	if err != nil {
		return err
	}
	if err := errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("ping", healthz.Ping),
		node.Setup(mgr, node.Config{
			NodeName: o.nodeName, ClusterID: clusterID, Namespace: o.namespace, KubeletDir: o.kubeletDir, CacheDir: o.cacheDir,
			Transfers: o.transfers, Opener: kopiastore.New(), Devices: devices{}, PlainFiles: o.plainFiles,
		}),
	); err != nil {
		return fmt.Errorf("set up the node: %w", err)
	}
	return mgr.Start(ctx)
}

// clusterID is what the controller publishes of itself.
func (o nodeOptions) clusterID(ctx context.Context, r client.Reader) (string, error) {
	var info corev1.ConfigMap
	key := client.ObjectKey{Namespace: o.namespace, Name: clusterInfo}
	if err := r.Get(ctx, key, &info); err != nil {
		return "", fmt.Errorf("read ConfigMap %s, which the controller writes when it starts: %w", key, err)
	}
	return info.Data["clusterID"], nil
}

package node

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// DefaultTransfers is how many transfers a node runs at once unless told otherwise.
const DefaultTransfers = 2

// Source is a device or file that is open for reading.
type Source interface {
	snapshot.Source
	io.Closer
	// Allocated lists what may hold other bytes than zeros; errors.ErrUnsupported
	// where only the storage knows.
	Allocated() ([]snapshot.Extent, error)
}

// Sink is a device or file that is open for writing.
type Sink interface {
	snapshot.Sink
	io.Closer
}

// Devices opens what kubelet published.
type Devices interface {
	OpenSource(path string) (Source, error)
	// OpenSink opens what is there, and makes nothing where nothing is.
	OpenSink(path string) (Sink, error)
	// Filesystem names the filesystem on the device; empty for none that is known.
	Filesystem(r io.ReaderAt) (string, error)
}

// Config says which node this is and what it works with.
type Config struct {
	NodeName string
	// ClusterID tells this cluster's writes to a repository from others'.
	ClusterID string
	// Namespace is Godwit's own; transfers and repository Secrets are there.
	Namespace string
	// KubeletDir is kubelet's root, where this process sees its mounts.
	KubeletDir string
	Opener     snapshot.Opener
	Devices    Devices
	// Tracker asks storages what to read; nil asks none, and volumes are read
	// without their help.
	Tracker Tracker
	// Metrics is where this package's metrics are registered; nil for none.
	Metrics prometheus.Registerer
	// CacheDir keeps what is read from repositories often.
	CacheDir string
	// Patience is how long a transfer may get no further before it is given up; zero
	// for DefaultPatience.
	Patience time.Duration
	// Transfers is how many run at once.
	Transfers int
	// Budget bounds what they hold in memory together; Opener counts files to it too.
	// Nil for one of snapshot.DefaultBudget.
	Budget *snapshot.Budget
	// Limiters bound them together; Opener holds to the one of stores. They follow
	// the TransferLimit of Namespace.
	Limiters Limiters
	// PlainFiles accepts files in place of devices and folders in place of
	// mounts, for clusters whose kubelet cannot mount.
	PlainFiles bool
}

func (c Config) check() error {
	for name, value := range map[string]string{
		"node name": c.NodeName, "cluster id": c.ClusterID, "namespace": c.Namespace, "kubelet folder": c.KubeletDir,
	} {
		if value == "" {
			return fmt.Errorf("set up the node's daemon: it has no %s", name)
		}
	}
	if c.Limiters.Store == nil || c.Limiters.Volumes == nil {
		return errors.New("set up the node's daemon: it has no limiters")
	}
	if c.Opener == nil || c.Devices == nil {
		return errors.New("set up the node's daemon: it has nothing to open repositories or devices with")
	}
	return nil
}

// Setup adds the node's work to the manager. The manager's scheme must know
// package v1alpha1 and client-go's types; its cache may be limited to Namespace.
func Setup(mgr ctrl.Manager, cfg Config) error {
	r, err := newReconciler(mgr.GetClient(), mgr.GetAPIReader(), mgr.GetEventRecorder("godwit-node"), time.Now, cfg)
	if err != nil {
		return err
	}
	if err := mgr.Add(r.work); err != nil {
		return fmt.Errorf("set up the node's daemon: %w", err)
	}
	mine := predicate.NewPredicateFuncs(func(obj client.Object) bool {
		t, ok := obj.(*api.VolumeTransfer)
		return ok && t.Spec.Node == cfg.NodeName && t.Namespace == cfg.Namespace
	})
	err = ctrl.NewControllerManagedBy(mgr).Named("volumetransfer").
		For(&api.VolumeTransfer{}).
		WatchesRawSource(source.Channel(r.work.wake, &handler.EnqueueRequestForObject{})).
		WithEventFilter(mine).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the node's daemon: %w", err)
	}
	limits := &limitsReconciler{client: mgr.GetClient(), events: mgr.GetEventRecorder("godwit-node"), node: cfg.NodeName, limiters: cfg.Limiters}
	if err := limits.setup(mgr, cfg.Namespace); err != nil {
		return fmt.Errorf("set up the node's daemon: %w", err)
	}
	return nil
}

func newReconciler(c client.Client, live client.Reader, recorder events.EventRecorder, now func() time.Time, cfg Config) (*Reconciler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Transfers <= 0 {
		cfg.Transfers = DefaultTransfers
	}
	if cfg.Patience <= 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.Budget == nil {
		cfg.Budget = snapshot.NewBudget(0)
	}
	r := &Reconciler{client: c, live: live, now: now, cfg: cfg}
	counted, err := newMetrics(cfg.Metrics, func() bool { return cfg.Limiters.paused(now()) })
	if err != nil {
		return nil, err
	}
	runner := &runner{client: c, live: live, events: recorder, now: now, cfg: cfg, metrics: counted}
	r.work = newWorker(cfg.Transfers, runner.run)
	return r, nil
}

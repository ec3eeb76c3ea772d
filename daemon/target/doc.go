// Package target owns the agent of the receiving cluster: it admits rounds,
// makes standby volumes and has them brought to a round's images, hands them
// over to the application's claims, and applies the round's objects.
//
// Its words: a Standby is this cluster's copy of one application; a standby
// volume is a claim in Godwit's own namespace until it is handed over, by making
// its storage a PersistentVolume for the application's claim. It never touches
// kopia or a device, and never lets a pod and a transfer at the same volume.
//
// +kubebuilder:rbac:groups=godwit.io,resources=standbies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=godwit.io,resources=drills,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=godwit.io,resources=drills/status,verbs=patch
// +kubebuilder:rbac:groups=godwit.io,resources=standbies/status,verbs=patch
// +kubebuilder:rbac:groups=godwit.io,resources=volumetransfers,verbs=list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumes,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=storage.k8s.io,resources=storageclasses,verbs=get;list;watch
package target

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/hook"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// Locator finds the repository of a pair by way of this side's BackupLocation.
type Locator interface {
	ForPeer(ctx context.Context, p pairing.Peer, backupLocation string) (snapshot.Location, error)
	EnsureSecret(ctx context.Context, p pairing.Peer, backupLocation string) (string, error)
}

// Holds makes kubelet publish a standby volume on a node.
type Holds interface {
	EnsureHold(ctx context.Context, r csi.HoldRequest) (csi.Mounted, error)
	DropHold(ctx context.Context, r csi.HoldRequest) (bool, error)
}

// Snapshots takes CSI snapshots of standby volumes, and lets volumes that an
// application has be read as they are now.
type Snapshots interface {
	Capability(ctx context.Context, pvc *corev1.PersistentVolumeClaim) (csi.Capability, error)
	EnsureSnapshot(ctx context.Context, r csi.SnapshotRequest) (csi.SnapshotState, error)
	LookAtSnapshot(ctx context.Context, o csi.Owner, namespace, name string) (csi.SnapshotState, error)
	EnsureExposure(ctx context.Context, r csi.ExposureRequest) (csi.Mounted, error)
	Release(ctx context.Context, o csi.Owner) (bool, error)
}

// Agent is the target's side of every pair.
type Agent struct {
	Client client.Client
	// Live reads past the cache, where an answer must not be old.
	Live    client.Reader
	Peers   pairing.PeerStore
	Locator Locator
	Opener  snapshot.Opener
	Holds   Holds
	// Snapshots are kept of standbys that ask for it, and let a rollback compare before
	// it takes back.
	Snapshots Snapshots
	// Objects is this cluster as objects are applied to it.
	Objects workload.Cluster
	Events  events.EventRecorder
	// Hooks runs hooks of sources; nil where this installation may not.
	Hooks *hook.Runner
	// ClusterID is this cluster's.
	ClusterID string
	// Namespace is Godwit's own.
	Namespace string
	// Concurrent bounds how many standbys advance at once.
	Concurrent int
	Now        func() time.Time
}

const (
	labelOwner   = "godwit.io/owner"
	labelManaged = "app.kubernetes.io/managed-by"
	labelPair    = "godwit.io/pair"
	managedBy    = "godwit"
	// annotationStandby says for which Standby something was made.
	annotationStandby = "godwit.io/standby"
	standbyPoll       = time.Second
	standbyWait       = 5 * time.Second
)

// Package target owns the agent of the receiving cluster: it admits rounds,
// makes standby volumes and has them brought to a round's images, hands them
// over to the application's claims, and applies the round's objects.
//
// Its words: a Standby is this cluster's copy of one application; a standby
// volume is a claim in Godwit's own namespace until it is handed over, by making
// its storage a PersistentVolume for the application's claim. It never touches
// kopia or a device, and never lets a pod and a transfer at the same volume.
//
// +kubebuilder:rbac:groups=godwit.io,resources=standbies,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=godwit.io,resources=standbies/status;standbies/finalizers,verbs=get;update;patch
// +kubebuilder:rbac:groups=godwit.io,resources=volumetransfers,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumes,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=storage.k8s.io,resources=storageclasses,verbs=get;list;watch
// +kubebuilder:rbac:groups="*",resources="*",verbs=get;list;watch;create;update;patch;delete
package target

import (
	"context"
	"time"

	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// Agent is the target's side of every pair.
type Agent struct {
	Client client.Client
	// Live reads past the cache, where an answer must not be old.
	Live    client.Reader
	Peers   pairing.PeerStore
	Locator Locator
	Opener  snapshot.Opener
	Holds   Holds
	// Objects is this cluster as objects are applied to it.
	Objects workload.Cluster
	Events  events.EventRecorder
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

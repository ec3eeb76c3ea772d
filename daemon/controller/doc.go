// Package controller owns the source's reconcilers: BackupLocation, ClusterPair
// and Migration. Each loads its object, observes the world, lets a pure
// decision name one action, takes it, and writes the status.
//
// Its words are those of migrate and of the custom resources. It never touches
// kopia, grpc or a device: those are handed to it as interfaces.
package controller

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	corev1 "k8s.io/api/core/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// Remote reaches the other clusters of this cluster's pairs.
type Remote interface {
	// Target is the agent on the other side of the pair.
	Target(ctx context.Context, p pairing.Peer) (migrate.Target, error)
}

// Exchange makes pairs with other clusters, and keeps them.
type Exchange interface {
	// Join redeems a token for a ClusterPair, or goes on with a redemption that a
	// crash cut off.
	Join(ctx context.Context, t pairing.Token, p pairing.ClusterPair) (pairing.Peer, error)
	// Check renews the pair's certificate where that is due and asks the target
	// how the pair stands: until when its certificate is good, and what keeps the
	// target from the repository, if anything does.
	Check(ctx context.Context, p pairing.Peer) (expires time.Time, storageProblem string, err error)
	// Move follows a target whose address changed.
	Move(ctx context.Context, p pairing.Peer, endpoint string) (pairing.Peer, error)
	// Rotate replaces the pair's key and certificate.
	Rotate(ctx context.Context, p pairing.Peer) (pairing.Peer, error)
	// ReplacePassword tells the target the next password of the pair's repository.
	ReplacePassword(ctx context.Context, p pairing.Peer) error
	// ReplaceSealingKey tells the target by which key this cluster seals next.
	ReplaceSealingKey(ctx context.Context, p pairing.Peer, c pairing.SealingChange) error
	// Leave tells the target that the pair is over, and closes what is open to it.
	Leave(ctx context.Context, p pairing.Peer) error
}

// Snapshots takes CSI snapshots and exposes them to nodes.
type Snapshots interface {
	Capability(ctx context.Context, pvc *corev1.PersistentVolumeClaim) (csi.Capability, error)
	EnsureTogether(ctx context.Context, requests []csi.SnapshotRequest) ([]csi.Member, error)
	EnsureAlias(ctx context.Context, r csi.ExposureRequest) (waiting string, err error)
	EnsureExposure(ctx context.Context, r csi.ExposureRequest) (csi.Mounted, error)
	Adopt(ctx context.Context, k csi.Kept, from, to csi.Owner) error
	Release(ctx context.Context, o csi.Owner) (bool, error)
}

// Commands carries out the commands of rules in pods, as package rule does.
type Commands interface {
	Advance(ctx context.Context, tasks []api.RuleTask) error
	Release(ctx context.Context, tasks []api.RuleTask) (through bool, err error)
	Clear(ctx context.Context, tasks []api.RuleTask) error
}

// Locator finds the repository of a pair.
type Locator interface {
	Location(ctx context.Context, name types.NamespacedName) (snapshot.Location, error)
	// ForPeer and EnsureSecret take this side's BackupLocation as namespace/name.
	ForPeer(ctx context.Context, p pairing.Peer, backupLocation string) (snapshot.Location, error)
	EnsureSecret(ctx context.Context, p pairing.Peer, backupLocation string) (string, error)
	DeleteSecret(ctx context.Context, pairID string) error
}

// DefaultExposures is how many volumes of one Migration are exposed at once
// unless told otherwise.
const DefaultExposures = 8

// roundStamp begins the names of rounds, so that they sort by time.
const roundStamp = "20060102T150405Z"

// Events tells users what happened to their objects.
type Events = events.EventRecorder

// The labels and annotations that tie what is made to what it was made for.
const (
	labelOwner            = "godwit.io/owner"
	labelManaged          = "app.kubernetes.io/managed-by"
	annotationOwnerName   = "godwit.io/owner-name"
	annotationOwnerNS     = "godwit.io/owner-namespace"
	managedBy             = "godwit"
	clusterPairRecheck    = 30 * time.Second
	backupLocationRecheck = 5 * time.Minute
	backupLocationRetry   = 2 * time.Second
	clusterPairRetry      = 5 * time.Second
	leavePatience         = 5 * time.Second
	migrationPoll         = time.Second
	promptly              = 5 * time.Second
	migrationWait         = 5 * time.Second
	forgetPatience        = 2 * time.Minute
)

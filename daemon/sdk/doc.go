// Package sdk is what stands behind the OpenStorage SDK's services in this
// cluster: pairs are ClusterPairs, credentials are BackupLocations with their
// Secrets, and tasks are Migrations, all in Godwit's own namespace, where
// whoever may use the SDK as an admin is one anyway.
//
// It writes objects and reads them. What they ask for is done by their
// controllers, as if a person had written them.
//
// +kubebuilder:rbac:groups=godwit.io,resources=backuplocations,verbs=create;update;delete,namespace=godwit-system
// +kubebuilder:rbac:groups=godwit.io,resources=migrations,verbs=get;list;create;patch
// +kubebuilder:rbac:groups=godwit.io,resources=clusterpairs,verbs=list;create;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumes,verbs=get;list
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims;nodes,verbs=list
package sdk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// Join redeems a token at the cluster that it names.
type Join func(ctx context.Context, t pairing.Token, p pairing.ClusterPair) (pairing.Peer, error)

// Backend keeps the objects.
type Backend struct {
	// Client reads past any cache: a caller looks at once for what it made.
	Client client.Client
	Peers  pairing.PeerStore
	Grants pairing.GrantStore
	Ring   *pairing.Ring
	Join   Join
	Opener snapshot.Opener
	// Locate resolves a BackupLocation of Namespace.
	Locate func(ctx context.Context, name string) (snapshot.Location, error)
	// Namespace is Godwit's own.
	Namespace   string
	ClusterName string
	// NodeName is the node that this runs on.
	NodeName string
	// Endpoint is where other clusters reach this one; without it no tokens are made.
	Endpoint string
	Now      func() time.Time
	Random   io.Reader
}

const (
	labelMadeBy = "godwit.io/made-by"
	madeBy      = "openstorage-sdk"
	// annotationName keeps a name as its caller spelled it.
	annotationName    = "godwit.io/sdk-name"
	annotationDefault = "godwit.io/sdk-default"
	// prefixID is how Portworx names credentials that are objects.
	prefixID = "k8s/"
)

// objectName makes a name for an object that is the same at each call.
func objectName(kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return "sdk-" + kind + "-" + hex.EncodeToString(sum[:8])
}

func (b *Backend) credentialID(name string) string { return prefixID + b.Namespace + "/" + name }

// locationName is the BackupLocation that a credential id names.
func (b *Backend) locationName(id string) (string, error) {
	name, ok := strings.CutPrefix(id, prefixID+b.Namespace+"/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return "", fmt.Errorf("credential %q is not one of %s%s/NAME", id, prefixID, b.Namespace)
	}
	return name, nil
}

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/godwit-io/godwit/daemon/sdk"
	"github.com/godwit-io/godwit/pairing/openstorage"
	"github.com/godwit-io/godwit/snapshot"
)

// sdkAuthority reads who may sign tokens for the OpenStorage SDK; nil where
// nobody may, since then it is not served.
func (w *wiring) sdkAuthority(ctx context.Context) (*openstorage.Authority, error) {
	var s corev1.Secret
	key := types.NamespacedName{Namespace: w.namespace, Name: w.sdkSecret}
	err := w.locator.Reader.Get(ctx, key, &s)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // nobody, and no error
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s of the OpenStorage SDK: %w", key, err)
	}
	authority, err := openstorage.NewAuthority(time.Now, openstorage.Issuer{
		Name: string(s.Data["issuer"]), SharedSecret: s.Data["sharedSecret"], RSA: s.Data["rsaPublicKey"], ECDSA: s.Data["ecdsaPublicKey"],
	})
	if err != nil {
		return nil, fmt.Errorf("Secret %s of the OpenStorage SDK: %w", key, err)
	}
	return authority, nil
}

// sdk is the OpenStorage SDK over this cluster's objects.
func (w *wiring) sdk() *openstorage.Server {
	b := &sdk.Backend{
		Client: w.locator.Writer, Peers: w.store.Peers(), Grants: w.store.Grants(), Ring: w.ring, Join: w.remotes().Join, Opener: w.opener,
		Locate: func(ctx context.Context, name string) (snapshot.Location, error) {
			return w.locator.Location(ctx, types.NamespacedName{Namespace: w.namespace, Name: name})
		},
		Namespace: w.namespace, ClusterName: w.clusterName, NodeName: w.nodeName, Endpoint: w.advertise, Now: time.Now, Random: rand.Reader,
	}
	return &openstorage.Server{
		Cluster: openstorage.Cluster{ID: w.clusterID, Name: w.clusterName, Version: version},
		Nodes:   sdk.Nodes{Backend: b}, Pairs: sdk.Pairs{Backend: b}, Credentials: sdk.Credentials{Backend: b}, Tasks: sdk.Tasks{Backend: b},
	}
}

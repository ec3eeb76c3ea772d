// Package repository owns the way from a BackupLocation and a pair to the
// snapshot.Location of the pair's repository, and the Secret that hands it to
// the nodes.
//
// Its words: a location is where a repository is and with which keys. It never
// opens one.
package repository

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// ErrConfiguration says that a BackupLocation, or the Secret it names, has to
// be changed by its owner before it can be used.
var ErrConfiguration = errors.New("cannot be used")

// Locator resolves BackupLocations of its cluster.
type Locator struct {
	// Reader reads BackupLocations and the Secrets they name, past any cache.
	Reader client.Reader
	// Writer writes Secrets of Namespace.
	Writer client.Client
	// Namespace is Godwit's own.
	Namespace string
	// Host tells this cluster's writes apart from other clusters'.
	Host string
	// Mounts are the NFS folders that BackupLocations may name.
	Mounts []Mount
	// NodeRole lets BackupLocations take keys of the nodes' role.
	NodeRole bool
	// CacheDir is where the controller's own reads are cached.
	CacheDir string
}

// Location resolves a BackupLocation, without any pair.
func (l Locator) Location(ctx context.Context, name types.NamespacedName) (snapshot.Location, error) {
	var b api.BackupLocation
	err := l.Reader.Get(ctx, name, &b)
	if apierrors.IsNotFound(err) {
		return snapshot.Location{}, fmt.Errorf("BackupLocation %s %w: it does not exist: create it, or correct the pair's option backuplocation", name, ErrConfiguration)
	}
	if err != nil {
		return snapshot.Location{}, fmt.Errorf("read BackupLocation %s: %w", name, err)
	}
	return l.Resolve(ctx, b)
}

// Resolve gives the location that b describes.
func (l Locator) Resolve(ctx context.Context, b api.BackupLocation) (snapshot.Location, error) {
	e := entry{BackupLocation: b, mounts: l.Mounts, nodeRole: l.NodeRole}
	if b.Location.SecretConfig != "" {
		var s corev1.Secret
		key := types.NamespacedName{Namespace: b.Namespace, Name: b.Location.SecretConfig}
		err := l.Reader.Get(ctx, key, &s)
		if apierrors.IsNotFound(err) {
			return snapshot.Location{}, e.refuse("its Secret %s does not exist: create it, or correct location.secretConfig", key.Name)
		}
		if err != nil {
			return snapshot.Location{}, fmt.Errorf("read Secret %s of BackupLocation %s: %w", key, b.Name, err)
		}
		e.secret = s.Data
	}
	return e.resolve()
}

// ForPeer gives the location of the pair's own repository, by way of this
// side's BackupLocation, namespace/name: each side may have its own keys.
func (l Locator) ForPeer(ctx context.Context, p pairing.Peer, backupLocation string) (snapshot.Location, error) {
	namespace, name, found := strings.Cut(backupLocation, "/")
	if !found || name == "" {
		return snapshot.Location{}, fmt.Errorf("pair %s: BackupLocation %q %w: name one as namespace/name", p.PairID, backupLocation, ErrConfiguration)
	}
	loc, err := l.Location(ctx, types.NamespacedName{Namespace: namespace, Name: name})
	if err != nil {
		return snapshot.Location{}, err
	}
	if loc.Type == snapshot.Filesystem {
		loc.Path = path.Join(loc.Path, path.Join("/", p.RepositoryPrefix))
	} else {
		loc.Prefix += p.RepositoryPrefix
	}
	loc.Password = snapshot.Secret(p.RepositoryPassword.Reveal())
	loc.User, loc.Host, loc.CacheDir = "controller", l.Host, l.CacheDir
	return loc, nil
}

// SecretName is the name of the Secret that hands the pair's repository to the nodes.
func SecretName(pairID string) string { return "repository-" + strings.ToLower(pairID) }

// EnsureSecret writes the pair's location where the nodes read it.
func (l Locator) EnsureSecret(ctx context.Context, p pairing.Peer, backupLocation string) (string, error) {
	loc, err := l.ForPeer(ctx, p, backupLocation)
	if err != nil {
		return "", err
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: SecretName(p.PairID)}}
	_, err = controllerutil.CreateOrUpdate(ctx, l.Writer, s, func() error {
		s.Labels = map[string]string{"app.kubernetes.io/managed-by": "godwit", "godwit.io/kind": "repository", "godwit.io/pair": p.PairID}
		s.Data = loc.Data()
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("write Secret %s/%s of pair %s: %w", l.Namespace, s.Name, p.PairID, err)
	}
	return s.Name, nil
}

// DeleteSecret removes what EnsureSecret wrote.
func (l Locator) DeleteSecret(ctx context.Context, pairID string) error {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: SecretName(pairID)}}
	if err := l.Writer.Delete(ctx, s); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete Secret %s/%s: %w", l.Namespace, s.Name, err)
	}
	return nil
}

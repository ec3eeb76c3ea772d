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
	if b.Location.Type != api.S3Location {
		return snapshot.Location{}, fmt.Errorf("BackupLocation %s/%s %w: type %q is not served: use s3", b.Namespace, b.Name, ErrConfiguration, b.Location.Type)
	}
	c := api.S3Config{}
	if b.Location.S3Config != nil {
		c = *b.Location.S3Config
	}
	if b.Location.SecretConfig != "" {
		var s corev1.Secret
		key := types.NamespacedName{Namespace: b.Namespace, Name: b.Location.SecretConfig}
		err := l.Reader.Get(ctx, key, &s)
		if apierrors.IsNotFound(err) {
			return snapshot.Location{}, fmt.Errorf("BackupLocation %s/%s %w: its Secret %s does not exist: create it, or correct location.secretConfig", b.Namespace, b.Name, ErrConfiguration, key.Name)
		}
		if err != nil {
			return snapshot.Location{}, fmt.Errorf("read Secret %s of BackupLocation %s: %w", key, b.Name, err)
		}
		c = fillFromSecret(c, s.Data)
	}
	return s3Location(b, c)
}

func fillFromSecret(c api.S3Config, data map[string][]byte) api.S3Config {
	set := func(field *string, key string) {
		if *field == "" {
			*field = strings.TrimSpace(string(data[key]))
		}
	}
	set(&c.Endpoint, "endpoint")
	set(&c.AccessKeyID, "accessKeyID")
	set(&c.SecretAccessKey, "secretAccessKey")
	set(&c.Region, "region")
	set(&c.CABundle, "caBundle")
	c.DisableSSL = c.DisableSSL || string(data["disableSSL"]) == "true"
	return c
}

func s3Location(b api.BackupLocation, c api.S3Config) (snapshot.Location, error) {
	missing := ""
	switch {
	case c.Endpoint == "":
		missing = "endpoint"
	case c.AccessKeyID == "":
		missing = "accessKeyID"
	case c.SecretAccessKey == "":
		missing = "secretAccessKey"
	}
	if missing != "" {
		return snapshot.Location{}, fmt.Errorf("BackupLocation %s/%s %w: it has no %s: set it in location.s3Config or in its Secret", b.Namespace, b.Name, ErrConfiguration, missing)
	}
	endpoint, plain := strings.CutPrefix(c.Endpoint, "http://")
	endpoint = strings.TrimPrefix(endpoint, "https://")
	bucket, prefix, _ := strings.Cut(strings.Trim(b.Location.Path, "/"), "/")
	if prefix != "" {
		prefix += "/"
	}
	return snapshot.Location{
		Type: snapshot.S3, Endpoint: strings.TrimSuffix(endpoint, "/"), Bucket: bucket, Prefix: prefix, Region: c.Region,
		AccessKeyID: c.AccessKeyID, SecretAccessKey: snapshot.Secret(c.SecretAccessKey),
		CABundle: []byte(c.CABundle), DisableTLS: c.DisableSSL || plain, SkipVerify: c.InsecureSkipVerify,
	}, nil
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
	loc.Prefix += p.RepositoryPrefix
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

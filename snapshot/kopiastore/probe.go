package kopiastore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// reachTimeout bounds the first contact, which is there to fail soon.
	reachTimeout = 30 * time.Second
	// A probe tries twice: once more than a dropped connection needs.
	probeTries = 2
	// connectionBuffer is what a connection reads and writes at once.
	connectionBuffer = 64 << 10
)

// Probe connects, writes, reads and deletes a small object.
func (o *Opener) Probe(ctx context.Context, l snapshot.Location) (snapshot.StoreTraits, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	l = normal(l)
	if err := check(l); err != nil {
		return snapshot.StoreTraits{}, fmt.Errorf("probe %s: %w", describe(l), err)
	}
	if _, err := retention(l); err != nil {
		return snapshot.StoreTraits{}, fmt.Errorf("probe %s: %w", describe(l), err)
	}
	probe := probeBucket
	switch l.Type {
	case snapshot.Filesystem:
		probe = probeFolder
	case snapshot.Azure, snapshot.GCS:
		probe = probeBlobs
	}
	traits, err := probe(ctx, l)
	if err != nil {
		return snapshot.StoreTraits{}, fmt.Errorf("probe %s: %w", describe(l), explain(l, err))
	}
	return traits, nil
}

// reach makes sure that the bucket or folder is there. Kopia would try for
// minutes, and takes a missing bucket for an empty one.
func reach(ctx context.Context, l snapshot.Location, create bool) error {
	if l.Type == snapshot.Filesystem {
		if create {
			return explain(l, os.MkdirAll(l.Path, configDirMode))
		}
		_, err := os.Stat(l.Path)
		return explain(l, err)
	}
	if l.Type == snapshot.Azure || l.Type == snapshot.GCS {
		return explain(l, reachBlobs(ctx, l))
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	client, _, err := newClient(l, probeTries)
	if err != nil {
		return explain(l, err)
	}
	return explain(l, findBucket(ctx, client, l))
}

// newClient makes a client that tries each request so often by itself.
func newClient(l snapshot.Location, tries int) (*minio.Client, *transport, error) {
	base, err := minio.DefaultTransport(!l.DisableTLS)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client for %s: %w", l.Endpoint, err)
	}
	base.ReadBufferSize, base.WriteBufferSize = connectionBuffer, connectionBuffer
	if !l.DisableTLS {
		if base.TLSClientConfig, err = tlsConfig(l); err != nil {
			return nil, nil, err
		}
	}
	transport := &transport{base: base, now: time.Now}
	client, err := minio.New(l.Endpoint, &minio.Options{
		Creds:  keysOf(l),
		Secure: !l.DisableTLS, Region: l.Region, Transport: transport, MaxRetries: tries,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("endpoint %q is not host or host:port: correct it: %w", l.Endpoint, err)
	}
	return client, transport, nil
}

func tlsConfig(l snapshot.Location) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: l.SkipVerify} //nolint:gosec // the user said so
	if len(l.CABundle) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(l.CABundle) {
			return nil, errors.New("cannot parse provided CA bundle")
		}
	}
	return config, nil
}

// findBucket lists instead of asking for the bucket's head, since an answer
// to HEAD has no body to say why it was refused.
func findBucket(ctx context.Context, client *minio.Client, l snapshot.Location) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for object := range client.ListObjects(ctx, l.Bucket, minio.ListObjectsOptions{Prefix: l.Prefix, MaxKeys: 1}) {
		return object.Err
	}
	return ctx.Err()
}

func probeBucket(ctx context.Context, l snapshot.Location) (snapshot.StoreTraits, error) {
	client, transport, err := newClient(l, probeTries)
	if err != nil {
		return snapshot.StoreTraits{}, err
	}
	if err := findBucket(ctx, client, l); err != nil {
		return snapshot.StoreTraits{}, err
	}
	traits := traitsOf(ctx, client, l)
	if l.RetentionPeriod > 0 && traits.ObjectLock == snapshot.TraitOff {
		return traits, errors.New("the bucket was made without object lock, which cannot lock objects: take a bucket that was made with it, or leave the lock out")
	}
	name, content, err := probeObject()
	if err != nil {
		return traits, err
	}
	name = l.Prefix + name
	_, err = client.PutObject(ctx, l.Bucket, name, bytes.NewReader(content), int64(len(content)), probeOptions(l))
	if minio.ToErrorResponse(err).Code == minio.AccessDenied {
		traits.ReadOnly = true
		return traits, transport.checkClock(l)
	}
	if err != nil {
		return traits, fmt.Errorf("write %s: %w", name, err)
	}
	err = readBack(ctx, client, l, name, content)
	if removed := client.RemoveObject(ctx, l.Bucket, name, minio.RemoveObjectOptions{}); removed != nil {
		err = errors.Join(err, fmt.Errorf("delete %s: %w", name, removed))
	}
	if err == nil {
		err = transport.checkClock(l)
	}
	return traits, err
}

// probeOptions write as a repository is written, so that a class or an
// encryption that the store does not take is told when it is asked for.
func probeOptions(l snapshot.Location) minio.PutObjectOptions {
	options := minio.PutObjectOptions{SendContentMd5: true}
	storeAs(l, &options)
	return options
}

// traitsOf asks a bucket how it keeps things. Keys that may not ask are no error.
func traitsOf(ctx context.Context, client *minio.Client, l snapshot.Location) snapshot.StoreTraits {
	var traits snapshot.StoreTraits
	if versioning, err := client.GetBucketVersioning(ctx, l.Bucket); err == nil {
		traits.Versioning = trait(versioning.Enabled())
	}
	enabled, _, _, _, err := client.GetObjectLockConfig(ctx, l.Bucket)
	switch {
	case err == nil:
		traits.ObjectLock = trait(enabled == "Enabled")
	case minio.ToErrorResponse(err).Code == "ObjectLockConfigurationNotFoundError":
		traits.ObjectLock = snapshot.TraitOff
	}
	return traits
}

func trait(on bool) snapshot.Trait {
	if on {
		return snapshot.TraitOn
	}
	return snapshot.TraitOff
}

func readBack(ctx context.Context, client *minio.Client, l snapshot.Location, name string, content []byte) error {
	object, err := client.GetObject(ctx, l.Bucket, name, minio.GetObjectOptions{})
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	got, err := io.ReadAll(object)
	if err = errors.Join(err, object.Close()); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if !bytes.Equal(got, content) {
		return fmt.Errorf("read %s: the store returned other bytes than it was given: %w", name, snapshot.ErrCorrupt)
	}
	return nil
}

// probeObject has a name that kopia ignores, and content that no cache holds.
func probeObject() (name string, content []byte, err error) {
	content = make([]byte, 64)
	if _, err := rand.Read(content); err != nil {
		return "", nil, fmt.Errorf("make a probe: %w", err)
	}
	return "godwit-probe-" + hex.EncodeToString(content[:8]), content, nil
}

func probeFolder(_ context.Context, l snapshot.Location) (snapshot.StoreTraits, error) {
	var traits snapshot.StoreTraits
	name, content, err := probeObject()
	if err != nil {
		return traits, err
	}
	name = filepath.Join(l.Path, name)
	err = os.WriteFile(name, content, configFileMode)
	if _, gone := os.ReadDir(l.Path); gone == nil && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		traits.ReadOnly = true
		return traits, nil
	}
	var got []byte
	if err == nil {
		got, err = os.ReadFile(name) //nolint:gosec // the name is ours
	}
	if err == nil {
		err = checkFolderClock(l, name)
	}
	if err == nil && !bytes.Equal(got, content) {
		err = fmt.Errorf("the folder returned other bytes than it was given: %w", snapshot.ErrCorrupt)
	}
	if removed := os.Remove(name); err == nil {
		err = removed
	}
	return traits, err
}

// checkFolderClock holds the clock of whoever keeps the folder against ours.
func checkFolderClock(l snapshot.Location, written string) error {
	info, err := os.Stat(written)
	if err != nil {
		return err
	}
	return checkSkew(l, time.Until(info.ModTime()))
}

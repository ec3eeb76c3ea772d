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
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// reachTimeout bounds the first contact, which is there to fail soon.
	reachTimeout = 30 * time.Second
	// A probe tries twice: once more than a dropped connection needs.
	probeTries = 2
)

// Probe connects, writes, reads and deletes a small object.
func (o *Opener) Probe(ctx context.Context, l snapshot.Location) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := check(l); err != nil {
		return fmt.Errorf("probe %s: %w", describe(l), err)
	}
	probe := probeBucket
	if l.Type == snapshot.Filesystem {
		probe = probeFolder
	}
	if err := probe(ctx, l); err != nil {
		return fmt.Errorf("probe %s: %w", describe(l), explain(l, err))
	}
	return nil
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
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	client, err := newClient(l)
	if err != nil {
		return explain(l, err)
	}
	return explain(l, findBucket(ctx, client, l))
}

func newClient(l snapshot.Location) (*minio.Client, error) {
	transport, err := minio.DefaultTransport(!l.DisableTLS)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", l.Endpoint, err)
	}
	if !l.DisableTLS {
		if transport.TLSClientConfig, err = tlsConfig(l); err != nil {
			return nil, err
		}
	}
	client, err := minio.New(l.Endpoint, &minio.Options{
		Creds:  credentials.NewStaticV4(l.AccessKeyID, l.SecretAccessKey.Reveal(), ""),
		Secure: !l.DisableTLS, Region: l.Region, Transport: http.RoundTripper(transport), MaxRetries: probeTries,
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint %q is not host or host:port: correct it: %w", l.Endpoint, err)
	}
	return client, nil
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

func probeBucket(ctx context.Context, l snapshot.Location) error {
	client, err := newClient(l)
	if err != nil {
		return err
	}
	if err := findBucket(ctx, client, l); err != nil {
		return err
	}
	name, content, err := probeObject()
	if err != nil {
		return err
	}
	name = l.Prefix + name
	if _, err := client.PutObject(ctx, l.Bucket, name, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{SendContentMd5: true}); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	err = readBack(ctx, client, l, name, content)
	if removed := client.RemoveObject(ctx, l.Bucket, name, minio.RemoveObjectOptions{}); removed != nil {
		err = errors.Join(err, fmt.Errorf("delete %s: %w", name, removed))
	}
	return err
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

func probeFolder(_ context.Context, l snapshot.Location) error {
	name, content, err := probeObject()
	if err != nil {
		return err
	}
	name = filepath.Join(l.Path, name)
	err = os.WriteFile(name, content, configFileMode)
	var got []byte
	if err == nil {
		got, err = os.ReadFile(name) //nolint:gosec // the name is ours
	}
	if err == nil && !bytes.Equal(got, content) {
		err = fmt.Errorf("the folder returned other bytes than it was given: %w", snapshot.ErrCorrupt)
	}
	if removed := os.Remove(name); err == nil {
		err = removed
	}
	return err
}

package kopiastore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo/blob"

	"github.com/godwit-io/godwit/snapshot"
)

// check refuses a location that would make a library guess: without keys
// kopia would ask the environment and a cloud's metadata server for some.
func check(l snapshot.Location) error {
	switch l.Type {
	case snapshot.S3:
		if l.Endpoint == "" || l.Bucket == "" {
			return errors.New("the location names no endpoint or no bucket: set both")
		}
		if strings.Contains(l.Endpoint, "://") {
			return fmt.Errorf("endpoint %q must be host or host:port, without a scheme", l.Endpoint)
		}
		if err := checkKeys(l); err != nil {
			return err
		}
		if l.Encryption != "" && l.Encryption != encryptionStore && l.Encryption != encryptionKeyService {
			return fmt.Errorf("encryption %q is not known: use %q or %q, or leave it out", l.Encryption, encryptionStore, encryptionKeyService)
		}
		if l.Prefix != "" && !strings.HasSuffix(l.Prefix, "/") {
			return fmt.Errorf("prefix %q must end in /", l.Prefix)
		}
	case snapshot.Filesystem:
		if l.Path == "" {
			return errors.New("the location names no path")
		}
	case snapshot.Azure:
		return checkAzure(l)
	case snapshot.GCS:
		return checkGoogle(l)
	default:
		return fmt.Errorf("storage type %q is not known: use %q, %q, %q or %q", l.Type, snapshot.S3, snapshot.GCS, snapshot.Azure, snapshot.Filesystem)
	}
	return nil
}

// place is who keeps the location.
func place(l snapshot.Location) string {
	if l.Type == snapshot.Filesystem {
		return "folder " + l.Path
	}
	if l.Type == snapshot.Azure {
		return "Azure's account " + l.AccessKeyID
	}
	if l.Type == snapshot.GCS {
		return "Google's cloud storage"
	}
	return l.Endpoint
}

// describe names a location for messages, without secrets.
func describe(l snapshot.Location) string {
	if l.Type == snapshot.Filesystem {
		return l.Path
	}
	return fmt.Sprintf("%s/%s at %s", l.Bucket, l.Prefix, place(l))
}

// identity is a folder name that no two repositories share, nor one and the
// one that took its place.
func identity(formatBlob []byte) string {
	sum := sha256.Sum256(formatBlob)
	return hex.EncodeToString(sum[:8])
}

func newStorage(ctx context.Context, l snapshot.Location, create bool) (blob.Storage, error) {
	switch l.Type {
	case snapshot.Filesystem:
		return newFolder(ctx, l, create)
	case snapshot.Azure:
		return newAzure(ctx, l)
	case snapshot.GCS:
		return newGoogle(ctx, l)
	}
	return newBucket(l)
}

// spanStorage counts what is fetched through it, and measures what is sent.
type spanStorage struct {
	blob.Storage
	thrift *thrift
}

// buffer is a blob.OutputBuffer.
type buffer struct{ bytes.Buffer }

// Length is how much was written.
func (b *buffer) Length() int { return b.Len() }

func newSpanStorage(st blob.Storage) *spanStorage {
	return &spanStorage{st, newThrift(time.Now)}
}

// ConnectionInfo hides what the storage below would write down.
func (s *spanStorage) ConnectionInfo() blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: storageType, Config: &noConfig{}}
}

// PutBlob writes.
func (s *spanStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	begun := time.Now()
	if err := s.Storage.PutBlob(ctx, id, data, opts); err != nil {
		return err
	}
	s.thrift.sent(id, int64(data.Length()), time.Since(begun))
	return nil
}

// GetBlob reads, and adds to the counter that the context may carry.
func (s *spanStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if err := s.Storage.GetBlob(ctx, id, offset, length, out); err != nil {
		return err
	}
	if n, ok := ctx.Value(fetchedKey{}).(*atomic.Int64); ok {
		n.Add(int64(out.Length()))
	}
	return nil
}

// fetchedKey carries a counter of what a call brought from the storage.
type fetchedKey struct{}

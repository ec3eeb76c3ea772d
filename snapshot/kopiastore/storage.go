package kopiastore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/filesystem"
	"github.com/kopia/kopia/repo/blob/s3"

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
		if l.AccessKeyID == "" || l.SecretAccessKey == "" {
			return errors.New("the access key or its secret is empty: check the Secret")
		}
		if l.Prefix != "" && !strings.HasSuffix(l.Prefix, "/") {
			return fmt.Errorf("prefix %q must end in /", l.Prefix)
		}
	case snapshot.Filesystem:
		if l.Path == "" {
			return errors.New("the location names no path")
		}
	default:
		return fmt.Errorf("storage type %q is not known: use %q or %q", l.Type, snapshot.S3, snapshot.Filesystem)
	}
	return nil
}

// describe names a location for messages, without secrets.
func describe(l snapshot.Location) string {
	if l.Type == snapshot.Filesystem {
		return l.Path
	}
	return fmt.Sprintf("%s/%s at %s", l.Bucket, l.Prefix, l.Endpoint)
}

// identity is a folder name that no two repositories share, nor one and the
// one that took its place.
func identity(formatBlob []byte) string {
	sum := sha256.Sum256(formatBlob)
	return hex.EncodeToString(sum[:8])
}

func newStorage(ctx context.Context, l snapshot.Location, create bool) (blob.Storage, error) {
	if l.Type == snapshot.Filesystem {
		return filesystem.New(ctx, &filesystem.Options{Path: l.Path, FileMode: configFileMode, DirectoryMode: configDirMode}, create)
	}
	return s3.New(ctx, &s3.Options{
		BucketName: l.Bucket, Prefix: l.Prefix, Endpoint: l.Endpoint, Region: l.Region,
		DoNotUseTLS: l.DisableTLS, DoNotVerifyTLS: l.SkipVerify, RootCA: l.CABundle,
		AccessKeyID: l.AccessKeyID, SecretAccessKey: l.SecretAccessKey.Reveal(),
	}, create)
}

// spanStorage answers reads of packs from spans that were read ahead, so that
// kopia decrypts and checks each content while one request brings many.
type spanStorage struct {
	blob.Storage

	mu    sync.Mutex
	spans map[blob.ID][]*span
}

// span is a range of a pack in memory.
type span struct {
	pack       blob.ID
	start, end int64
	data       buffer
}

// buffer is a blob.OutputBuffer.
type buffer struct{ bytes.Buffer }

// Length is how much was written.
func (b *buffer) Length() int { return b.Len() }

func newSpanStorage(st blob.Storage) *spanStorage {
	return &spanStorage{Storage: st, spans: map[blob.ID][]*span{}}
}

// ConnectionInfo hides what the storage below would write down.
func (s *spanStorage) ConnectionInfo() blob.ConnectionInfo {
	return blob.ConnectionInfo{Type: storageType, Config: &noConfig{}}
}

// GetBlob reads from a span that holds the range, else from the storage below.
func (s *spanStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if held := s.held(id, offset, length); held != nil {
		out.Reset()
		if _, err := out.Write(held); err != nil {
			return fmt.Errorf("copy %d bytes of pack %s: %w", length, id, err)
		}
		return nil
	}
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

func (s *spanStorage) held(id blob.ID, offset, length int64) []byte {
	if length <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spans[id] {
		if offset >= sp.start && offset+length <= sp.end {
			return sp.data.Bytes()[offset-sp.start : offset+length-sp.start]
		}
	}
	return nil
}

// load reads the span and holds it until drop.
func (s *spanStorage) load(ctx context.Context, sp *span) error {
	sp.data.Grow(int(sp.end - sp.start))
	if err := s.Storage.GetBlob(ctx, sp.pack, sp.start, sp.end-sp.start, &sp.data); err != nil {
		return fmt.Errorf("read %d bytes at %d of pack %s: %w", sp.end-sp.start, sp.start, sp.pack, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spans[sp.pack] = append(s.spans[sp.pack], sp)
	return nil
}

// drop forgets the span; its memory goes with the last reader of it.
func (s *spanStorage) drop(sp *span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(s.spans[sp.pack], func(other *span) bool { return other == sp })
	if len(left) == 0 {
		delete(s.spans, sp.pack)
		return
	}
	s.spans[sp.pack] = left
}

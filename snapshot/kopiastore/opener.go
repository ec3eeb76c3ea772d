// Package kopiastore keeps images, trees and rounds in a plain kopia
// repository, and is the only package that imports kopia.
//
// What it writes, stock kopia lists, verifies, restores and collects; the
// format is in docs/format.md. Its words are those of package snapshot, and:
// a pack is a blob of many chunks, a span is a range of a pack read at once.
//
// It never runs maintenance, never reads another client's configuration, and
// leaves nothing on disk but a bounded cache.
package kopiastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// Indexes and directories are worth keeping.
	metadataCacheSize  = 256 << 20
	metadataCacheLimit = 512 << 20
	// Chunks are read once. Kopia breaks without a cache for them, and one of
	// a byte holds no more than what is being read.
	chunkCacheSize = 1
	configDirMode  = 0o700
	configFileMode = 0o600
)

// Opener opens kopia repositories.
type Opener struct {
	// wrap, where set, sees each storage before it is used; tests break it.
	wrap func(blob.Storage) blob.Storage
	// now is the clock that flushes go by; tests stop it.
	now func() time.Time
}

// New returns an Opener. It holds nothing; one serves the whole process.
func New() *Opener {
	registerOnce.Do(registerStorage)
	return &Opener{now: time.Now}
}

// registerOnce guards the map of storage types that kopia keeps for the whole
// process, without a lock of its own.
var registerOnce sync.Once //nolint:gochecknoglobals // kopia's registry is global

const (
	// storageType is ours, so that kopia takes a storage that is already open
	// and no key is ever written into its configuration file.
	storageType = "godwit"
	// userName is whom images are by in stock kopia's lists.
	userName = "godwit"
)

type storageKey struct{}

// noConfig is what kopia's configuration file holds about our storage.
type noConfig struct{}

func registerStorage() {
	blob.AddSupportedStorage(storageType, noConfig{}, func(ctx context.Context, _ *noConfig, _ bool) (blob.Storage, error) {
		st, ok := ctx.Value(storageKey{}).(blob.Storage)
		if !ok {
			return nil, errors.New("this storage is opened by godwit only")
		}
		return st, nil
	})
}

// Open connects to the repository, making it first where there is none and
// create is set.
func (o *Opener) Open(ctx context.Context, l snapshot.Location, create bool) (snapshot.Repository, error) {
	r, err := o.open(ctx, l, create)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", describe(l), err)
	}
	return r, nil
}

func (o *Opener) open(ctx context.Context, l snapshot.Location, create bool) (_ *Repository, err error) {
	if err := check(l); err != nil {
		return nil, err
	}
	if l.Password == "" {
		return nil, errors.New("the repository password is empty: check the Secret")
	}
	if err := reach(ctx, l, create); err != nil {
		return nil, err
	}
	st, err := newStorage(ctx, l, create)
	if err != nil {
		return nil, explain(l, err)
	}
	if o.wrap != nil {
		st = o.wrap(st)
	}
	spans := newSpanStorage(st)
	formatBlob, err := ensureInitialized(ctx, st, l, create)
	if err != nil {
		return nil, errors.Join(explain(l, err), st.Close(ctx))
	}
	r := &Repository{location: l, now: o.now, spans: spans, identity: identity(formatBlob)}
	if err := r.connect(ctx); err != nil {
		return nil, errors.Join(explain(l, err), r.cleanUp(), st.Close(ctx))
	}
	return r, nil
}

// Repository is an open kopia repository.
type Repository struct {
	location snapshot.Location
	now      func() time.Time
	rep      repo.DirectRepository
	spans    *spanStorage
	identity string
	// temporary is removed on Close; it is the cache where none was given.
	temporary []string
	fatal     atomic.Pointer[error]
}

var (
	_ snapshot.Opener     = (*Opener)(nil)
	_ snapshot.Repository = (*Repository)(nil)
)

// connect opens kopia's side. Its configuration file exists only meanwhile,
// since kopia opens from nothing else.
func (r *Repository) connect(ctx context.Context) error {
	cache, err := r.cacheDir()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "godwit-repository-")
	if err != nil {
		return fmt.Errorf("make a folder for kopia's configuration: %w", err)
	}
	r.temporary = append(r.temporary, dir)
	config, err := json.Marshal(repo.LocalConfig{
		Storage: &blob.ConnectionInfo{Type: storageType, Config: &noConfig{}},
		Caching: &content.CachingOptions{
			CacheDirectory:              cache,
			ContentCacheSizeBytes:       chunkCacheSize,
			ContentCacheSizeLimitBytes:  chunkCacheSize,
			MetadataCacheSizeBytes:      metadataCacheSize,
			MetadataCacheSizeLimitBytes: metadataCacheLimit,
		},
		ClientOptions: repo.ClientOptions{
			Hostname: orDefault(r.location.Host, "unknown"), Username: orDefault(r.location.User, userName),
			Description: "Godwit",
		},
	})
	if err != nil {
		return fmt.Errorf("write kopia's configuration: %w", err)
	}
	file := filepath.Join(dir, "repository.config")
	if err := os.WriteFile(file, config, configFileMode); err != nil {
		return fmt.Errorf("write kopia's configuration: %w", err)
	}
	ctx = context.WithValue(ctx, storageKey{}, blob.Storage(r.spans))
	opened, err := repo.Open(ctx, file, r.location.Password.Reveal(), &repo.Options{
		DisableRepositoryLog: true,
		DoNotWaitForUpgrade:  true,
		OnFatalError:         func(err error) { r.fatal.Store(&err) },
	})
	if err != nil {
		return err
	}
	direct, ok := opened.(repo.DirectRepository)
	if !ok {
		return errors.Join(errors.New("kopia opened a repository that gives no access to its contents"), opened.Close(ctx))
	}
	r.rep = direct
	return nil
}

// cacheDir keeps the caches of different repositories apart, since kopia
// trusts what it finds there to be of the repository it opens.
func (r *Repository) cacheDir() (string, error) {
	if r.location.CacheDir == "" {
		dir, err := os.MkdirTemp("", "godwit-cache-")
		if err != nil {
			return "", fmt.Errorf("make a folder for the cache: %w", err)
		}
		r.temporary = append(r.temporary, dir)
		return dir, nil
	}
	base, err := filepath.Abs(r.location.CacheDir)
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	dir := filepath.Join(base, r.identity)
	if err := os.MkdirAll(dir, configDirMode); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	return dir, nil
}

// Close frees what the Repository holds.
func (r *Repository) Close(ctx context.Context) error {
	return errors.Join(r.rep.Close(ctx), r.cleanUp())
}

func (r *Repository) cleanUp() error {
	var err error
	for _, dir := range r.temporary {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// refresh makes what other clients wrote visible, and tells what kopia found
// fatal, which it only says in passing.
func (r *Repository) refresh(ctx context.Context) error {
	if err := r.failed(); err != nil {
		return err
	}
	if err := r.rep.Refresh(ctx); err != nil {
		return explain(r.location, err)
	}
	return nil
}

func (r *Repository) failed() error {
	if err := r.fatal.Load(); err != nil {
		return fmt.Errorf("repository %s became unusable, open it again: %w", describe(r.location), *err)
	}
	return nil
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Package kopiastore keeps images, trees and rounds in a plain kopia
// repository, and is the only package that imports kopia.
//
// What it writes, stock kopia lists, verifies, restores and collects; the
// format is in docs/format.md. Its words are those of package snapshot, and:
// a pack is a blob of many chunks, a span is a range of a pack read at once.
//
// It never runs maintenance unless it is told to, never reads another client's
// configuration, and leaves nothing on disk but a bounded cache.
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
	"github.com/kopia/kopia/repo/maintenance"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// Indexes and directories are worth keeping.
	metadataCacheSize  = 256 << 20
	metadataCacheLimit = 512 << 20
	// Chunks are read once. Kopia breaks without a cache for them, and one of
	// a byte holds no more than what is being read.
	chunkCacheSize = 1
	// Below zero kopia asks the storage first, and then takes its own default.
	formatLife = -1
	// treeCheckpointEvery is how much of a tree is read again after a kill, in time.
	treeCheckpointEvery = time.Minute

	configDirMode  = 0o700
	configFileMode = 0o600
)

// Opener opens kopia repositories.
type Opener struct {
	// wrap, where set, sees each storage before it is used; tests break it.
	wrap func(blob.Storage) blob.Storage
	// now is the clock that flushes go by; tests stop it.
	now func() time.Time
	// flushBytes is how much is sent again after a kill; tests lower it.
	flushBytes int64
	// sessions are those of all repositories that it opened.
	sessions *sessions
	// derivations are those of all repositories that it opens, and sound what opened
	// lately.
	derivations derivations
	sound       *soundness
	// limiter bounds the traffic with all stores together.
	limiter *snapshot.Limiter
	// budget bounds what storing trees holds.
	budget *snapshot.Budget
	// kept are repositories that stay open for the next user; nil keeps none.
	kept *keeper
	// safety is how old what is deleted must be, and settle how long a new
	// owner of the maintenance waits; tests do not.
	safety maintenance.SafetyParameters
	settle time.Duration
	// formatLife is how long kopia goes by the files that it was told of; tests
	// shorten it.
	formatLife time.Duration
	// treeCheckpointEvery is how often a tree's upload is listed; tests shorten it.
	treeCheckpointEvery time.Duration
}

// Option changes an Opener.
type Option func(*Opener)

// WithLimiter bounds the requests to object stores, and the bytes to and from
// them, of all repositories together. The limiter of a request bounds what is
// read and written at the volume; the same for both would count twice.
func WithLimiter(l *snapshot.Limiter) Option { return func(o *Opener) { o.limiter = l } }

// WithBudget bounds the memory of storing trees, together with that of all
// requests that have the same Budget.
func WithBudget(b *snapshot.Budget) Option { return func(o *Opener) { o.budget = b } }

// New returns an Opener. One serves the whole process.
func New(options ...Option) *Opener {
	registerOnce.Do(func() {
		registerStorage()
		registerCompressors()
	})
	o := &Opener{now: wallTime, flushBytes: flushBytes, sessions: newSessions(), derivations: newDerivations(), sound: newSoundness(),
		safety: maintenance.SafetyFull, settle: settleTime, formatLife: formatLife, treeCheckpointEvery: treeCheckpointEvery}
	for _, set := range options {
		set(o)
	}
	return o
}

// registerOnce guards the maps of storage types and compressors that kopia keeps for
// the whole process, without locks of their own.
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

// wallTime goes on while the machine sleeps, which the clock that Go goes by does not.
func wallTime() time.Time { return time.Now().Round(0) }

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
	r, err := o.openOrKept(ctx, normal(l), create)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", describe(l), err)
	}
	return r, nil
}

func (o *Opener) open(ctx context.Context, l snapshot.Location, create bool) (*Repository, error) {
	l = normal(l)
	if err := complete(ctx, l, create); err != nil {
		return nil, err
	}
	return o.openComplete(ctx, l, create)
}

// openComplete opens a location that is complete and answers.
func (o *Opener) openComplete(ctx context.Context, l snapshot.Location, create bool) (*Repository, error) {
	st, err := o.storage(ctx, l, create)
	if err != nil {
		return nil, err
	}
	formatBlob, err := o.ensureInitialized(ctx, st, l, create)
	if err != nil {
		return nil, errors.Join(explain(l, err), st.Close(ctx))
	}
	files := newFormatStorage(oneList{st}, l, formatBlob, o.derivations)
	r := &Repository{
		location: l, now: o.now, flushBytes: o.flushBytes, sessions: o.sessions, spans: newSpanStorage(files), format: files,
		writes: st.writes, formatBlob: formatBlob, checkClock: st.checkClock, safety: o.safety, settle: o.settle, budget: o.budget, formatLife: o.formatLife,
		treeCheckpointEvery: o.treeCheckpointEvery,
	}
	if err := r.connect(ctx); err != nil {
		return nil, errors.Join(explain(l, err), r.cleanUp(), st.Close(ctx))
	}
	o.sound.add(l, formatBlob, o.now())
	return r, nil
}

// reached opens the storage of a location that is complete and answers.
func (o *Opener) reached(ctx context.Context, l snapshot.Location, create bool) (openStorage, error) {
	if err := complete(ctx, l, create); err != nil {
		return openStorage{}, err
	}
	return o.storage(ctx, l, create)
}

// openStorage is a storage with what of it is asked for by itself.
type openStorage struct {
	blob.Storage
	writes *sessionStorage
	// checkClock tells a clock that is far from the store's; nil where nothing can.
	checkClock func() error
}

// storage opens the storage of a location that is complete.
func (o *Opener) storage(ctx context.Context, l snapshot.Location, create bool) (openStorage, error) {
	st, err := newStorage(ctx, l, create)
	if err != nil {
		return openStorage{}, explain(l, err)
	}
	var checkClock func() error
	if b, ok := st.(*bucket); ok {
		checkClock = func() error { return b.transport.checkClock(l) }
	}
	if o.wrap != nil {
		st = o.wrap(st)
	}
	writes := &sessionStorage{st, o.sessions, o.now}
	st = writes
	if o.limiter != nil {
		st = limitedStorage{st, o.limiter}
	}
	return openStorage{st, writes, checkClock}, nil
}

// complete refuses a location that lacks something, or does not answer.
func complete(ctx context.Context, l snapshot.Location, create bool) error {
	if err := check(l); err != nil {
		return err
	}
	if l.Password == "" {
		return errors.New("the repository password is empty: check the Secret")
	}
	return reach(ctx, l, create)
}

// Repository is an open kopia repository.
type Repository struct {
	location   snapshot.Location
	now        func() time.Time
	flushBytes int64
	sessions   *sessions
	rep        repo.DirectRepository
	spans      *spanStorage
	format     *formatStorage
	writes     *sessionStorage
	// formatBlob is what the storage held when it was opened.
	formatBlob []byte
	// checkClock holds the store's clock against ours; nil where kopia does.
	checkClock func() error
	safety     maintenance.SafetyParameters
	settle     time.Duration
	formatLife time.Duration
	budget     *snapshot.Budget

	treeCheckpointEvery time.Duration
	// temporary is removed on Close; it is the cache where none was given.
	temporary []string
	// cache is the folder of kopia's.
	cache string
	fatal atomic.Pointer[error]
}

var (
	_ snapshot.Opener     = (*Opener)(nil)
	_ snapshot.Passwords  = (*Opener)(nil)
	_ snapshot.Repository = (*Repository)(nil)
)

// connect opens kopia's side. While the password is replaced, files that are by
// the one of this location are not where kopia looks.
func (r *Repository) connect(ctx context.Context) error {
	err := r.connectBy(ctx)
	if !otherPassword(err) {
		return err
	}
	others, looked := r.format.others(ctx)
	for _, files := range others {
		r.format.use(files)
		again := r.connectBy(ctx)
		if !otherPassword(again) {
			return again
		}
	}
	return errors.Join(err, looked)
}

// connectBy opens by the files that are to be tried. Kopia's configuration file
// exists only meanwhile, since kopia opens from nothing else.
func (r *Repository) connectBy(ctx context.Context) error {
	cache, err := r.cacheDir()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "godwit-repository-")
	if err != nil {
		return fmt.Errorf("make a folder for kopia's configuration: %w", err)
	}
	r.temporary, r.cache = append(r.temporary, dir), cache
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
			Description:             "Godwit",
			FormatBlobCacheDuration: r.formatLife,
		},
	})
	if err != nil {
		return fmt.Errorf("write kopia's configuration: %w", err)
	}
	file := filepath.Join(dir, "repository.config")
	if err := os.WriteFile(file, config, configFileMode); err != nil {
		return fmt.Errorf("write kopia's configuration: %w", err)
	}
	defer r.format.derived()
	ctx = context.WithValue(ctx, storageKey{}, blob.Storage(r.spans))
	var opened repo.Repository
	err = r.sure(ctx, func() error {
		opened, err = repo.Open(withOneList(ctx), file, r.location.Password.Reveal(), &repo.Options{
			DisableRepositoryLog: true,
			DoNotWaitForUpgrade:  true,
			OnFatalError:         func(err error) { r.fatal.Store(&err) },
		})
		return err
	})
	if otherPassword(err) {
		return errors.Join(err, forgetFormat(cache))
	}
	if unreadable(err) {
		return r.damage(err)
	}
	if err != nil {
		return err
	}
	direct, ok := opened.(repo.DirectRepository)
	if !ok {
		return errors.Join(errors.New("kopia opened a repository that gives no access to its contents"), opened.Close(ctx))
	}
	r.rep = direct
	r.format.settle()
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
	dir := filepath.Join(base, identity(r.format.files.Repository))
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
	if err := r.sure(ctx, func() error { return r.rep.Refresh(withOneList(ctx)) }); err != nil {
		return r.damage(err)
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

package kopiastore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	kopia "github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/policy"
	"github.com/kopia/kopia/snapshot/upload"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	treeWorkers = 4
	// treeWeight is the packs that are filled, and one that each worker sends,
	// with what it reads.
	treeWeight = 2*packSize + treeWorkers*(packSize+maxChunk)
)

// BackupTree stores the tree under dir by kopia's uploader, with what it does
// not keep of it beside. A file is read again unless its size, its mtime and
// its ctime are those of the parent image, or of a run of the volume that was killed.
func (r *Repository) BackupTree(ctx context.Context, dir string, image snapshot.Image, parent snapshot.ImageID, progress snapshot.Progress) (snapshot.Image, error) {
	image, err := r.backupTree(ctx, dir, image, parent, progress)
	if err != nil {
		return snapshot.Image{}, fmt.Errorf("back up the files in %s: %w", dir, err)
	}
	return image, nil
}

func (r *Repository) backupTree(ctx context.Context, dir string, image snapshot.Image, parent snapshot.ImageID, progress snapshot.Progress) (_ snapshot.Image, err error) {
	u := &treeUpload{repository: r, progress: newTreeProgress(progress), began: r.now(), listed: r.now()}
	u.hold = &hold{repository: r, safe: u.began}
	known, walked, err := u.prepare(ctx, dir, &image, parent)
	if err != nil {
		return snapshot.Image{}, err
	}
	release, err := r.acquireTree(ctx, walked.entries, walked.weight()+int64(len(u.progress.awaited))*keyWeight)
	if err != nil {
		return snapshot.Image{}, err
	}
	defer release()
	if err := u.hold.start(ctx); err != nil {
		return snapshot.Image{}, err
	}
	_, u.session, err = r.rep.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "tree", OnUpload: u.sent})
	if err != nil {
		return snapshot.Image{}, explain(r.location, err)
	}
	defer func() { err = errors.Join(err, u.session.Close(context.WithoutCancel(ctx))) }()
	if err := r.recoverPacks(ctx, u.session); err != nil {
		return snapshot.Image{}, explain(r.location, err)
	}
	volume, err := u.upload(ctx, known)
	if err != nil {
		return snapshot.Image{}, explain(r.location, err)
	}
	if s := volume.DirSummary; s == nil || s.TotalFileCount != walked.files {
		return snapshot.Image{}, fmt.Errorf("kopia stored %+v, where %d files are", s, walked.files)
	}
	attributes, err := writeRecords(ctx, u.session, u.root, volume.ModTime)
	if err != nil {
		return snapshot.Image{}, explain(r.location, err)
	}
	committed, err := r.saveImage(ctx, u.session, imageRecord{Image: image}, []*kopia.DirEntry{volume, attributes}, directory{hold: u.hold, replaces: u.spent()}, parent)
	u.progress.tell()
	return committed, explain(r.location, err)
}

// acquireTree waits for the memory that the backup of a tree of so many entries takes:
// packs, which a small budget makes do with less of, and what is known of the entries.
func (r *Repository) acquireTree(ctx context.Context, entries, weight int64) (release func(), err error) {
	if all := r.budget.Size(); r.budget != nil && weight > max(all-treeWeight, all/2) {
		return nil, fmt.Errorf("%w: what is to be known of the tree's %d entries takes %d MiB of memory beside its packs' %d, and all transfers together may take %d: allow more (the chart's node.memory, or --memory of godwitctl volume)",
			snapshot.ErrBudget, entries, weight>>20, treeWeight>>20, all>>20)
	}
	release, err = r.budget.Acquire(ctx, treeWeight+weight)
	if err != nil {
		return nil, fmt.Errorf("wait for memory: %w", err)
	}
	return release, nil
}

// prepare walks over the tree, and finds what of it is stored already: by the last run, if
// that was killed, and in the parent.
func (u *treeUpload) prepare(ctx context.Context, dir string, image *snapshot.Image, parent snapshot.ImageID) (known []*knownTree, walked *packedTree, err error) {
	if _, err := source(image.Volume); err != nil {
		return nil, nil, err
	}
	if u.found, err = u.repository.treeCheckpoints(ctx, image.Volume); err != nil {
		return nil, nil, err
	}
	for _, checkpoint := range append(slices.Clone(u.found), nil) {
		known, walked, err = u.walk(ctx, dir, parent, checkpoint)
		var damaged damagedCheckpoint
		if errors.As(err, &damaged) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if checkpoint != nil {
			u.hold.move(checkpoint.ID, u.began)
			u.progress.awaited = known[0].awaited
		}
		break
	}
	image.Kind, image.Method, image.Base, image.ChunkSize, image.Size = snapshot.Tree, snapshot.MethodFiles, parent, 0, walked.size
	u.root, u.image, u.progress.stats.Total = walked.whole(), *image, walked.size
	return known, walked, nil
}

// walk finds the files whose content may be another than what is known of them, which
// kopia would not see where a program set the time back.
func (u *treeUpload) walk(ctx context.Context, dir string, parent snapshot.ImageID, checkpoint *kopia.Manifest) (known []*knownTree, walked *packedTree, err error) {
	defer func() {
		for _, k := range known {
			k.stop()
		}
	}()
	if checkpoint != nil {
		k, err := u.repository.knownCheckpoint(ctx, checkpoint)
		if err != nil {
			return nil, nil, err
		}
		known = append(known, k)
	}
	if parent != "" {
		k, err := u.repository.knownImage(ctx, parent)
		if err != nil {
			return known, nil, err
		}
		known = append(known, k)
	}
	walked = &packedTree{}
	for n, err := range walkTree(ctx, dir) {
		if err != nil {
			return known, nil, err
		}
		if n.fresh, err = isFresh(ctx, n, known); err != nil {
			return known, nil, err
		}
		if err := walked.add(n); err != nil {
			return known, nil, err
		}
	}
	return known, walked, nil
}

// treeUpload is one BackupTree under way.
type treeUpload struct {
	repository *Repository
	session    repo.DirectRepositoryWriter
	progress   *treeProgress
	image      snapshot.Image
	root       *treeFolder
	// found are the checkpoints of runs before, own is this run's; hold has the one that
	// keeps what this run goes by.
	found []*kopia.Manifest
	own   manifest.ID
	hold  *hold
	// began and listed are when the run and its last checkpoint were, and done what was
	// through by that.
	began, listed time.Time
	done          int64
	// records are those of the whole tree, once the first checkpoint has them.
	records *kopia.DirEntry
}

func (u *treeUpload) sent(n int64) { u.progress.uploaded.Add(n) }

func (u *treeUpload) upload(ctx context.Context, known []*knownTree) (*kopia.DirEntry, error) {
	src, err := source(u.image.Volume)
	if err != nil {
		return nil, err
	}
	session := &treeSession{DirectRepositoryWriter: u.session, list: u.checkpoint}
	uploader := upload.NewUploader(session)
	uploader.CheckpointInterval = u.repository.treeCheckpointEvery
	uploader.DisableIgnoreRules = true
	uploader.EnableActions = false
	uploader.ParallelUploads = treeWorkers
	uploader.Progress = u.progress
	defer context.AfterFunc(ctx, uploader.Cancel)()
	plan := policy.BuildTree(nil, &policy.Policy{
		CompressionPolicy:         policy.CompressionPolicy{CompressorName: compression.Name(compressor)},
		MetadataCompressionPolicy: policy.MetadataCompressionPolicy{CompressorName: compression.Name(compressor)},
	})
	before := make([]*kopia.Manifest, 0, len(known))
	for _, k := range known {
		before = append(before, &kopia.Manifest{RootEntry: k.volume})
	}
	m, err := uploader.Upload(ctx, u.root, plan, src, before...)
	failed := session.end()
	switch {
	case ctx.Err() != nil:
		return nil, errors.Join(ctx.Err(), err)
	case err != nil:
		return nil, err
	}
	if err := cmp.Or(u.progress.failures(), failed); err != nil {
		return nil, err
	}
	if m.IncompleteReason != "" || m.Stats.ErrorCount+m.Stats.IgnoredErrorCount > 0 {
		return nil, fmt.Errorf("kopia left out part of it (%s, %d errors)", m.IncompleteReason, m.Stats.ErrorCount+m.Stats.IgnoredErrorCount)
	}
	volume := m.RootEntry.Clone()
	volume.Name = volumeName
	return volume, nil
}

// writeRecords streams the records of a tree into their file.
func writeRecords(ctx context.Context, w repo.RepositoryWriter, root *treeFolder, modified fs.UTCTimestamp) (_ *kopia.DirEntry, err error) {
	ow := w.NewObjectWriter(ctx, object.WriterOptions{Description: attributesFile, Compressor: compressor, MetadataCompressor: compressor})
	defer func() { err = errors.Join(err, ow.Close()) }()
	counted := &countingWriter{to: ow}
	if err := root.encode(json.NewEncoder(counted)); err != nil {
		return nil, fmt.Errorf("write %s: %w", attributesFile, err)
	}
	id, err := ow.Result()
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", attributesFile, err)
	}
	return fileEntry(attributesFile, id, counted.n, modified), nil
}

type countingWriter struct {
	to io.Writer
	n  int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}

// treeProgress turns kopia's progress into ours and keeps what failed.
type treeProgress struct {
	upload.NullUploadProgress
	told     snapshot.Progress
	uploaded atomic.Int64

	mu     sync.Mutex
	stats  snapshot.Stats
	last   time.Time
	failed failures
	// awaited are files that the last checkpoint has, as long as they have not come.
	awaited map[pathSum]bool
}

const progressInterval = 300 * time.Millisecond

func newTreeProgress(told snapshot.Progress) *treeProgress {
	if told == nil {
		told = func(snapshot.Stats) {}
	}
	return &treeProgress{told: told}
}

func (p *treeProgress) add(read, done, files int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Read += read
	p.stats.Changed += read
	p.stats.Done = min(p.stats.Total, p.stats.Done+done)
	p.stats.Files += files
	if time.Since(p.last) > progressInterval {
		p.tellLocked()
	}
}

func (p *treeProgress) tellLocked() {
	p.last = time.Now()
	p.stats.Uploaded = p.uploaded.Load()
	p.told(p.stats)
}

func (p *treeProgress) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tellLocked()
}

// HashedBytes counts what was read.
func (p *treeProgress) HashedBytes(n int64) { p.add(n, n, 0) }

// CachedFile counts what need not be read.
func (p *treeProgress) CachedFile(_ string, size int64) { p.add(0, size, 0) }

// FinishedFile counts files.
func (p *treeProgress) FinishedFile(path string, _ error) {
	p.add(0, 0, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.awaited) > 0 {
		delete(p.awaited, sumOf(path))
	}
}

// soFar counts what is through, and the files of the last checkpoint that are not.
func (p *treeProgress) soFar() (done int64, missing int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats.Read + p.stats.Files, len(p.awaited)
}

// Error keeps what failed: kopia goes on without it.
func (p *treeProgress) Error(_ string, err error, _ bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed.add(err)
}

func (p *treeProgress) failures() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed.err("files")
}

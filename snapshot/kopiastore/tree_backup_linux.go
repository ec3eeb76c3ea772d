package kopiastore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/compression"
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
// its ctime are those of the parent image.
func (r *Repository) BackupTree(ctx context.Context, dir string, image snapshot.Image, parent snapshot.ImageID, progress snapshot.Progress) (snapshot.Image, error) {
	image, err := r.backupTree(ctx, dir, image, parent, progress)
	if err != nil {
		return snapshot.Image{}, fmt.Errorf("back up the files in %s: %w", dir, err)
	}
	return image, nil
}

func (r *Repository) backupTree(ctx context.Context, dir string, image snapshot.Image, parent snapshot.ImageID, progress snapshot.Progress) (_ snapshot.Image, err error) {
	src, err := source(image.Volume)
	if err != nil {
		return snapshot.Image{}, err
	}
	previous, err := r.parentTree(ctx, parent)
	if err != nil {
		return snapshot.Image{}, err
	}
	root, walked, err := walkTree(ctx, dir)
	if err != nil {
		return snapshot.Image{}, err
	}
	previous.mark(root)
	image.Kind, image.Method, image.Base, image.ChunkSize, image.Size = snapshot.Tree, snapshot.MethodFiles, previous.id, 0, walked.size
	release, err := r.budget.Acquire(ctx, treeWeight)
	if err != nil {
		return snapshot.Image{}, fmt.Errorf("wait for memory: %w", err)
	}
	defer release()
	u := &treeUpload{repository: r, progress: newTreeProgress(progress, walked)}
	_, u.session, err = r.rep.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "tree", OnUpload: u.sent})
	if err != nil {
		return snapshot.Image{}, explain(r.location, err)
	}
	defer func() { err = errors.Join(err, u.session.Close(context.WithoutCancel(ctx))) }()
	if err := r.recoverPacks(ctx, u.session); err != nil {
		return snapshot.Image{}, explain(r.location, err)
	}
	volume, err := u.upload(ctx, root, src, previous.volume)
	if err != nil {
		return snapshot.Image{}, explain(r.location, err)
	}
	if s := volume.DirSummary; s == nil || s.TotalFileCount != walked.files {
		return snapshot.Image{}, fmt.Errorf("kopia stored %+v, where %d files are", s, walked.files)
	}
	attributes, err := writeRecords(ctx, u.session, root, volume.ModTime)
	if err != nil {
		return snapshot.Image{}, explain(r.location, err)
	}
	committed, err := r.saveImage(ctx, u.session, imageRecord{Image: image}, []*kopia.DirEntry{volume, attributes}, previous.id, nil)
	u.progress.tell()
	return committed, explain(r.location, err)
}

// parentTree is what the image before this one knows of its files.
type parentTree struct {
	id      snapshot.ImageID
	volume  *kopia.DirEntry
	changed map[raw]record
}

func (r *Repository) parentTree(ctx context.Context, id snapshot.ImageID) (parentTree, error) {
	if id == "" {
		return parentTree{}, nil
	}
	m, err := r.manifestOf(ctx, id, kindImage)
	if errors.Is(err, snapshot.ErrNotFound) {
		return parentTree{}, fmt.Errorf("%w: %w", snapshot.ErrNoBase, err)
	}
	if err != nil {
		return parentTree{}, err
	}
	volume, records, err := r.tree(ctx, m)
	if err != nil {
		return parentTree{}, fmt.Errorf("image %s: %w", id, err)
	}
	p := parentTree{id: id, volume: volume, changed: map[raw]record{}}
	for _, e := range records {
		if e.Type == typeFile {
			p.changed[e.Path] = e
		}
	}
	return p, nil
}

// tree opens a Tree image.
func (r *Repository) tree(ctx context.Context, m *kopia.Manifest) (*kopia.DirEntry, []record, error) {
	stored, files, err := r.record(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	volume := files[volumeName]
	if stored.Image.Kind != snapshot.Tree || volume == nil || volume.Type != kopia.EntryTypeDirectory {
		return nil, nil, fmt.Errorf("it is of kind %s and holds no tree of files", stored.Image.Kind)
	}
	data, err := r.readFile(ctx, files, attributesFile)
	if err != nil {
		return nil, nil, err
	}
	records, err := readRecords(bytes.NewReader(data))
	return volume, records, err
}

// mark finds the files whose content may be another than the parent's, which
// kopia would not see where a program set the time back.
func (p parentTree) mark(n *node) {
	for _, c := range n.children {
		if c.Type == typeFile {
			before, known := p.changed[c.Path]
			c.fresh = !known || before.Changed != c.Changed || before.Modified != c.Modified || before.Size != c.Size
		}
		p.mark(c)
	}
}

// treeUpload is one BackupTree under way.
type treeUpload struct {
	repository *Repository
	session    repo.DirectRepositoryWriter
	progress   *treeProgress
	unflushed  atomic.Int64
}

func (u *treeUpload) sent(n int64) {
	u.progress.uploaded.Add(n)
	u.unflushed.Add(n)
}

func (u *treeUpload) upload(ctx context.Context, root *node, src kopia.SourceInfo, previous *kopia.DirEntry) (*kopia.DirEntry, error) {
	uploader := upload.NewUploader(u.session)
	// Kopia's checkpoints apply its own retention to our images: none are made.
	uploader.CheckpointInterval = 0
	uploader.DisableIgnoreRules = true
	uploader.EnableActions = false
	uploader.ParallelUploads = treeWorkers
	uploader.Progress = u.progress
	defer context.AfterFunc(ctx, uploader.Cancel)()
	flushed, stop := context.WithCancelCause(ctx)
	var flusher sync.WaitGroup
	flusher.Go(func() {
		if err := u.flush(flushed); err != nil {
			stop(err)
			uploader.Cancel()
		}
	})
	plan := policy.BuildTree(nil, &policy.Policy{
		CompressionPolicy:         policy.CompressionPolicy{CompressorName: compression.Name(compressor)},
		MetadataCompressionPolicy: policy.MetadataCompressionPolicy{CompressorName: compression.Name(compressor)},
	})
	var before []*kopia.Manifest
	if previous != nil {
		before = append(before, &kopia.Manifest{RootEntry: previous})
	}
	m, err := uploader.Upload(ctx, treeFolder{treeEntry{root}}, plan, src, before...)
	stop(nil)
	flusher.Wait()
	if cause := context.Cause(flushed); !errors.Is(cause, context.Canceled) {
		return nil, fmt.Errorf("flush: %w", cause)
	}
	if err := errors.Join(ctx.Err(), err); err != nil {
		return nil, err
	}
	if err := u.progress.failures(); err != nil {
		return nil, err
	}
	if m.IncompleteReason != "" || m.Stats.ErrorCount+m.Stats.IgnoredErrorCount > 0 {
		return nil, fmt.Errorf("kopia left out part of it (%s, %d errors)", m.IncompleteReason, m.Stats.ErrorCount+m.Stats.IgnoredErrorCount)
	}
	volume := m.RootEntry.Clone()
	volume.Name = volumeName
	return volume, nil
}

// flush makes what was sent durable now and then, so that a run that is
// killed need not send it again.
func (u *treeUpload) flush(ctx context.Context) error {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if u.unflushed.Load() < flushLeast {
			continue
		}
		u.unflushed.Store(0)
		if err := u.session.Flush(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// writeRecords streams the records of a tree into their file.
func writeRecords(ctx context.Context, w repo.RepositoryWriter, root *node, modified fs.UTCTimestamp) (_ *kopia.DirEntry, err error) {
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

func (n *node) encode(to *json.Encoder) error {
	if err := to.Encode(n.record); err != nil {
		return err
	}
	for _, c := range n.children {
		if err := c.encode(to); err != nil {
			return err
		}
	}
	return nil
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
	failed []error
}

const (
	progressInterval = 300 * time.Millisecond
	failuresShown    = 10
)

func newTreeProgress(told snapshot.Progress, w *walker) *treeProgress {
	if told == nil {
		told = func(snapshot.Stats) {}
	}
	return &treeProgress{told: told, stats: snapshot.Stats{Total: w.size}}
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
func (p *treeProgress) FinishedFile(string, error) { p.add(0, 0, 1) }

// Error keeps what failed: kopia goes on without it.
func (p *treeProgress) Error(_ string, err error, _ bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = append(p.failed, err)
}

func (p *treeProgress) failures() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.failed) == 0 {
		return nil
	}
	var b strings.Builder
	for i, err := range p.failed {
		if i == failuresShown {
			fmt.Fprintf(&b, "; and %d more", len(p.failed)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	return fmt.Errorf("%d files could not be read: %s", len(p.failed), b.String())
}

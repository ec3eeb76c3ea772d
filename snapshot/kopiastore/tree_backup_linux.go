package kopiastore

import (
	"bytes"
	"cmp"
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
	known, files, err := u.prepare(ctx, dir, &image, parent)
	if err != nil {
		return snapshot.Image{}, err
	}
	release, err := r.budget.Acquire(ctx, treeWeight)
	if err != nil {
		return snapshot.Image{}, fmt.Errorf("wait for memory: %w", err)
	}
	defer release()
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
	if s := volume.DirSummary; s == nil || s.TotalFileCount != files {
		return snapshot.Image{}, fmt.Errorf("kopia stored %+v, where %d files are", s, files)
	}
	if err := u.checkpointThere(ctx); err != nil {
		return snapshot.Image{}, err
	}
	attributes, err := writeRecords(ctx, u.session, u.root, volume.ModTime)
	if err != nil {
		return snapshot.Image{}, explain(r.location, err)
	}
	committed, err := r.saveImage(ctx, u.session, imageRecord{Image: image}, []*kopia.DirEntry{volume, attributes}, parent, u.spent())
	u.progress.tell()
	return committed, explain(r.location, err)
}

// prepare walks over the tree, counts its files, and finds what of it is stored already: by
// the last run, if that was killed, and in the parent.
func (u *treeUpload) prepare(ctx context.Context, dir string, image *snapshot.Image, parent snapshot.ImageID) (known []knownTree, files int64, err error) {
	if _, err := source(image.Volume); err != nil {
		return nil, 0, err
	}
	before, err := u.repository.parentTree(ctx, parent)
	if err != nil {
		return nil, 0, err
	}
	if u.found, err = u.repository.treeCheckpoints(ctx, image.Volume); err != nil {
		return nil, 0, err
	}
	root, walked, err := walkTree(ctx, dir)
	if err != nil {
		return nil, 0, err
	}
	known, u.progress.awaited, err = u.begun(ctx, root)
	if err != nil {
		return nil, 0, err
	}
	known = append(known, before...)
	mark(root, known)
	image.Kind, image.Method, image.Base, image.ChunkSize, image.Size = snapshot.Tree, snapshot.MethodFiles, parent, 0, walked.size
	u.root, u.image, u.progress.stats.Total = root, *image, walked.size
	return known, walked.files, nil
}

// knownTree is what an image, or a checkpoint, has of the files.
type knownTree struct {
	volume *kopia.DirEntry
	files  map[raw]seen
}

// seen is what tells whether a file is another.
type seen struct {
	size              int64
	modified, changed stamp
}

// parentTree is the image before this one; none without.
func (r *Repository) parentTree(ctx context.Context, id snapshot.ImageID) ([]knownTree, error) {
	if id == "" {
		return nil, nil
	}
	m, err := r.manifestOf(ctx, id, kindImage)
	if errors.Is(err, snapshot.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrNoBase, err)
	}
	if err != nil {
		return nil, err
	}
	k, err := r.knownTree(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	return []knownTree{k}, nil
}

func (r *Repository) knownTree(ctx context.Context, m *kopia.Manifest) (knownTree, error) {
	volume, records, err := r.tree(ctx, m)
	if err != nil {
		return knownTree{}, err
	}
	k := knownTree{volume: volume, files: map[raw]seen{}}
	for _, e := range records {
		if e.Type == typeFile {
			k.files[e.Path] = seen{e.Size, e.Modified, e.Changed}
		}
	}
	return k, nil
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

// mark finds the files whose content may be another than what is known of them, which
// kopia would not see where a program set the time back.
func mark(n *node, known []knownTree) {
	for _, c := range n.children {
		if c.Type == typeFile {
			c.fresh = !isKnown(c, known)
		}
		mark(c, known)
	}
}

// isKnown is true for a file that is stored. Kopia takes it, by its size and time, from
// any of those that are known: none may have another content by the same.
func isKnown(c *node, known []knownTree) bool {
	found := false
	for _, k := range known {
		before, ok := k.files[c.Path]
		switch {
		case !ok || before.size != c.Size || !kopiaTime(before.modified).Equal(kopiaTime(c.Modified)):
		case before.changed != c.Changed || before.modified != c.Modified:
			return false
		default:
			found = true
		}
	}
	return found
}

// treeUpload is one BackupTree under way.
type treeUpload struct {
	repository *Repository
	session    repo.DirectRepositoryWriter
	progress   *treeProgress
	image      snapshot.Image
	root       *node
	// found are the checkpoints of runs before, own is this run's; taken is the one that
	// keeps what this run goes by.
	found      []*kopia.Manifest
	own, taken manifest.ID
	// began and listed are when the run and its last checkpoint were, and done what was
	// through by that.
	began, listed time.Time
	done          int64
	// records are those of the whole tree, once the first checkpoint has them.
	records *kopia.DirEntry
}

func (u *treeUpload) sent(n int64) { u.progress.uploaded.Add(n) }

func (u *treeUpload) upload(ctx context.Context, known []knownTree) (*kopia.DirEntry, error) {
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
	m, err := uploader.Upload(ctx, treeFolder{treeEntry{u.root}}, plan, src, before...)
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
	r := n.record
	if n.young {
		r.Changed = stamp{} // The next run reads it again.
	}
	if err := to.Encode(r); err != nil {
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
	// awaited are files that the last checkpoint has, as long as they have not come.
	awaited map[string]bool
}

const (
	progressInterval = 300 * time.Millisecond
	failuresShown    = 10
)

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
	delete(p.awaited, path)
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

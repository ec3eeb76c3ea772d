package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/object"
	kopia "github.com/kopia/kopia/snapshot"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// What was sent since the last flush is sent again after a kill.
	flushBytes    = 1 << 30
	flushInterval = 30 * time.Second
	// flushLeast keeps slow transfers from making an index for every pack.
	flushLeast = 2 * packSize
)

// Begin starts a new Block image.
func (r *Repository) Begin(ctx context.Context, image snapshot.Image, parent snapshot.ImageID) (snapshot.Writer, error) {
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	if _, err := source(image.Volume); err != nil {
		return nil, err
	}
	w := &writer{repository: r, image: image, open: map[int64]*segment{}, zeros: map[int64]object.ID{}, zeroSegments: map[int64]object.ID{}}
	if parent != "" {
		p, err := r.openListed(ctx, parent)
		if errors.Is(err, snapshot.ErrNotFound) {
			return nil, fmt.Errorf("%w: %w", snapshot.ErrNoBase, err)
		}
		if err != nil {
			return nil, err
		}
		w.parent, w.image.ChunkSize = p, p.layout.chunk
	}
	if w.image.ChunkSize == 0 {
		w.image.ChunkSize = chunkFor(image.Size)
	}
	w.layout = layout{image.Size, segmentFor(w.image.ChunkSize), w.image.ChunkSize}
	if !w.layout.valid() {
		return nil, fmt.Errorf("an image of %d bytes in chunks of %d cannot be kept", image.Size, w.image.ChunkSize)
	}
	if w.parent != nil && w.parent.layout.segment != w.layout.segment {
		w.layout.segment = w.parent.layout.segment
	}
	w.root = make([]object.ID, w.layout.segments())
	w.flushed = r.now()
	w.hold = &hold{repository: r, safe: w.flushed}
	var err error
	if w.checkpoints, err = r.checkpointsOf(ctx, image.Volume); err != nil {
		return nil, fmt.Errorf("begin an image: %w", err)
	}
	_, w.session, err = r.rep.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "image", OnUpload: w.sent})
	if err != nil {
		return nil, fmt.Errorf("begin an image: %w", explain(r.location, err))
	}
	return w, nil
}

// writer builds one image. A segment is in memory from its first chunk to its
// last; then only the id of its index is.
type writer struct {
	repository *Repository
	session    repo.DirectRepositoryWriter
	image      snapshot.Image
	layout     layout
	parent     *blockImage
	kept       atomic.Bool
	alike      likeness

	mu    sync.Mutex
	open  map[int64]*segment
	root  []object.ID // by segment; empty where nothing was put or kept
	zeros map[int64]object.ID
	ended bool
	// zeroing guards zeroSegments, and comes before mu.
	zeroing      sync.Mutex
	zeroSegments map[int64]object.ID

	// rewrite says that what was stored before is stored again.
	rewrite   bool
	rewriting sync.Mutex

	// key names the checkpoints of this image; empty without any.
	key string
	// checkpoints are those of the volume that are listed.
	checkpoints   []*kopia.Manifest
	checkpointing sync.Mutex
	// hold is of the checkpoint that this run went on from, until it has made its own.
	hold *hold

	untold, unflushed atomic.Int64
	flushing          sync.Mutex
	flushed           time.Time // under flushing
}

// segment is one that is not complete.
type segment struct {
	index  int64
	loaded sync.Once
	failed error
	parent []object.IndirectObjectEntry // nil where the parent has no such segment

	mu     sync.Mutex
	chunks []object.ID
	filled int64
}

func (w *writer) sent(n int64) {
	w.untold.Add(n)
	w.unflushed.Add(n)
}

// ChunkSize is the image's.
func (w *writer) ChunkSize() int64 { return w.layout.chunk }

// Put stores a chunk.
func (w *writer) Put(ctx context.Context, offset int64, chunk []byte) (snapshot.PutResult, error) {
	if err := w.valid(ctx, offset, chunk); err != nil {
		return snapshot.PutResult{}, err
	}
	if err := w.hold.start(ctx); err != nil {
		return snapshot.PutResult{}, err
	}
	s, err := w.segment(ctx, offset/w.layout.segment)
	if err != nil {
		return snapshot.PutResult{}, err
	}
	var held object.ID
	known := false
	if w.parent != nil {
		held, known = w.held(s, offset)
	}
	id := held
	if !known || !w.holds(held, chunk) {
		if id, err = w.store(ctx, offset, chunk); err != nil {
			return snapshot.PutResult{}, fmt.Errorf("chunk at %d: %w", offset, explain(w.repository.location, err))
		}
	}
	changed := chunk != nil
	if w.parent != nil {
		changed = !known || held != id
	}
	if err := w.fill(ctx, s, offset, id); err != nil {
		return snapshot.PutResult{}, err
	}
	if err := w.maybeFlush(ctx); err != nil {
		return snapshot.PutResult{}, fmt.Errorf("flush: %w", explain(w.repository.location, err))
	}
	return snapshot.PutResult{Changed: changed, Uploaded: w.untold.Swap(0)}, nil
}

func (w *writer) valid(ctx context.Context, offset int64, chunk []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.repository.failed(); err != nil {
		return err
	}
	if offset < 0 || offset >= w.layout.size || offset%w.layout.chunk != 0 {
		return fmt.Errorf("no chunk starts at %d", offset)
	}
	if want := w.layout.chunkLength(offset); chunk != nil && int64(len(chunk)) != want {
		return fmt.Errorf("chunk at %d has %d bytes, not %d", offset, len(chunk), want)
	}
	return nil
}

func (w *writer) store(ctx context.Context, offset int64, chunk []byte) (object.ID, error) {
	if chunk != nil {
		return w.leaf(ctx, chunk)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.zeroLocked(ctx, w.layout.chunkLength(offset))
}

// segment finds or opens a segment, with the parent's beside it.
func (w *writer) segment(ctx context.Context, index int64) (*segment, error) {
	w.mu.Lock()
	if w.root[index] != object.EmptyID {
		w.mu.Unlock()
		return nil, fmt.Errorf("segment %d is complete and was given again", index)
	}
	s := w.open[index]
	if s == nil {
		s = &segment{index: index, chunks: make([]object.ID, w.layout.chunksIn(index))}
		w.open[index] = s
	}
	w.mu.Unlock()
	s.loaded.Do(func() {
		if w.parent != nil && index < int64(len(w.parent.root)) {
			s.parent, s.failed = w.parent.entries(ctx, index)
		}
	})
	return s, s.failed
}

// held is the parent's object of the chunk at offset, if it has that very chunk.
func (w *writer) held(s *segment, offset int64) (object.ID, bool) {
	i := offset % w.layout.segment / w.layout.chunk
	if i >= int64(len(s.parent)) || s.parent[i].Length != w.layout.chunkLength(offset) {
		return object.EmptyID, false
	}
	return s.parent[i].Object, true
}

// fill notes a chunk, and stores the index of a segment that is complete.
func (w *writer) fill(ctx context.Context, s *segment, offset int64, id object.ID) error {
	i := offset % w.layout.segment / w.layout.chunk
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chunks[i] != object.EmptyID {
		return fmt.Errorf("chunk at %d was given twice", offset)
	}
	s.chunks[i] = id
	s.filled++
	if s.filled < int64(len(s.chunks)) {
		return nil
	}
	return w.seal(ctx, s)
}

func (w *writer) seal(ctx context.Context, s *segment) error {
	e := w.layout.segmentAt(s.index)
	id, err := w.index(ctx, s)
	if err != nil {
		return fmt.Errorf("segment at %d: %w", e.Offset, explain(w.repository.location, err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.root[s.index] = id
	delete(w.open, s.index)
	return nil
}

func (w *writer) index(ctx context.Context, s *segment) (object.ID, error) {
	if w.allZeros(s) {
		return w.zeroSegment(ctx, s.index)
	}
	e := w.layout.segmentAt(s.index)
	entries := make([]object.IndirectObjectEntry, len(s.chunks))
	for i, id := range s.chunks {
		at := int64(i) * w.layout.chunk
		entries[i] = object.IndirectObjectEntry{Start: at, Length: w.layout.chunkLength(e.Offset + at), Object: id}
	}
	return w.writeIndex(ctx, entries)
}

func (w *writer) writeIndex(ctx context.Context, entries []object.IndirectObjectEntry) (object.ID, error) {
	if err := w.indexAnew(ctx, entries); err != nil {
		return object.EmptyID, err
	}
	return w.anew(ctx, func() (object.ID, error) { return writeIndirect(ctx, w.session, entries) })
}

// Keep takes the parent's chunks, whole segments without reading them.
func (w *writer) Keep(ctx context.Context, e snapshot.Extent) error {
	if w.parent == nil {
		return errors.New("there is no parent to keep from")
	}
	if e.Offset < 0 || e.Length < 0 || e.End() > w.layout.size || e.Offset%w.layout.chunk != 0 {
		return fmt.Errorf("%d bytes at %d are no run of chunks", e.Length, e.Offset)
	}
	if err := w.hold.start(ctx); err != nil {
		return err
	}
	w.kept.Store(true)
	for at := e.Offset; at < e.End(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		index := at / w.layout.segment
		whole := w.layout.segmentAt(index)
		if at == whole.Offset && e.End() >= whole.End() && w.keepSegment(index) {
			at = whole.End()
			continue
		}
		end := min(e.End(), whole.End())
		if err := w.keepChunks(ctx, index, at, end); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func (w *writer) keepSegment(index int64) bool {
	if index >= int64(len(w.parent.root)) || w.parent.root[index].Length != w.layout.segmentAt(index).Length {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open[index] != nil || w.root[index] != object.EmptyID {
		return false
	}
	w.root[index] = w.parent.root[index].Object
	return true
}

func (w *writer) keepChunks(ctx context.Context, index, from, to int64) error {
	s, err := w.segment(ctx, index)
	if err != nil {
		return err
	}
	for at := from; at < to; at += w.layout.chunk {
		id, ok := w.held(s, at)
		if !ok || at+w.layout.chunkLength(at) > to {
			return fmt.Errorf("the parent has no such chunk at %d", at)
		}
		if err := w.fill(ctx, s, at, id); err != nil {
			return err
		}
	}
	return nil
}

// maybeFlush makes what was sent durable now and then; one caller at a time
// does, the others go on.
func (w *writer) maybeFlush(ctx context.Context) error {
	n := w.unflushed.Load()
	if n < flushLeast || !w.flushing.TryLock() {
		return nil
	}
	defer w.flushing.Unlock()
	if n < w.repository.flushBytes && w.repository.now().Sub(w.flushed) < flushInterval {
		return nil
	}
	w.unflushed.Store(0)
	w.flushed = w.repository.now()
	return w.session.Flush(withOneList(ctx))
}

// Commit completes what was left out with zeros and lists the image.
func (w *writer) Commit(ctx context.Context) (snapshot.Image, int64, error) {
	image, err := w.commit(ctx)
	if err != nil {
		return snapshot.Image{}, w.untold.Swap(0), explain(w.repository.location, err)
	}
	return image, w.untold.Swap(0), nil
}

func (w *writer) commit(ctx context.Context) (snapshot.Image, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.Image{}, err
	}
	if err := w.complete(ctx); err != nil {
		return snapshot.Image{}, err
	}
	entries := make([]object.IndirectObjectEntry, len(w.root))
	for i, id := range w.root {
		e := w.layout.segmentAt(int64(i))
		entries[i] = object.IndirectObjectEntry{Start: e.Offset, Length: e.Length, Object: id}
	}
	root, err := w.writeIndex(ctx, entries)
	if err != nil {
		return snapshot.Image{}, err
	}
	record := imageRecord{Image: w.image, SegmentSize: w.layout.segment, Zeros: w.knownZeros()}
	volume := fileEntry(volumeName, root, w.layout.size, timestamp(w.image.Taken))
	var needed snapshot.ImageID
	if w.kept.Load() {
		needed = w.parent.image.ID
	}
	image, err := w.repository.saveImage(ctx, w.session, record, []*kopia.DirEntry{volume}, directory{hold: w.hold, replaces: w.spent()}, needed)
	if err != nil {
		return snapshot.Image{}, err
	}
	return image, w.end(ctx)
}

// knownZeros names the zero chunks of this image, and the parent's, whose
// kept segments may have others.
func (w *writer) knownZeros() map[int64]object.ID {
	known := map[int64]object.ID{}
	if w.parent != nil && w.kept.Load() {
		for length, id := range w.parent.zeros {
			known[length] = id
		}
	}
	for length, id := range w.zeros {
		known[length] = id
	}
	return known
}

func (w *writer) complete(ctx context.Context) error {
	var open []*segment
	w.mu.Lock()
	for _, s := range w.open {
		open = append(open, s)
	}
	w.mu.Unlock()
	for _, s := range open {
		start := w.layout.segmentAt(s.index).Offset
		for i, id := range s.chunks {
			if id != object.EmptyID {
				continue
			}
			at := start + int64(i)*w.layout.chunk
			zero, err := w.store(ctx, at, nil)
			if err != nil {
				return fmt.Errorf("chunk at %d: %w", at, err)
			}
			if err := w.fill(ctx, s, at, zero); err != nil {
				return err
			}
		}
	}
	for i, id := range w.root {
		if id != object.EmptyID {
			continue
		}
		var err error
		if w.root[i], err = w.zeroSegment(ctx, int64(i)); err != nil {
			return err
		}
	}
	return nil
}

// Abort drops the image.
func (w *writer) Abort(ctx context.Context) error { return w.end(ctx) }

func (w *writer) end(ctx context.Context) error {
	w.mu.Lock()
	ended := w.ended
	w.ended = true
	w.mu.Unlock()
	if ended {
		return nil
	}
	if w.rewrite {
		w.repository.sessions.unfollow()
	}
	return w.session.Close(ctx)
}

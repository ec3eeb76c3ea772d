package kopiastore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	kopia "github.com/kopia/kopia/snapshot"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	kindCheckpoint = "checkpoint"
	checkpointFile = "checkpoint.json"
	checkpointTag  = "tag:checkpoint"
	// treeKey is the key of the checkpoints of all trees of a volume: which of its files a
	// later run need not read is told by each file's size and times, as with an image.
	treeKey = "tree"
	// deadAfter is when a checkpoint that nobody took up is swept by the next
	// image of its volume.
	deadAfter = 24 * time.Hour
)

// checkpointRecord is the content of checkpoint.json.
type checkpointRecord struct {
	Format int `json:"format"`
	// Key is that of the run, which names the volume's moment and how it is read.
	Key string `json:"key"`
	// Done are the ranges that the volume's file holds, sorted; the rest is zeros.
	Done []checkpointRange `json:"done"`
	// Kept says that some of it is the base's, which must still be there.
	Kept bool `json:"kept,omitempty"`
}

type checkpointRange struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

var _ snapshot.Checkpointer = (*writer)(nil)

// checkpointsOf lists the checkpoints of a volume, newest first.
func (r *Repository) checkpointsOf(ctx context.Context, v snapshot.Volume) ([]*kopia.Manifest, error) {
	src, err := source(v)
	if err != nil {
		return nil, err
	}
	return r.checkpoints(ctx, &src)
}

// checkpoints lists those of a source, or all, newest first.
func (r *Repository) checkpoints(ctx context.Context, src *kopia.SourceInfo) ([]*kopia.Manifest, error) {
	found, err := r.manifests(ctx, src, map[string]string{kindTag: kindCheckpoint})
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	slices.SortFunc(found, func(a, b *kopia.Manifest) int { return cmp.Compare(b.EndTime, a.EndTime) })
	return found, nil
}

// Resume takes over the newest checkpoint of the key. One that is damaged is
// as good as none: time is all it saves.
func (w *writer) Resume(ctx context.Context, key string) ([]snapshot.Extent, error) {
	w.key = key
	if err := w.repository.recoverPacks(ctx, w.session); err != nil {
		return nil, explain(w.repository.location, err)
	}
	for _, m := range w.checkpoints {
		if m.Tags[checkpointTag] != key {
			continue
		}
		done, err := w.take(ctx, m)
		if errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, errFormat) {
			clear(w.root)
			clear(w.open)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("checkpoint %s: %w", m.ID, err)
		}
		_, safe := w.hold.state()
		w.hold.move(m.ID, safe)
		return done, nil
	}
	return nil, nil
}

// take fills the writer with what a checkpoint holds.
func (w *writer) take(ctx context.Context, m *kopia.Manifest) ([]snapshot.Extent, error) {
	held, point, err := w.point(ctx, m)
	if err != nil {
		return nil, err
	}
	var done []snapshot.Extent
	for _, e := range point.Done {
		d := snapshot.Extent(e)
		if err := w.takeExtent(ctx, held, d); err != nil {
			return nil, err
		}
		done = append(done, d)
	}
	w.kept.Store(point.Kept)
	return done, nil
}

// point reads a checkpoint and sees that it is of this run.
func (w *writer) point(ctx context.Context, m *kopia.Manifest) (*blockImage, checkpointRecord, error) {
	var point checkpointRecord
	r := w.repository
	record, files, err := r.record(ctx, m)
	if err != nil {
		return nil, point, err
	}
	held := &blockImage{repository: r, image: record.Image, layout: record.layout()}
	if files[volumeName] == nil || held.layout != w.layout {
		return nil, point, fmt.Errorf("it is of another run: %w", snapshot.ErrCorrupt)
	}
	data, err := r.readFile(ctx, files, checkpointFile)
	if err != nil {
		return nil, point, err
	}
	if point, err = decodeCheckpoint(data, w.key, w.layout); err != nil {
		return nil, point, err
	}
	if held.root, err = r.readIndirect(ctx, files[volumeName].ObjectID, held.layout.size); err != nil {
		return nil, point, r.damage(err)
	}
	if int64(len(held.root)) != w.layout.segments() {
		return nil, point, fmt.Errorf("it has %d segments: %w", len(held.root), snapshot.ErrCorrupt)
	}
	return held, point, nil
}

// decodeCheckpoint reads checkpoint.json of a run, and sees that its ranges are
// whole chunks of the volume, in order.
func decodeCheckpoint(data []byte, key string, l layout) (checkpointRecord, error) {
	var point checkpointRecord
	if err := json.Unmarshal(data, &point); err != nil {
		return point, fmt.Errorf("%s: %w: %w", checkpointFile, snapshot.ErrCorrupt, err)
	}
	if point.Format != formatVersion || point.Key != key {
		return point, fmt.Errorf("it is of another run: %w", snapshot.ErrCorrupt)
	}
	at := int64(0)
	for _, e := range point.Done {
		d := snapshot.Extent(e)
		if d.Offset < at || d.Length <= 0 || d.Length > l.size-d.Offset || d.Offset%l.chunk != 0 || !l.edge(d.End()) {
			return point, fmt.Errorf("%d bytes at %d cannot be done: %w", d.Length, d.Offset, snapshot.ErrCorrupt)
		}
		at = d.End()
	}
	return point, nil
}

// takeExtent takes whole segments as they are, and the chunks of others.
func (w *writer) takeExtent(ctx context.Context, held *blockImage, e snapshot.Extent) error {
	for at := e.Offset; at < e.End(); {
		index := at / w.layout.segment
		whole := w.layout.segmentAt(index)
		if at == whole.Offset && e.End() >= whole.End() {
			w.root[index] = held.root[index].Object
			at = whole.End()
			continue
		}
		entries, err := held.entries(ctx, index)
		if err != nil {
			return err
		}
		s, err := w.segment(ctx, index)
		if err != nil {
			return err
		}
		for end := min(e.End(), whole.End()); at < end; at += w.layout.chunk {
			if err := w.fill(ctx, s, at, entries[(at-whole.Offset)/w.layout.chunk].Object); err != nil {
				return err
			}
		}
		at = min(e.End(), whole.End())
	}
	return nil
}

// Checkpoint lists what is complete so far as an image that is not, with the
// ranges that it holds beside it, and removes the checkpoint before.
func (w *writer) Checkpoint(ctx context.Context) error {
	w.checkpointing.Lock()
	defer w.checkpointing.Unlock()
	if err := w.checkpoint(ctx); err != nil {
		return explain(w.repository.location, err)
	}
	return nil
}

func (w *writer) checkpoint(ctx context.Context) error {
	if w.key == "" {
		return errors.New("a run without a key has no checkpoints")
	}
	if err := w.repository.failed(); err != nil {
		return err
	}
	begun := w.repository.now()
	volume, point, err := w.soFar(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	record := imageRecord{Image: w.image, SegmentSize: w.layout.segment, Zeros: w.knownZeros()}
	w.mu.Unlock()
	taken := timestamp(w.image.Taken)
	image, err := writeRecord(ctx, w.session, record)
	if err != nil {
		return err
	}
	progress, err := writeJSON(ctx, w.session, checkpointFile, point, taken)
	if err != nil {
		return err
	}
	src, err := source(w.image.Volume)
	if err != nil {
		return err
	}
	w.unflushed.Store(0)
	id, err := w.repository.save(ctx, w.session, directory{
		entries: []*kopia.DirEntry{fileEntry(volumeName, volume, w.layout.size, taken), image, progress},
		source:  src, taken: w.image.Taken, size: w.layout.size, incomplete: kindCheckpoint, replaces: w.spent(), hold: w.hold,
		tags: map[string]string{kindTag: kindCheckpoint, checkpointTag: w.key},
		text: fmt.Sprintf("Checkpoint of %s, round %s", w.image.Volume, w.image.Round),
	}, "")
	if err != nil {
		return err
	}
	w.checkpoints = []*kopia.Manifest{{ID: id, Tags: map[string]string{checkpointTag: w.key}}}
	w.hold.move("", begun)
	return nil
}

// spent are the checkpoints that go when the next one, or the image, comes:
// its own, and those of the volume that nobody took up for long.
func (w *writer) spent() []manifest.ID {
	var ids []manifest.ID
	for _, m := range w.checkpoints {
		key := m.Tags[checkpointTag]
		if w.key != "" && key == w.key || key != treeKey && w.repository.now().Sub(m.EndTime.ToTime()) > deadAfter {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// soFar stores the volume with zeros for what is not there yet.
func (w *writer) soFar(ctx context.Context) (object.ID, checkpointRecord, error) {
	root, open := w.state()
	// Asked after that: it is set before anything is kept.
	point := checkpointRecord{Format: formatVersion, Key: w.key, Done: []checkpointRange{}, Kept: w.kept.Load()}
	entries := make([]object.IndirectObjectEntry, len(root))
	for i, id := range root {
		e := w.layout.segmentAt(int64(i))
		switch chunks := open[int64(i)]; {
		case id != object.EmptyID:
			point.add(e)
		case chunks != nil:
			var err error
			if id, err = w.partial(ctx, e, chunks, &point); err != nil {
				return object.EmptyID, point, err
			}
		default:
			var err error
			if id, err = w.zeroSegment(ctx, int64(i)); err != nil {
				return object.EmptyID, point, err
			}
		}
		entries[i] = object.IndirectObjectEntry{Start: e.Offset, Length: e.Length, Object: id}
	}
	id, err := w.writeIndex(ctx, entries)
	return id, point, err
}

// state copies what is there while others go on.
func (w *writer) state() (root []object.ID, open map[int64][]object.ID) {
	open = map[int64][]object.ID{}
	w.mu.Lock()
	root = slices.Clone(w.root)
	var segments []*segment
	for _, s := range w.open {
		segments = append(segments, s)
	}
	w.mu.Unlock()
	for _, s := range segments {
		s.mu.Lock()
		open[s.index] = slices.Clone(s.chunks)
		s.mu.Unlock()
	}
	return root, open
}

// partial stores the index of a segment that is not complete.
func (w *writer) partial(ctx context.Context, e snapshot.Extent, chunks []object.ID, point *checkpointRecord) (object.ID, error) {
	entries := make([]object.IndirectObjectEntry, len(chunks))
	for i, id := range chunks {
		at := int64(i) * w.layout.chunk
		length := w.layout.chunkLength(e.Offset + at)
		if id == object.EmptyID {
			var err error
			if id, err = w.store(ctx, e.Offset+at, nil); err != nil {
				return object.EmptyID, err
			}
		} else {
			point.add(snapshot.Extent{Offset: e.Offset + at, Length: length})
		}
		entries[i] = object.IndirectObjectEntry{Start: at, Length: length, Object: id}
	}
	return w.writeIndex(ctx, entries)
}

// add notes a range that follows those before.
func (p *checkpointRecord) add(e snapshot.Extent) {
	if n := len(p.Done); n > 0 && p.Done[n-1].Offset+p.Done[n-1].Length == e.Offset {
		p.Done[n-1].Length += e.Length
		return
	}
	p.Done = append(p.Done, checkpointRange(e))
}

package kopiastore

import (
	"context"
	"fmt"

	"github.com/kopia/kopia/repo/object"

	"github.com/godwit-io/godwit/snapshot"
)

var (
	_ snapshot.Zeroer  = (*writer)(nil)
	_ snapshot.Weigher = (*writer)(nil)
)

// Weight is the packs that are filled, one of chunks and one of indexes, and
// one more that each Put may be sending.
func (w *writer) Weight() (own, put int64) { return 2 * packSize, packSize }

// Zero takes whole segments at once, so that what is not allocated costs
// nothing at any size.
func (w *writer) Zero(ctx context.Context, e snapshot.Extent) (int64, error) {
	if e.Offset < 0 || e.Length < 0 || e.Length > w.layout.size-e.Offset || e.Offset%w.layout.chunk != 0 || !w.layout.edge(e.End()) {
		return 0, fmt.Errorf("%d bytes at %d are no run of chunks", e.Length, e.Offset)
	}
	if err := w.hold.start(ctx); err != nil {
		return 0, err
	}
	var changed int64
	for at := e.Offset; at < e.End(); {
		if err := ctx.Err(); err != nil {
			return changed, err
		}
		index := at / w.layout.segment
		whole := w.layout.segmentAt(index)
		if at == whole.Offset && e.End() >= whole.End() {
			n, err := w.zeroWhole(ctx, index)
			if err != nil {
				return changed, err
			}
			changed += n
			at = whole.End()
			continue
		}
		for end := min(e.End(), whole.End()); at < end; at += w.layout.chunkLength(at) {
			result, err := w.Put(ctx, at, nil)
			if err != nil {
				return changed, err
			}
			w.untold.Add(result.Uploaded)
			if result.Changed {
				changed += w.layout.chunkLength(at)
			}
		}
	}
	return changed, nil
}

func (w *writer) zeroWhole(ctx context.Context, index int64) (int64, error) {
	id, err := w.zeroSegment(ctx, index)
	if err != nil {
		return 0, err
	}
	changed, err := w.notZero(ctx, index, id)
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.root[index] != object.EmptyID || w.open[index] != nil {
		return 0, fmt.Errorf("segment %d was given in part before it was zeroed", index)
	}
	w.root[index] = id
	return changed, nil
}

// notZero counts the bytes of the parent's chunks that are not zeros.
func (w *writer) notZero(ctx context.Context, index int64, zero object.ID) (int64, error) {
	e := w.layout.segmentAt(index)
	switch {
	case w.parent == nil:
		return 0, nil
	case index >= int64(len(w.parent.root)):
		return e.Length, nil
	case w.parent.root[index].Object == zero:
		return 0, nil
	}
	entries, err := w.parent.entries(ctx, index)
	if err != nil {
		return 0, err
	}
	var changed int64
	for at := e.Offset; at < e.End(); at += w.layout.chunk {
		id, err := w.store(ctx, at, nil)
		if err != nil {
			return 0, err
		}
		i, length := (at-e.Offset)/w.layout.chunk, w.layout.chunkLength(at)
		if i >= int64(len(entries)) || entries[i].Length != length || entries[i].Object != id {
			changed += length
		}
	}
	return changed, nil
}

// allZeros says that a complete segment holds nothing but the shared chunk of
// zeros, and at its end maybe the shorter one.
func (w *writer) allZeros(s *segment) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	start := w.layout.segmentAt(s.index).Offset
	for i, id := range s.chunks {
		if zero, ok := w.zeros[w.layout.chunkLength(start+int64(i)*w.layout.chunk)]; !ok || zero != id {
			return false
		}
	}
	return true
}

// zeroLocked is the one object that all chunks of zeros of a length share.
func (w *writer) zeroLocked(ctx context.Context, length int64) (object.ID, error) {
	if id, ok := w.zeros[length]; ok {
		return id, nil
	}
	id, err := w.anew(ctx, func() (object.ID, error) { return writeLeaf(ctx, w.session, make([]byte, length)) })
	if err != nil {
		return object.EmptyID, err
	}
	w.zeros[length] = id
	return id, nil
}

// zeroSegment is the one index that all segments of zeros of a length share.
func (w *writer) zeroSegment(ctx context.Context, index int64) (object.ID, error) {
	e := w.layout.segmentAt(index)
	w.zeroing.Lock()
	defer w.zeroing.Unlock()
	if id, ok := w.zeroSegments[e.Length]; ok {
		return id, nil
	}
	var entries []object.IndirectObjectEntry
	for at := e.Offset; at < e.End(); at += w.layout.chunk {
		zero, err := w.store(ctx, at, nil)
		if err != nil {
			return object.EmptyID, fmt.Errorf("chunk at %d: %w", at, err)
		}
		entries = append(entries, object.IndirectObjectEntry{Start: at - e.Offset, Length: w.layout.chunkLength(at), Object: zero})
	}
	id, err := w.writeIndex(ctx, entries)
	if err != nil {
		return object.EmptyID, err
	}
	w.zeroSegments[e.Length] = id
	return id, nil
}

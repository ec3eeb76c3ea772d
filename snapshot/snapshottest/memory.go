// Package snapshottest holds what tests of the engine share: a repository and
// devices in memory, scripted faults, and the contract that every
// snapshot.Store, Trees and Rounds keeps. Only tests import it.
//
// It never stands in for kopia where kopia can run: the same contract runs on both.
package snapshottest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	memoryChunk   = 4 << 10
	memorySegment = 64 << 10
)

// Memory is a snapshot.Store and snapshot.Rounds in memory, with small chunks
// and segments so that tests cross their edges often.
type Memory struct {
	mu     sync.Mutex
	chunks map[string][]byte
	images map[snapshot.ImageID]*memoryImage
	rounds []memoryRound
	next   int
}

type memoryImage struct {
	snapshot.Image
	order int
	ids   map[int64]string // by offset; missing means zeros
}

type memoryRound struct {
	point snapshot.RecoveryPoint
	round snapshot.SealedRound
}

var (
	_ snapshot.Store  = (*Memory)(nil)
	_ snapshot.Rounds = (*Memory)(nil)
)

// NewMemory returns an empty repository.
func NewMemory() *Memory {
	return &Memory{chunks: map[string][]byte{}, images: map[snapshot.ImageID]*memoryImage{}}
}

// Begin starts an image.
func (m *Memory) Begin(_ context.Context, image snapshot.Image, parent snapshot.ImageID) (snapshot.Writer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if image.ChunkSize == 0 {
		image.ChunkSize = memoryChunk
	}
	w := &memoryWriter{memory: m, image: memoryImage{Image: image, ids: map[int64]string{}}, parentID: parent}
	if parent != "" {
		p := m.images[parent]
		if p == nil {
			return nil, fmt.Errorf("image %s: %w", parent, snapshot.ErrNoBase)
		}
		w.parent, w.image.ChunkSize = p, p.ChunkSize
	}
	return w, nil
}

// Image describes an image.
func (m *Memory) Image(_ context.Context, id snapshot.ImageID) (snapshot.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.images[id]; i != nil {
		return i.Image, nil
	}
	return snapshot.Image{}, fmt.Errorf("image %s: %w", id, snapshot.ErrNotFound)
}

// Images lists those of a volume.
func (m *Memory) Images(_ context.Context, v snapshot.Volume) ([]snapshot.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []*memoryImage
	for _, i := range m.images {
		if i.Volume == v {
			found = append(found, i)
		}
	}
	slices.SortFunc(found, func(a, b *memoryImage) int { return a.order - b.order })
	var images []snapshot.Image
	for _, i := range found {
		images = append(images, i.Image)
	}
	return images, nil
}

// Forget drops an image.
func (m *Memory) Forget(_ context.Context, id snapshot.ImageID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.images, id)
	return nil
}

// Open opens an image.
func (m *Memory) Open(ctx context.Context, id snapshot.ImageID) (snapshot.Reader, error) {
	if _, err := m.Image(ctx, id); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memoryReader{memory: m, image: m.images[id]}, nil
}

type memoryWriter struct {
	memory   *Memory
	image    memoryImage
	parent   *memoryImage
	parentID snapshot.ImageID
}

func (w *memoryWriter) ChunkSize() int64 { return w.image.ChunkSize }

func (w *memoryWriter) length(offset int64) int64 {
	return min(w.image.ChunkSize, w.image.Size-offset)
}

func (w *memoryWriter) held(offset int64) (id string, same bool) {
	if w.parent == nil {
		return "", true
	}
	same = min(w.parent.ChunkSize, w.parent.Size-offset) == w.length(offset)
	return w.parent.ids[offset], same
}

func (w *memoryWriter) Put(ctx context.Context, offset int64, chunk []byte) (snapshot.PutResult, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.PutResult{}, err
	}
	if offset%w.image.ChunkSize != 0 || offset >= w.image.Size || chunk != nil && int64(len(chunk)) != w.length(offset) {
		return snapshot.PutResult{}, fmt.Errorf("%d bytes at %d are no chunk", len(chunk), offset)
	}
	w.memory.mu.Lock()
	defer w.memory.mu.Unlock()
	var id string
	var sent int64
	if chunk != nil {
		sum := sha256.Sum256(chunk)
		id = hex.EncodeToString(sum[:])
		if w.memory.chunks[id] == nil {
			w.memory.chunks[id] = slices.Clone(chunk)
			sent = int64(len(chunk))
		}
		w.image.ids[offset] = id
	}
	was, same := w.held(offset)
	return snapshot.PutResult{Changed: !same || was != id, Uploaded: sent}, nil
}

func (w *memoryWriter) Keep(_ context.Context, e snapshot.Extent) error {
	w.memory.mu.Lock()
	defer w.memory.mu.Unlock()
	for at := e.Offset; at < e.End(); at += w.image.ChunkSize {
		id, same := w.held(at)
		if w.parent == nil || !same {
			return fmt.Errorf("the parent has no such chunk at %d", at)
		}
		if id != "" {
			w.image.ids[at] = id
		}
	}
	return nil
}

func (w *memoryWriter) Commit(ctx context.Context) (snapshot.Image, int64, error) {
	if err := ctx.Err(); err != nil {
		return snapshot.Image{}, 0, err
	}
	w.memory.mu.Lock()
	defer w.memory.mu.Unlock()
	if w.parentID != "" && w.memory.images[w.parentID] == nil {
		return snapshot.Image{}, 0, fmt.Errorf("image %s: %w", w.parentID, snapshot.ErrNoBase)
	}
	w.memory.next++
	w.image.order = w.memory.next
	w.image.ID = snapshot.ImageID(fmt.Sprintf("image-%d", w.memory.next))
	w.memory.images[w.image.ID] = &w.image
	return w.image.Image, 0, nil
}

func (w *memoryWriter) Abort(context.Context) error { return nil }

type memoryReader struct {
	memory *Memory
	image  *memoryImage
}

func (r *memoryReader) Image() snapshot.Image { return r.image.Image }

func (r *memoryReader) Close() error { return nil }

func (r *memoryReader) Segments(ctx context.Context) ([]snapshot.Segment, error) {
	var segments []snapshot.Segment
	for at := int64(0); at < r.image.Size; at += memorySegment {
		s := snapshot.Segment{Extent: snapshot.Extent{Offset: at, Length: min(memorySegment, r.image.Size-at)}}
		chunks, err := r.Chunks(ctx, s)
		if err != nil {
			return nil, err
		}
		h := sha256.New()
		for _, c := range chunks {
			if _, err := fmt.Fprintln(h, c.Offset, c.Length, c.ID); err != nil {
				return nil, err
			}
		}
		s.ID = hex.EncodeToString(h.Sum(nil))
		segments = append(segments, s)
	}
	return segments, nil
}

func (r *memoryReader) Chunks(_ context.Context, s snapshot.Segment) ([]snapshot.Chunk, error) {
	var chunks []snapshot.Chunk
	for at := s.Offset; at < s.End(); at += r.image.ChunkSize {
		id, stored := r.image.ids[at]
		chunks = append(chunks, snapshot.Chunk{
			Extent: snapshot.Extent{Offset: at, Length: min(r.image.ChunkSize, r.image.Size-at)}, ID: id, Zero: !stored,
		})
	}
	return chunks, nil
}

func (r *memoryReader) Fetch(ctx context.Context, chunks []snapshot.Chunk, _ int, emit func(snapshot.Chunk, []byte) error) (int64, error) {
	var fetched int64
	for _, c := range chunks {
		if err := ctx.Err(); err != nil {
			return fetched, err
		}
		r.memory.mu.Lock()
		data := slices.Clone(r.memory.chunks[c.ID])
		r.memory.mu.Unlock()
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != c.ID {
			return fetched, fmt.Errorf("chunk at %d: %w", c.Offset, snapshot.ErrCorrupt)
		}
		fetched += c.Length
		if err := emit(c, data); err != nil {
			return fetched, err
		}
	}
	return fetched, nil
}

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
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	memoryChunk   = 4 << 10
	memorySegment = 64 << 10
	// historyChunk makes volumes of many chunks of few bytes.
	historyChunk = 1 << 10
)

// Memory is a snapshot.Store and snapshot.Rounds in memory, with small chunks
// and segments so that tests cross their edges often.
type Memory struct {
	// name is in the names of images, so that two repositories have none in common.
	name   string
	mu     sync.Mutex
	chunks map[string][]byte
	images map[snapshot.ImageID]*memoryImage
	rounds []memoryRound
	epochs map[string][]snapshot.SealedEpoch
	next   int
	// points are the checkpoints, by their key.
	points map[string]memoryPoint
}

type memoryPoint struct {
	ids  map[int64]string
	done map[int64]bool
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
	_ snapshot.Checkpointer = (*memoryWriter)(nil)

	_ snapshot.Store  = (*Memory)(nil)
	_ snapshot.Rounds = (*Memory)(nil)
	_ snapshot.Epochs = (*Memory)(nil)
)

// NewMemory returns an empty repository.
func NewMemory() *Memory {
	return &Memory{
		name:   fmt.Sprintf("%08x", rand.Uint32()),
		chunks: map[string][]byte{}, images: map[snapshot.ImageID]*memoryImage{}, points: map[string]memoryPoint{},
		epochs: map[string][]snapshot.SealedEpoch{},
	}
}

// Begin starts an image.
func (m *Memory) Begin(_ context.Context, image snapshot.Image, parent snapshot.ImageID) (snapshot.Writer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if image.ChunkSize == 0 {
		image.ChunkSize = memoryChunk
	}
	w := &memoryWriter{memory: m, image: memoryImage{Image: image, ids: map[int64]string{}}, done: map[int64]bool{}, parentID: parent}
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

// Images lists those of a volume, or of all.
func (m *Memory) Images(_ context.Context, v snapshot.Volume) ([]snapshot.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []*memoryImage
	for _, i := range m.images {
		if v == (snapshot.Volume{}) || i.Volume == v {
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
	key      string
	done     map[int64]bool // what was put or kept, by offset
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
	if w.done[offset] {
		return snapshot.PutResult{}, fmt.Errorf("chunk at %d was given twice", offset)
	}
	w.done[offset] = true
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
		w.done[at] = true
	}
	return nil
}

func (w *memoryWriter) Resume(_ context.Context, key string) ([]snapshot.Extent, error) {
	w.memory.mu.Lock()
	defer w.memory.mu.Unlock()
	w.key = key
	point := w.memory.points[key]
	maps.Copy(w.image.ids, point.ids)
	maps.Copy(w.done, point.done)
	var done []snapshot.Extent
	for at := int64(0); at < w.image.Size; at += w.image.ChunkSize {
		if w.done[at] {
			done = append(done, snapshot.Extent{Offset: at, Length: w.length(at)})
		}
	}
	return done, nil
}

func (w *memoryWriter) Checkpoint(ctx context.Context) error {
	w.memory.mu.Lock()
	defer w.memory.mu.Unlock()
	w.memory.points[w.key] = memoryPoint{maps.Clone(w.image.ids), maps.Clone(w.done)}
	return ctx.Err()
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
	w.image.ID = snapshot.ImageID(fmt.Sprintf("image-%s-%d", w.memory.name, w.memory.next))
	w.memory.images[w.image.ID] = &w.image
	delete(w.memory.points, w.key)
	return w.image.Image, 0, nil
}

func (w *memoryWriter) Abort(context.Context) error { return nil }

type memoryReader struct {
	memory *Memory
	image  *memoryImage
}

func (r *memoryReader) Image() snapshot.Image { return r.image.Image }

func (r *memoryReader) Close() error { return nil }

func (r *memoryReader) ChunkID(chunk []byte) string {
	sum := sha256.Sum256(chunk)
	return hex.EncodeToString(sum[:])
}

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

func (r *memoryReader) Fetch(ctx context.Context, chunks []snapshot.Chunk, _ snapshot.FetchOptions, emit func(snapshot.Extent, []byte) error) (int64, error) {
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
		if err := emit(c.Extent, data); err != nil {
			return fetched, err
		}
	}
	return fetched, nil
}

// World is the repository for TestHistories.
func (m *Memory) World() *World {
	return &World{
		Open:   func(*testing.T, string) (snapshot.Store, error) { return m, nil },
		Damage: m.damage,
		Chunk:  historyChunk,
	}
}

// damage changes a bit of a chunk.
func (m *Memory) damage(rnd *rand.Rand) (undo func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.chunks) == 0 {
		return func() {}
	}
	id := slices.Sorted(maps.Keys(m.chunks))[rnd.IntN(len(m.chunks))]
	whole := m.chunks[id]
	broken := slices.Clone(whole)
	broken[rnd.IntN(len(broken))] ^= 1 << rnd.IntN(8)
	m.chunks[id] = broken
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.chunks[id] = whole
	}
}

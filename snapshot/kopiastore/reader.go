package kopiastore

import (
	"context"
	"errors"
	"fmt"

	"github.com/kopia/kopia/repo/object"

	"github.com/godwit-io/godwit/snapshot"
)

// blockImage is a committed Block image with its list of segments.
type blockImage struct {
	repository *Repository
	image      snapshot.Image
	layout     layout
	zeros      map[int64]object.ID
	root       []object.IndirectObjectEntry
	unsealer   *unsealer
	buffers    buffers
}

// Open opens a committed Block image.
func (r *Repository) Open(ctx context.Context, id snapshot.ImageID) (snapshot.Reader, error) {
	b, err := r.openImage(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := b.checkZeros(); err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	return b, nil
}

func (r *Repository) openImage(ctx context.Context, id snapshot.ImageID) (*blockImage, error) {
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	return r.openListed(ctx, id)
}

// openListed opens one that was there at the last refresh.
func (r *Repository) openListed(ctx context.Context, id snapshot.ImageID) (*blockImage, error) {
	m, err := r.listed(ctx, id, kindImage)
	if err != nil {
		return nil, err
	}
	record, files, err := r.record(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	volume := files[volumeName]
	format := r.rep.ContentReader().ContentFormat()
	unsealer, err := newUnsealer(format.Encryptor(), format.HashFunc())
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	b := &blockImage{
		repository: r, image: record.Image, zeros: record.Zeros, unsealer: unsealer,
		layout: record.layout(),
	}
	switch {
	case record.Image.Kind != snapshot.Block:
		return nil, fmt.Errorf("image %s is of kind %s, not %s", id, record.Image.Kind, snapshot.Block)
	case volume == nil || volume.FileSize != record.Image.Size || !b.layout.valid():
		return nil, fmt.Errorf("image %s: %s does not describe its volume: %w", id, imageFile, snapshot.ErrCorrupt)
	}
	b.root, err = r.readIndirect(ctx, volume.ObjectID, b.layout.size)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, r.damage(err))
	}
	for i, e := range b.root {
		if want := b.layout.segmentAt(int64(i)); e.Start != want.Offset || e.Length != want.Length {
			return nil, fmt.Errorf("image %s: segment %d is %d bytes at %d: %w", id, i, e.Length, e.Start, snapshot.ErrCorrupt)
		}
	}
	return b, nil
}

// checkZeros holds the shared chunks of zeros against the hash of zeros, since
// chunks that are named as they are never read.
func (b *blockImage) checkZeros() error {
	for length, id := range b.zeros {
		if length <= 0 || length > b.layout.chunk {
			return fmt.Errorf("zeros of %d bytes: %w", length, snapshot.ErrCorrupt)
		}
		if b.unsealer.id(make([]byte, length)) != id.String() {
			return fmt.Errorf("the chunk of zeros holds something else: %w", snapshot.ErrCorrupt)
		}
	}
	return nil
}

// entries are the chunks of a segment, relative to its start.
func (b *blockImage) entries(ctx context.Context, index int64) ([]object.IndirectObjectEntry, error) {
	e := b.root[index]
	entries, err := b.repository.readIndirect(ctx, e.Object, e.Length)
	if err != nil {
		return nil, fmt.Errorf("segment at %d of image %s: %w", e.Start, b.image.ID, b.repository.damage(err))
	}
	for i, c := range entries {
		at := int64(i) * b.layout.chunk
		if c.Start != at || c.Length != b.layout.chunkLength(e.Start+at) {
			return nil, fmt.Errorf("segment at %d of image %s: chunk %d is %d bytes at %d: %w", e.Start, b.image.ID, i, c.Length, c.Start, snapshot.ErrCorrupt)
		}
	}
	return entries, nil
}

// Image describes it.
func (b *blockImage) Image() snapshot.Image { return b.image }

// Segments lists them.
func (b *blockImage) Segments(context.Context) ([]snapshot.Segment, error) {
	segments := make([]snapshot.Segment, len(b.root))
	for i, e := range b.root {
		segments[i] = snapshot.Segment{Extent: snapshot.Extent{Offset: e.Start, Length: e.Length}, ID: e.Object.String()}
	}
	return segments, nil
}

// Chunks lists those of a segment.
func (b *blockImage) Chunks(ctx context.Context, s snapshot.Segment) ([]snapshot.Chunk, error) {
	index := s.Offset / b.layout.segment
	if index < 0 || index >= int64(len(b.root)) || b.layout.segmentAt(index) != s.Extent {
		return nil, errors.New("that segment is not of this image")
	}
	entries, err := b.entries(ctx, index)
	if err != nil {
		return nil, err
	}
	chunks := make([]snapshot.Chunk, len(entries))
	for i, e := range entries {
		zero, known := b.zeros[e.Length]
		chunks[i] = snapshot.Chunk{
			Extent: snapshot.Extent{Offset: s.Offset + e.Start, Length: e.Length}, ID: e.Object.String(), Zero: known && zero == e.Object,
		}
	}
	return chunks, nil
}

// ChunkID is the id that a chunk of these bytes has in this repository.
func (b *blockImage) ChunkID(chunk []byte) string { return b.unsealer.id(chunk) }

// Close has nothing to free: the Repository holds the connection.
func (b *blockImage) Close() error { return nil }

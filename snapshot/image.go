package snapshot

import "context"

// Segment is a run of chunks that a Store keeps under one id. Equal ids mean
// equal content, so that a segment whose id did not change is never read.
type Segment struct {
	Extent
	ID string
}

// Writer builds one Block image. Put and Keep may be called concurrently, each
// chunk once; what was neither put nor kept reads as zeros. A Writer holds the
// segments that are not complete in memory, so callers go roughly by offset.
type Writer interface {
	// ChunkSize in bytes; Put takes whole chunks (the last one may be short).
	ChunkSize() int64
	// Put stores the chunk at offset; nil is a chunk of zeros. The buffer is
	// the caller's again when Put returns.
	Put(ctx context.Context, offset int64, chunk []byte) (PutResult, error)
	// Keep takes the parent's chunks in the extent as they are.
	Keep(ctx context.Context, e Extent) error
	// Commit makes the image durable and listed. Uploaded is what left for the
	// repository and no Put has told. ErrNoBase if the parent went meanwhile.
	Commit(ctx context.Context) (image Image, uploaded int64, err error)
	// Abort drops it; after Commit it does nothing.
	Abort(ctx context.Context) error
}

// PutResult tells what became of a chunk.
type PutResult struct {
	// Changed is false where the parent, or without one a volume of zeros,
	// holds the same bytes.
	Changed bool
	// Uploaded counts stored bytes that left for the repository since the last
	// call that told of any; they need not be those of this chunk.
	Uploaded int64
}

// Identifier tells what the id of a chunk is without storing it.
type Identifier interface {
	// ChunkID is the id that a chunk of these bytes has in the repository. It
	// may be called concurrently.
	ChunkID(chunk []byte) string
}

// Reader reads one committed Block image. Its methods may be called concurrently.
type Reader interface {
	Identifier
	// Image describes it.
	Image() Image
	// Segments in order of offset, covering the whole size.
	Segments(ctx context.Context) ([]Segment, error)
	// Chunks of one segment, in order of offset.
	Chunks(ctx context.Context, s Segment) ([]Chunk, error)
	// Fetch reads chunks in whatever order is fastest, checks each against its
	// id (ErrCorrupt), and calls emit for all of them, several at once where they
	// follow each other, from several goroutines; the buffer is only lent.
	Fetch(ctx context.Context, chunks []Chunk, o FetchOptions, emit func(Extent, []byte) error) (fetched int64, err error)
	// Close frees what the Reader holds.
	Close() error
}

// FetchOptions bound a Fetch.
type FetchOptions struct {
	// Workers is how many requests may be under way at once.
	Workers int
	// Budget is asked for the memory of each; nil bounds nothing.
	Budget *Budget
}

// Chunk is the smallest unit that is stored.
type Chunk struct {
	Extent
	// ID is the content's; equal ids mean equal bytes.
	ID string
	// Zero says that the chunk holds only zeros and needs no reading.
	Zero bool
}

package kopiastore

import "github.com/godwit-io/godwit/snapshot"

const (
	// smallChunk sends a fifth of what the large one does for small random
	// writes; largeChunk keeps the index of a large volume in memory.
	smallChunk    = 128 << 10
	largeChunk    = 1 << 20
	largeVolume   = 1 << 40
	segmentChunks = 512
	// maxSegment is what stock kopia holds in memory per file it restores.
	maxSegment = 256 << 20
	maxChunk   = 4 << 20
)

// layout cuts a volume into segments, and those into chunks.
type layout struct{ size, segment, chunk int64 }

func chunkFor(size int64) int64 {
	if size > largeVolume {
		return largeChunk
	}
	return smallChunk
}

func segmentFor(chunk int64) int64 {
	return max(chunk, min(chunk*segmentChunks, maxSegment/chunk*chunk))
}

func (l layout) valid() bool {
	return l.size > 0 && l.chunk > 0 && l.chunk <= maxChunk && l.segment >= l.chunk && l.segment%l.chunk == 0
}

// segments rounds up without a sum, which a segment length read from a record
// could make overflow.
func (l layout) segments() int64 { return (l.size-1)/l.segment + 1 }

// segmentAt is the range of a segment.
func (l layout) segmentAt(index int64) snapshot.Extent {
	start := index * l.segment
	return snapshot.Extent{Offset: start, Length: min(l.segment, l.size-start)}
}

// chunksIn is how many chunks a segment has.
func (l layout) chunksIn(index int64) int64 {
	return (l.segmentAt(index).Length-1)/l.chunk + 1
}

// chunkLength is the length of the chunk that starts at offset.
func (l layout) chunkLength(offset int64) int64 { return min(l.chunk, l.size-offset) }

// edge says whether a chunk ends at offset.
func (l layout) edge(offset int64) bool { return offset == l.size || offset%l.chunk == 0 }

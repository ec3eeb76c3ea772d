package node

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"sort"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/cbt"
)

const (
	// witnesses is how many places are looked at that a storage says need not be
	// read; each takes one read of witnessSize or of a chunk.
	witnesses   = 64
	witnessSize = 64 << 10
)

// witnessZeros reads here and there where the storage says that nothing is
// allocated. Data found there proves it wrong; finding none proves nothing.
func (l *ladder) witnessZeros(ctx context.Context, extents []snapshot.Extent) error {
	size := l.source.Size()
	buf := make([]byte, witnessSize)
	for _, at := range places(untold(extents, size), witnessSize, l.seed()) {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(witnessSize, size-at)]
		if err := readFull(l.source, b, at); err != nil {
			return err
		}
		for i, c := range b {
			if c != 0 && isUntold(extents, at+int64(i)) {
				return lied("byte %d holds data, and no allocated block has it", at+int64(i))
			}
		}
	}
	return nil
}

// witnessDelta compares here and there, by hash, with what the base's image
// holds where the storage says that nothing changed. It fetches no data.
func (l *ladder) witnessDelta(ctx context.Context, parent snapshot.Image, extents []snapshot.Extent) (err error) {
	reader, err := l.repository.Open(ctx, parent.ID)
	if err != nil {
		return fmt.Errorf("open the base's image %s: %w", parent.ID, err)
	}
	defer func() { joinClose(&err, "the base's image", reader.Close()) }()
	segments, err := reader.Segments(ctx)
	if err != nil {
		return fmt.Errorf("read the base's image %s: %w", parent.ID, err)
	}
	// Beyond either's last whole chunk the two cannot be compared.
	end := min(parent.Size, l.source.Size())
	end -= end % parent.ChunkSize
	for _, at := range places(untold(extents, end), parent.ChunkSize, l.seed()) {
		at -= at % parent.ChunkSize
		whole := snapshot.Extent{Offset: at, Length: parent.ChunkSize}
		if whole.End() > end || touches(extents, whole) {
			continue
		}
		if err := l.compare(ctx, reader, segments, whole); err != nil {
			return err
		}
	}
	return nil
}

// compare holds one chunk of the volume against the image's.
func (l *ladder) compare(ctx context.Context, reader snapshot.Reader, segments []snapshot.Segment, e snapshot.Extent) error {
	i := sort.Search(len(segments), func(i int) bool { return segments[i].End() > e.Offset })
	if i == len(segments) {
		return fmt.Errorf("the base's image has no segment at %d", e.Offset)
	}
	chunks, err := reader.Chunks(ctx, segments[i])
	if err != nil {
		return fmt.Errorf("read the base's image at %d: %w", e.Offset, err)
	}
	for _, c := range chunks {
		if c.Extent != e {
			continue
		}
		b := make([]byte, e.Length)
		if err := readFull(l.source, b, e.Offset); err != nil {
			return err
		}
		same := isZero(b)
		if !c.Zero {
			same = reader.ChunkID(b) == c.ID
		}
		if !same {
			return lied("the %d bytes at %d changed, and no changed block has them", e.Length, e.Offset)
		}
	}
	return nil
}

// seed differs between transfers, so that each looks at other places.
func (l *ladder) seed() uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, string(l.transfer.UID)) // a hash takes every byte
	return h.Sum64()
}

// places spreads offsets evenly over what the extents hold: the first and the
// last place of all, and those between moved by the seed.
func places(extents []snapshot.Extent, size int64, seed uint64) []int64 {
	var total int64
	for _, e := range extents {
		total += e.Length
	}
	if total == 0 {
		return nil
	}
	stride := max(total/witnesses, size)
	wanted := []int64{0}
	//nolint:gosec // below stride, which is no negative number
	for at := int64(seed % uint64(stride)); at < total; at += stride {
		wanted = append(wanted, at)
	}
	wanted = append(wanted, max(0, total-size))
	slices.Sort(wanted)
	var found []int64
	before := int64(0)
	for _, e := range extents {
		for len(wanted) > 0 && wanted[0] < before+e.Length {
			found = append(found, e.Offset+wanted[0]-before)
			wanted = wanted[1:]
		}
		before += e.Length
	}
	return found
}

// untold is what of a volume the sorted extents leave out, up to end.
func untold(extents []snapshot.Extent, end int64) []snapshot.Extent {
	var out []snapshot.Extent
	at := int64(0)
	for _, e := range extents {
		if e.Offset >= end {
			break
		}
		if e.Offset > at {
			out = append(out, snapshot.Extent{Offset: at, Length: e.Offset - at})
		}
		at = max(at, e.End())
	}
	if at < end {
		out = append(out, snapshot.Extent{Offset: at, Length: end - at})
	}
	return out
}

func isUntold(extents []snapshot.Extent, at int64) bool {
	return !touches(extents, snapshot.Extent{Offset: at, Length: 1})
}

// touches says whether any of the sorted extents has a byte of e.
func touches(extents []snapshot.Extent, e snapshot.Extent) bool {
	i := sort.Search(len(extents), func(i int) bool { return extents[i].End() > e.Offset })
	return i < len(extents) && extents[i].Offset < e.End()
}

func isZero(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
}

func readFull(source io.ReaderAt, b []byte, at int64) error {
	if n, err := source.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("read %d bytes at %d: %w", len(b), at, err)
	}
	return nil
}

func lied(format string, args ...any) error {
	return &cbt.Error{Reason: cbt.Lied, Asked: "blocks of the snapshot", Problem: fmt.Sprintf(format, args...)}
}

package snapshot

import (
	"cmp"
	"fmt"
	"slices"
)

// End is the offset of the first byte after the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// widen returns the extents as whole chunks of a volume of that size: sorted,
// merged, and cut at its end. What trackers report may overlap, be out of
// order or reach past the end; a negative or overflowing extent is their bug
// and refused, since what it meant is unknown.
func widen(extents []Extent, size, chunk int64) ([]Extent, error) {
	var whole []Extent
	for _, e := range extents {
		if e.Offset < 0 || e.Length < 0 || e.End() < e.Offset {
			return nil, fmt.Errorf("extent of %d bytes at %d makes no sense", e.Length, e.Offset)
		}
		if e.Length == 0 || e.Offset >= size {
			continue
		}
		start := e.Offset - e.Offset%chunk
		end := size
		if last := e.End() - 1; last < size {
			end = chunkEnd(last-last%chunk, size, chunk)
		}
		whole = append(whole, Extent{start, end - start})
	}
	slices.SortFunc(whole, func(a, b Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	return merge(whole), nil
}

// chunkEnd is where the chunk at offset ends in a volume of that size.
func chunkEnd(offset, size, chunk int64) int64 {
	if size-offset < chunk {
		return size
	}
	return offset + chunk
}

// merge joins sorted extents that touch or overlap; it reuses the slice.
func merge(sorted []Extent) []Extent {
	out := sorted[:0]
	for _, e := range sorted {
		if n := len(out); n > 0 && e.Offset <= out[n-1].End() {
			out[n-1].Length = max(out[n-1].End(), e.End()) - out[n-1].Offset
			continue
		}
		out = append(out, e)
	}
	return out
}

// gaps returns what of the volume the sorted, merged extents leave out.
func gaps(extents []Extent, size int64) []Extent {
	var out []Extent
	at := int64(0)
	for _, e := range extents {
		if e.Offset > at {
			out = append(out, Extent{at, e.Offset - at})
		}
		at = e.End()
	}
	if at < size {
		out = append(out, Extent{at, size - at})
	}
	return out
}

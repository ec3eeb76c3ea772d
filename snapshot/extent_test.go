package snapshot

import (
	"bytes"
	"math"
	"testing"
)

func TestWidenRefusesNonsense(t *testing.T) {
	for _, e := range []Extent{{-1, 5}, {5, -1}, {math.MaxInt64, 2}} {
		if got, err := widen([]Extent{e}, 100, 10); err == nil {
			t.Errorf("widen(%v) = %v", e, got)
		}
	}
}

// FuzzWiden compares with a bitmap of chunks.
func FuzzWiden(f *testing.F) {
	f.Add(uint16(1000), uint8(7), []byte{1, 2, 3, 4, 200, 9})
	f.Add(uint16(1), uint8(1), []byte{0, 1})
	f.Fuzz(func(t *testing.T, bytesTotal uint16, chunkBytes uint8, raw []byte) {
		size, chunk := int64(bytesTotal), int64(chunkBytes)
		if size == 0 || chunk == 0 {
			return
		}
		want := make([]byte, size)
		var extents []Extent
		for ; len(raw) >= 2; raw = raw[2:] {
			e := Extent{int64(raw[0]) * 5, int64(raw[1])}
			extents = append(extents, e)
			for at := e.Offset; at < min(e.End(), size); at++ {
				start := at - at%chunk
				for i := start; i < min(start+chunk, size); i++ {
					want[i] = 1
				}
			}
		}
		got, err := widen(extents, size, chunk)
		if err != nil {
			t.Fatal(err)
		}
		covered := make([]byte, size)
		last := int64(-1)
		for _, e := range got {
			if e.Offset <= last || e.Length <= 0 {
				t.Fatalf("%v is not sorted and merged", got)
			}
			last = e.End()
			for i := e.Offset; i < e.End(); i++ {
				covered[i] = 1
			}
		}
		if !bytes.Equal(covered, want) {
			t.Fatalf("widen(%v, %d, %d) = %v", extents, size, chunk, got)
		}
		for _, e := range gaps(got, size) {
			for i := e.Offset; i < e.End(); i++ {
				covered[i]++
			}
		}
		if !bytes.Equal(covered, bytes.Repeat([]byte{1}, int(size))) {
			t.Fatalf("gaps(%v, %d) do not complete it", got, size)
		}
	})
}

package kopiastore

import (
	"bytes"
	"slices"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

// TestRunHandsOnWhatFollows gives a run chunks that follow each other, that do not, and
// that are too many, and sees what is handed on at once, and with which bytes.
func TestRunHandsOnWhatFollows(t *testing.T) {
	const chunk = 8
	for name, c := range map[string]struct {
		most    int64
		offsets []int64
		foreign bool // decoders make room of their own
		want    []snapshot.Extent
	}{
		"one":       {chunk, []int64{40}, false, []snapshot.Extent{{Offset: 40, Length: 8}}},
		"together":  {64, []int64{0, 8, 16}, false, []snapshot.Extent{{Offset: 0, Length: 24}}},
		"apart":     {64, []int64{0, 16, 24, 8}, false, []snapshot.Extent{{Offset: 0, Length: 8}, {Offset: 16, Length: 16}, {Offset: 8, Length: 8}}},
		"too many":  {16, []int64{0, 8, 16}, false, []snapshot.Extent{{Offset: 0, Length: 16}, {Offset: 16, Length: 8}}},
		"elsewhere": {64, []int64{0, 8, 24}, true, []snapshot.Extent{{Offset: 0, Length: 16}, {Offset: 24, Length: 8}}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []snapshot.Extent
			emitted, want := map[int64]byte{}, map[int64]byte{}
			r := run{most: c.most, room: &room{}, emit: func(e snapshot.Extent, b []byte) error {
				got = append(got, e)
				for i, v := range b {
					emitted[e.Offset+int64(i)] = v
				}
				return nil
			}}
			for i, at := range c.offsets {
				into, err := r.space(at, chunk)
				if err != nil || len(into) != 0 || cap(into) != chunk+decodeSlack {
					t.Fatalf("space for %d: %d of %d, %v", at, len(into), cap(into), err)
				}
				if c.foreign {
					into = nil
				}
				data := append(into, bytes.Repeat([]byte{byte(i + 1)}, chunk)...)
				// What a decoder leaves in its slack is no part of it.
				_ = append(data, 0xee, 0xee)
				r.add(data)
				for j := range int64(chunk) {
					want[at+j] = byte(i + 1)
				}
			}
			if err := r.flush(); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("handed on %v, want %v", got, c.want)
			}
			for at, v := range want {
				if emitted[at] != v {
					t.Errorf("byte %d is %d, not %d", at, emitted[at], v)
				}
			}
		})
	}
}

package kopiastore

import (
	"reflect"
	"testing"

	"github.com/kopia/kopia/repo/object"
)

func FuzzIndirect(f *testing.F) {
	f.Add([]byte(`{"stream":"kopia:indirect","entries":[{"l":4,"o":"Ix0123456789abcdef0123456789abcdef"},{"s":4,"l":2,"o":"0123456789abcdef0123456789abcdef"}]}`), int64(6))
	f.Add([]byte(`{"stream":"kopia:indirect","entries":[]}`), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, length int64) {
		entries, err := decodeIndirect(data, length)
		if err != nil {
			return
		}
		at := int64(0)
		for _, e := range entries {
			if e.Start != at || e.Length <= 0 {
				t.Fatalf("%+v does not follow %d", e, at)
			}
			at += e.Length
		}
		if at != length {
			t.Fatalf("entries end at %d, not at %d", at, length)
		}
		encoded, err := encodeIndirect(entries)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeIndirect(encoded, length)
		if err != nil || len(entries) > 0 && !reflect.DeepEqual(again, entries) {
			t.Fatalf("%v came back as %v (%v)", entries, again, err)
		}
	})
}

func FuzzLayout(f *testing.F) {
	f.Add(int64(1<<40+5), int64(1<<20))
	f.Add(int64(1), int64(128<<10))
	f.Fuzz(func(t *testing.T, size, chunk int64) {
		if size <= 0 || size > 1<<44 || chunk < 512 || chunk > maxChunk || size/chunk > 1<<24 {
			return
		}
		l := layout{size, segmentFor(chunk), chunk}
		if !l.valid() || l.segment > max(maxSegment, chunk) {
			t.Fatalf("%+v is not valid", l)
		}
		at := int64(0)
		for i := range l.segments() {
			e := l.segmentAt(i)
			if e.Offset != at || e.Length <= 0 || l.chunksIn(i) <= 0 {
				t.Fatalf("segment %d of %+v is %+v", i, l, e)
			}
			last := e.Offset + (l.chunksIn(i)-1)*chunk
			if last+l.chunkLength(last) < e.End() {
				t.Fatalf("chunks of segment %d of %+v end before it", i, l)
			}
			at = e.End()
		}
		if at != size {
			t.Fatalf("segments of %+v end at %d", l, at)
		}
	})
}

// TestIndirectNests shows that a root too long for one content is read, and
// that the id of an index may have its own index.
func TestIndirectNests(t *testing.T) {
	r := open(t, New(), folder(t))
	_, w, err := r.rep.NewDirectWriter(t.Context(), sessionForTest())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close(t.Context()) }()
	leaf, err := writeLeaf(t.Context(), w, []byte{7})
	if err != nil {
		t.Fatal(err)
	}
	const n = 100_000
	entries := make([]object.IndirectObjectEntry, n)
	for i := range entries {
		entries[i] = object.IndirectObjectEntry{Start: int64(i), Length: 1, Object: leaf}
	}
	id, err := writeIndirect(t.Context(), w, entries)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("root of %d segments is %s", n, id)
	got, err := readIndirect(t.Context(), w, id, n)
	if err != nil || !reflect.DeepEqual(got, entries) {
		t.Fatalf("a long index came back with %d entries: %v", len(got), err)
	}
}

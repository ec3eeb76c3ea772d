package kopiastore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/kopia/kopia/repo/object"
)

func FuzzIndirect(f *testing.F) {
	f.Add([]byte(`{"stream":"kopia:indirect","entries":[{"l":4,"o":"Ix0123456789abcdef0123456789abcdef"},{"s":4,"l":2,"o":"0123456789abcdef0123456789abcdef"}]}`), int64(6))
	f.Add([]byte(`{"stream":"kopia:indirect","entries":[{"s":0,"l":04,"o":"Ix01\u0032"} ]}`), int64(4))
	f.Add([]byte(`{"stream":"kopia:indirect","entries":[{"l":1,"o":"Z0123"},{"s":1,"l":999999999999999999,"o":"Z0123"}]}`), int64(1e18))
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
		if len(entries) == 0 {
			return
		}
		encoded := encodeNode(entries)
		want, err := json.Marshal(indirect{indirectStream, entries})
		if err != nil || !bytes.Equal(encoded, want) {
			t.Fatalf("encoded as\n%s, not\n%s (%v)", encoded, want, err)
		}
		again, ok := parseNode(encoded)
		if !ok || !reflect.DeepEqual(again, entries) {
			t.Fatalf("%v came back as %v (%t)", entries, again, ok)
		}
		// What the quick parser takes of anything at all is what the other takes.
		if quick, ok := parseNode(data); ok {
			var slow indirect
			if err := json.Unmarshal(data, &slow); err != nil || slow.Stream != indirectStream || !reflect.DeepEqual(quick, slow.Entries) {
				t.Fatalf("%s is %v, and read quickly %v (%v)", data, slow, quick, err)
			}
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
	t.Parallel()
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

func BenchmarkNode(b *testing.B) {
	entries := make([]object.IndirectObjectEntry, segmentChunks)
	for i := range entries {
		id, err := object.ParseID(fmt.Sprintf("%032x", i*7919))
		if err != nil {
			b.Fatal(err)
		}
		entries[i] = object.IndirectObjectEntry{Start: int64(i) * smallChunk, Length: smallChunk, Object: id}
	}
	encoded := encodeNode(entries)
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			encodeNode(entries)
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := decodeIndirect(encoded, segmentChunks*smallChunk); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("json", func(b *testing.B) {
		for b.Loop() {
			var in indirect
			if err := json.Unmarshal(encoded, &in); err != nil {
				b.Fatal(err)
			}
		}
	})
}

package kopiastore

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

// FuzzImageRecord reads any bytes as godwit.json: the layout of what is accepted
// cuts the volume, also one that grew, into ranges that follow each other to its end.
func FuzzImageRecord(f *testing.F) {
	f.Add([]byte(`{"format":1,"image":{"volume":{"cluster":"c","namespace":"n","name":"v"},"kind":"Block","taken":"2024-05-06T07:08:09Z","size":1099511627781,"chunkSize":131072},"segmentSize":67108864,"zeros":{"131072":"0123456789abcdef0123456789abcdef"}}`))
	f.Add([]byte(`{"format":1,"image":{"kind":"Block","size":1000,"chunkSize":1048576},"segmentSize":9223372036853727232}`))
	f.Add([]byte(`{"format":1,"image":{"kind":"Block","size":9223372036854775807,"chunkSize":3},"segmentSize":3}`))
	f.Add([]byte(`{"format":2,"image":null}`))
	f.Add([]byte(`{"format":1,"zeros":{"-1":"Ix"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		record, err := decodeRecord(data)
		if err != nil {
			if !errors.Is(err, snapshot.ErrCorrupt) && !errors.Is(err, errFormat) {
				t.Fatalf("%v, want ErrCorrupt or errFormat", err)
			}
			return
		}
		l := record.layout()
		if !l.valid() {
			return
		}
		checkLayout(t, l)
		// A volume that grew is still cut as its parent image is.
		checkLayout(t, layout{max(l.size, 1<<44), l.segment, l.chunk})
	})
}

// checkLayout looks at both ends and the middle: there may be more segments than
// can be gone through.
func checkLayout(t *testing.T, l layout) {
	t.Helper()
	count := l.segments()
	if count <= 0 {
		t.Fatalf("%+v has %d segments", l, count)
	}
	for _, i := range []int64{0, count / 2, count - 1} {
		e := l.segmentAt(i)
		if e.Offset < 0 || e.Length <= 0 || e.End() > l.size || i > 0 && l.segmentAt(i-1).End() != e.Offset {
			t.Fatalf("segment %d of %+v is %+v", i, l, e)
		}
		n := l.chunksIn(i)
		last := e.Offset + (n-1)*l.chunk
		if length := l.chunkLength(last); n <= 0 || last >= e.End() || length <= 0 || last+length != e.End() {
			t.Fatalf("the last of %d chunks of segment %d of %+v is %d bytes at %d", n, i, l, length, last)
		}
	}
	if end := l.segmentAt(count - 1).End(); end != l.size {
		t.Fatalf("segments of %+v end at %d", l, end)
	}
}

// FuzzCheckpointRecord reads any bytes as checkpoint.json: what is accepted are
// whole chunks of the volume, apart from each other and in order.
func FuzzCheckpointRecord(f *testing.F) {
	f.Add([]byte(`{"format":1,"key":"k","done":[{"offset":0,"length":131072},{"offset":262144,"length":131077}],"kept":true}`), int64(393221), int64(131072))
	f.Add([]byte(`{"format":1,"key":"k","done":[{"offset":9223372036854775804,"length":4}]}`), int64(8), int64(4))
	f.Add([]byte(`{"format":1,"key":"k","done":[{"offset":4,"length":9223372036854775804}]}`), int64(8), int64(4))
	f.Add([]byte(`{"format":1,"key":"other","done":null}`), int64(8), int64(4))
	f.Fuzz(func(t *testing.T, data []byte, size, chunk int64) {
		if chunk <= 0 || chunk > maxChunk {
			return
		}
		l := layout{size, segmentFor(chunk), chunk}
		if !l.valid() {
			return
		}
		point, err := decodeCheckpoint(data, "k", l)
		if err != nil {
			if !errors.Is(err, snapshot.ErrCorrupt) {
				t.Fatalf("%v, want ErrCorrupt", err)
			}
			return
		}
		at := int64(0)
		for _, e := range point.Done {
			d := snapshot.Extent(e)
			if d.Offset < at || d.Length <= 0 || d.End() > size || d.End() < d.Offset || d.Offset%chunk != 0 || d.End() != size && d.End()%chunk != 0 {
				t.Fatalf("%+v after %d, of a volume of %d bytes in chunks of %d", d, at, size, chunk)
			}
			at = d.End()
		}
		encoded, err := json.Marshal(point)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeCheckpoint(encoded, "k", l); err != nil || !reflect.DeepEqual(again, point) {
			t.Fatalf("%+v came back as %+v (%v)", point, again, err)
		}
	})
}

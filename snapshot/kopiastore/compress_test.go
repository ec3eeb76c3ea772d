package kopiastore

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/content"
)

// words are bytes that shrink.
func words(n int) []byte {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for b.Len() < n {
		b.WriteString([]string{"volume ", "chunk ", "cluster ", "round ", "snapshot "}[r.IntN(5)])
		b.WriteByte(byte('a' + r.IntN(26)))
	}
	return b.Bytes()[:n]
}

// TestThriftGoesByTheStore compresses for stores of several speeds, with a clock by which
// the smaller result takes six times as long as the hasty one.
func TestThriftGoesByTheStore(t *testing.T) {
	const smallTakes, hastyTakes = 600 * time.Microsecond, 100 * time.Microsecond
	chunk := words(smallChunk)
	for _, c := range []struct {
		name string
		rate int64 // bytes per second; zero for a store that was sent nothing yet
		want compression.Name
	}{
		{"nothing sent yet", 0, compressor},
		{"in the same rack", 500 << 20, hasty},
		{"far away", 2 << 20, compressor},
	} {
		t.Run(c.name, func(t *testing.T) {
			var at time.Time
			asked := 0
			thrift := newThrift(func() time.Time {
				// Asked before and after each of the two, the smaller one first.
				at = at.Add([]time.Duration{0, smallTakes, 0, hastyTakes}[asked%4])
				asked++
				return at
			})
			thrift.header(chunk)
			if c.rate > 0 {
				thrift.sent("p1", packSize, time.Duration(packSize*int64(time.Second)/c.rate))
			}
			if got := thrift.header(chunk); got != compression.ByName[c.want].HeaderID() {
				t.Errorf("compressed by %x, not by %s", got, c.want)
			}
			if got := thrift.header(noise(smallChunk, 3)); got != content.NoCompression {
				t.Errorf("noise is compressed by %x", got)
			}
		})
	}
}

// TestThriftFollowsTheStore takes back its choice when the store becomes slow, and again.
func TestThriftFollowsTheStore(t *testing.T) {
	thrift := newThrift(time.Now)
	thrift.small, thrift.fast = costs{6e-9, 0.4}, costs{1e-9, 0.5}
	say := func(id blob.ID, rate int64, want bool) {
		t.Helper()
		for range 20 {
			thrift.sent(id, packSize, time.Duration(packSize*int64(time.Second)/rate))
		}
		if got := thrift.haste.Load(); got != want {
			t.Errorf("at %d bytes a second, hasty is %t", rate, got)
		}
	}
	say("p1", 400<<20, true)
	say("p2", 1<<20, false)
	say("q3", 400<<20, false) // An index is no pack of chunks.
	say("p4", 400<<20, true)
}

// TestLeanIsKopias has kopia's own compressors read what the lean ones make, and the
// other way, through the unsealer's decoders too.
func TestLeanIsKopias(t *testing.T) {
	New()
	u, err := newUnsealer(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []compression.Name{compressor, hasty} {
		own, ok := compression.ByName[name].(*lean)
		if !ok || compression.ByHeaderID[own.HeaderID()] != compression.Compressor(own) {
			t.Fatalf("%s is not ours", name)
		}
		for _, data := range [][]byte{{}, {1}, words(4 << 10), words(smallChunk), noise(smallChunk, 3), words(largeChunk + 7), words(5 << 20)} {
			for _, c := range []compression.Compressor{own, own.Compressor} {
				var packed, plain bytes.Buffer
				if err := c.Compress(&packed, bytes.NewReader(data)); err != nil {
					t.Fatalf("%s of %d bytes: %v", name, len(data), err)
				}
				if err := own.Decompress(&plain, bytes.NewReader(packed.Bytes()), true); err != nil || !bytes.Equal(plain.Bytes(), data) {
					t.Errorf("%s of %d bytes, read by kopia: %v", name, len(data), err)
				}
				got, err := u.decompress(packed.Bytes(), own.HeaderID(), make([]byte, 0, len(data)+decodeSlack))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s of %d bytes, read by the unsealer: %v", name, len(data), err)
				}
				if _, err := u.decompress(packed.Bytes()[:packed.Len()/2], own.HeaderID(), make([]byte, 0, len(data)+decodeSlack)); err == nil && len(data) > 1 {
					t.Errorf("%s of %d bytes is read from half of it", name, len(data))
				}
			}
		}
	}
}

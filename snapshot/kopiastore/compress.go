package kopiastore

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/content"
)

const (
	// compressor costs least where it is worth anything at all.
	compressor = "zstd-fastest"
	// hasty costs a sixth of that, and leaves a fifth more to be sent.
	hasty = "s2-default"

	sampleSize  = 4 << 10
	sampleCount = 4
	// worthwhile is the share of a sample's size, in percent, that it must
	// shrink to before the whole is worth the time.
	worthwhile = 94
	// trialEvery is how many chunks pass from one trial of both to the next.
	trialEvery = 64
	// weight is what the newest measurement counts in an average.
	weight = 0.25
	// leastPack is what a pack must have to tell how fast the store takes it.
	leastPack = 1 << 20
)

// sampleRoom is memory for a sample, and for what it shrinks to.
type sampleRoom struct {
	sample [sampleCount * sampleSize]byte
	packed [sampleCount * sampleSize * 5 / 4]byte // s2.MaxEncodedLen is less
}

// shrinks guesses by a fast compression of a few samples whether the slower
// one pays.
func (r *sampleRoom) shrinks(data []byte) bool {
	sample := data
	if len(data) > len(r.sample) {
		sample = r.sample[:0]
		step := (len(data) - sampleSize) / (sampleCount - 1)
		for i := range sampleCount {
			sample = append(sample, data[i*step:i*step+sampleSize]...)
		}
	}
	return len(s2.Encode(r.packed[:], sample))*100 < len(sample)*worthwhile
}

// thrift chooses how chunks are compressed: who stores one also sends the pack that it
// fills, so that what counts is the time of both. Where the store takes packs faster than
// they are compressed, the hasty compressor is the better one; where it is far away, or
// traffic is limited, the smaller result is. Until a pack was sent it is the smaller one.
type thrift struct {
	now    func() time.Time
	rooms  sync.Pool // of *sampleRoom
	chunks atomic.Int64
	// haste is the choice.
	haste atomic.Bool

	mu sync.Mutex
	// sending is how long the store takes for a byte of a pack, in seconds.
	sending     average
	small, fast costs
}

// costs are what compressing a byte takes.
type costs struct {
	// seconds is how long it takes, left the share of it that is left to be sent.
	seconds, left average
}

// average counts what is newer for more. It is zero before the first value.
type average float64

func (a *average) add(v float64) {
	if *a == 0 {
		*a = average(v)
		return
	}
	*a += weight * (average(v) - *a)
}

func newThrift(now func() time.Time) *thrift {
	return &thrift{now: now, rooms: sync.Pool{New: func() any { return new(sampleRoom) }}}
}

// header is what to compress the chunk with.
func (t *thrift) header(chunk []byte) compression.HeaderID {
	room, _ := t.rooms.Get().(*sampleRoom)
	shrinks := room.shrinks(chunk)
	t.rooms.Put(room)
	if !shrinks {
		return content.NoCompression
	}
	if n := t.chunks.Add(1); n%trialEvery == 1 {
		t.try(chunk, n%(2*trialEvery) != 1)
	}
	if t.haste.Load() {
		return compression.ByName[hasty].HeaderID()
	}
	return compression.HeaderZstdFastest
}

// try compresses a chunk by both, for nothing but their costs. The first has to bring the
// chunk into the processor's caches, so that they take turns in that.
func (t *thrift) try(chunk []byte, hastyFirst bool) {
	type trial struct {
		name compression.Name
		into *costs
	}
	trials := []trial{{compressor, &t.small}, {hasty, &t.fast}}
	if hastyFirst {
		slices.Reverse(trials)
	}
	for _, c := range trials {
		var packed bytes.Buffer
		packed.Grow(len(chunk))
		begun := t.now()
		if err := compression.ByName[c.name].Compress(&packed, bytes.NewReader(chunk)); err != nil {
			return // Storing it will fail too, and says why.
		}
		took := t.now().Sub(begun).Seconds()
		t.mu.Lock()
		c.into.seconds.add(took / float64(len(chunk)))
		c.into.left.add(float64(packed.Len()) / float64(len(chunk)))
		t.mu.Unlock()
	}
	t.choose()
}

// sent takes in how long a pack took.
func (t *thrift) sent(id blob.ID, size int64, took time.Duration) {
	if size < leastPack || took <= 0 || !strings.HasPrefix(string(id), string(content.PackBlobIDPrefixRegular)) {
		return
	}
	t.mu.Lock()
	t.sending.add(took.Seconds() / float64(size))
	t.mu.Unlock()
	t.choose()
}

func (t *thrift) choose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.sending > 0 && t.small.seconds > 0 && t.fast.seconds > 0
	t.haste.Store(known && t.fast.of(t.sending) < t.small.of(t.sending))
}

// of is how long compressing a byte, and sending what is left of it, takes.
func (c costs) of(sending average) average { return c.seconds + c.left*sending }

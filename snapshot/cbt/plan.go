package cbt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// sector is the grain of a plan: no disk writes less.
	sector = 512
	// leastScratch is the smallest volume that the whole plan fits on.
	leastScratch = 32 << 20
	// scattered is how many pieces a round writes at random.
	scattered = 100
)

// Write is one write to a scratch volume. Its bytes follow from Content and
// where they are; zero writes zeros.
type Write struct {
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`
	Content uint64 `json:"content,omitempty"`
	// Why says what of a storage the write tries.
	Why string `json:"why"`
}

// Scribble makes the writes, in order. What it is given is durable once the
// caller has synced it.
func Scribble(to io.WriterAt, writes []Write) error {
	for _, w := range writes {
		if w.Offset < 0 || w.Length <= 0 || w.Offset%sector != 0 || w.Length%sector != 0 || w.Length > leastScratch {
			return fmt.Errorf("a write of %d bytes at %d is none of a plan", w.Length, w.Offset)
		}
		if _, err := to.WriteAt(w.bytes(), w.Offset); err != nil {
			return fmt.Errorf("write %d bytes at %d: %w", w.Length, w.Offset, err)
		}
	}
	return nil
}

func (w Write) bytes() []byte {
	b := make([]byte, w.Length)
	if w.Content == 0 {
		return b
	}
	for at := int64(0); at < w.Length; at += 8 {
		// Each word of each sector differs, and from the same word of another content.
		binary.LittleEndian.PutUint64(b[at:], w.Content*0x9E3779B97F4A7C15^uint64(w.Offset+at+1)) //nolint:gosec // any bits will do
	}
	return b
}

// plan is what is written to a scratch volume before each of its snapshots.
func plan(size int64, seed uint64) ([][]Write, error) {
	if size < leastScratch {
		return nil, fmt.Errorf("a volume of %d bytes is too small to check a storage: give it %d or more", size, leastScratch)
	}
	size -= size % sector
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated by its seed
	const mib, kib = 1 << 20, 1 << 10
	first := []Write{
		{0, 4 * kib, 1, "the first block"},
		{size - 4*kib, 4 * kib, 1, "the last block"},
		{mib + sector, sector, 1, "one sector"},
		{4 * mib, mib, 1, "a long run"},
		{16*mib - 4*kib, 8 * kib, 1, "across a boundary"},
	}
	for at := int64(8 * mib); at < 12*mib; at += 64 * kib {
		first = append(first, Write{at, 4 * kib, 1, "many small blocks"})
	}
	second := []Write{
		{0, sector, 2, "the first sector, again"},
		{size - sector, sector, 2, "the last sector, again"},
		{4*mib + 100*sector, sector, 2, "one sector within a run"},
		{4*mib + 512*kib, 256 * kib, 0, "zeros over data"},
		{4 * mib, 4 * kib, 1, "the same bytes again"},
		{20*mib + 8*kib, 4 * kib, 2, "where nothing was"},
		{22 * mib, 4 * kib, 0, "zeros where nothing was"},
	}
	for at := int64(8 * mib); at < 12*mib; at += 128 * kib {
		second = append(second, Write{at, sector, 2, "every other small block"})
	}
	last := []Write{
		{mib + sector, sector, 0, "zeros over one sector"},
		{24 * mib, 64 * kib, 4, "a new run"},
		{0, sector, 1, "back to the bytes of the first snapshot"},
	}
	rounds := [][]Write{first, second, nil, last}
	for i := range rounds {
		if rounds[i] == nil {
			continue // Nothing changes, and nothing is to be told.
		}
		for range scattered {
			w := Write{Length: sector * (1 + random.Int64N(128)), Content: uint64(i) + 1, Why: "at random"}
			w.Offset = sector * random.Int64N((size-w.Length)/sector)
			if random.IntN(4) == 0 {
				w.Content, w.Why = 0, "zeros at random"
			}
			rounds[i] = append(rounds[i], w)
		}
	}
	return rounds, nil
}

// state is what a scratch volume holds: by sector, the content that was written
// there last; no entry for zeros.
type state map[int64]uint64

func (s state) after(writes []Write) state {
	next := make(state, len(s))
	for k, v := range s {
		next[k] = v
	}
	for _, w := range writes {
		for at := w.Offset; at < w.Offset+w.Length; at += sector {
			delete(next, at)
			if w.Content != 0 {
				next[at] = w.Content
			}
		}
	}
	return next
}

// changed lists the sectors in which two states differ.
func (s state) changed(to state) map[int64]bool {
	all := map[int64]bool{}
	for at, content := range to {
		if s[at] != content {
			all[at] = true
		}
	}
	for at := range s {
		if _, still := to[at]; !still {
			all[at] = true
		}
	}
	return all
}

var errNoSnapshot = errors.New("no snapshot of that number was taken")

// Question asks about one of the snapshots that a Bench took, by their numbers
// from zero.
type Question struct {
	Snapshot int `json:"snapshot"`
	// Base is the snapshot that a delta starts from; negative asks for what is
	// allocated, and UnknownBase for what changed since a base that never was.
	Base int `json:"base"`
	// From asks for what lies from there on only.
	From int64 `json:"from,omitempty"`
}

// What Base may be, beside a number.
const (
	NoBase      = -1
	UnknownBase = -2
)

func (q Question) String() string {
	what := fmt.Sprintf("what changed from snapshot %d to %d", q.Base, q.Snapshot)
	switch q.Base {
	case NoBase:
		what = fmt.Sprintf("what snapshot %d has allocated", q.Snapshot)
	case UnknownBase:
		what = fmt.Sprintf("what changed from a snapshot that never was to %d", q.Snapshot)
	}
	if q.From > 0 {
		what += fmt.Sprintf(", from byte %d on", q.From)
	}
	return what
}

// Answer is what a storage said to a Question: a Map, or a Reason with its words.
type Answer struct {
	Capacity int64             `json:"capacity,omitempty"`
	Extents  []snapshot.Extent `json:"extents,omitempty"`
	Reason   Reason            `json:"reason,omitempty"`
	Problem  string            `json:"problem,omitempty"`
}

package cbt

import (
	"fmt"
	"math"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// grain is the least unit that extents are widened to: no volume is read in
	// less, and answers in sectors become shorter by it.
	grain = 4 << 10
	// mostExtents bounds what an answer takes in memory, at 16 bytes each. One
	// with more is told more coarsely: reading too much is never wrong.
	mostExtents = 1 << 20
)

// Map is what a storage told of a snapshot, checked.
type Map struct {
	// Capacity is the snapshot's size in bytes.
	Capacity int64
	// Extents are sorted, apart from one another, widened to 4 KiB or more, and
	// end at Capacity at most.
	Extents []snapshot.Extent
	// Resumed counts how often the answer broke off and was taken up again.
	Resumed int
}

// Bytes sums the extents.
func (m Map) Bytes() int64 {
	var n int64
	for _, e := range m.Extents {
		n += e.Length
	}
	return n
}

// Cover returns the extents to read of a device of that size that holds the
// snapshot. What a larger device has beyond the snapshot's end is unknown to the
// storage and therefore read; on a smaller one the snapshot cannot be.
func (m Map) Cover(size int64) ([]snapshot.Extent, error) {
	extents := append([]snapshot.Extent{}, m.Extents...)
	switch {
	case size < m.Capacity:
		return nil, &Error{Reason: Lied, Asked: "blocks", Problem: fmt.Sprintf(
			"it tells of a volume of %d bytes, and the snapshot's device has %d", m.Capacity, size)}
	case size > m.Capacity:
		extents = append(extents, snapshot.Extent{Offset: m.Capacity, Length: size - m.Capacity})
	}
	return extents, nil
}

// lengths says how a stream gives sizes.
type lengths int

const (
	unknownLength lengths = iota
	fixedLength
	variableLength
)

// message is one message of a stream, whichever wire it came by.
type message struct {
	lengths  lengths
	capacity int64
	blocks   []snapshot.Extent
}

// parser takes messages in the order in which they come, holds them to the
// specification, and gathers the extents. One parser serves an answer through
// all its streams.
type parser struct {
	most int // extents kept, before they are told more coarsely

	lengths  lengths
	capacity int64
	block    int64 // the size of a block, where it is fixed
	// last is the tuple that reaches furthest, within the volume. The answer is
	// taken up again at its start: behind its end there may be nothing to tell, and
	// a stream that leaves out what is there would look the same.
	last snapshot.Extent
	// owed is what this stream has yet to tell again, from where it was asked for.
	owed snapshot.Extent
	// at is where the last tuple of this stream ended.
	at int64
	// told says that this stream has told something.
	told bool

	unit    int64
	extents []snapshot.Extent
}

func newParser(most int) *parser { return &parser{most: most, unit: grain} }

// begin is called where a stream starts.
func (p *parser) begin() {
	p.owed, p.at, p.told = p.last, 0, false
}

// take checks one message and adds its extents.
func (p *parser) take(m message, asked int) error {
	switch {
	case m.lengths == unknownLength:
		return lied("a message does not say whether its blocks have one length")
	case m.capacity <= 0:
		return lied("a message tells of a volume of %d bytes", m.capacity)
	case p.capacity != 0 && m.capacity != p.capacity:
		return lied("the volume's size changes from %d to %d bytes within one answer", p.capacity, m.capacity)
	case p.lengths != unknownLength && m.lengths != p.lengths:
		return lied("the kind of block lengths changes within one answer")
	case asked > 0 && len(m.blocks) > asked:
		return lied("a message has %d blocks, where at most %d were asked for", len(m.blocks), asked)
	}
	p.lengths, p.capacity, p.told = m.lengths, m.capacity, true
	for _, b := range m.blocks {
		if err := p.tuple(b); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) tuple(b snapshot.Extent) error {
	if b.Offset < 0 || b.Length <= 0 || b.Offset > math.MaxInt64-b.Length {
		return lied("a block of %d bytes at %d makes no sense", b.Length, b.Offset)
	}
	if p.lengths == fixedLength {
		if p.block != 0 && b.Length != p.block {
			return lied("blocks of one length have %d bytes, and the one at %d has %d", p.block, b.Offset, b.Length)
		}
		p.block = b.Length
	}
	// The last of the blocks of one length may reach over the end.
	if b.Offset >= p.capacity || p.lengths != fixedLength && b.End() > p.capacity {
		return lied("a block of %d bytes at %d lies beyond the end of a volume of %d bytes", b.Length, b.Offset, p.capacity)
	}
	if err := p.follows(b); err != nil {
		return err
	}
	p.add(b)
	if len(p.extents) > p.most {
		p.coarsen()
	}
	return nil
}

// follows holds a tuple to those before it, of this stream and of the one that
// broke. The first may begin before the place that was asked for, and what was
// told before may be told in other pieces, but without a gap.
func (p *parser) follows(b snapshot.Extent) error {
	switch {
	case b.Offset < p.at:
		return lied("a block at %d comes after one that ends at %d", b.Offset, p.at)
	case b.End() <= p.owed.Offset:
		return lied("the answer was asked for from %d on, and begins with a block that ends at %d", p.owed.Offset, b.End())
	case p.owed.Length > 0 && b.Offset > p.owed.Offset:
		return lied("what is at %d was told before the answer broke off, and left out when it was asked for again", p.owed.Offset)
	}
	p.at = min(b.End(), p.capacity)
	again := min(p.at, p.owed.End()) - p.owed.Offset
	p.owed.Offset, p.owed.Length = p.owed.Offset+again, p.owed.Length-again
	if p.at > p.last.End() {
		p.last = snapshot.Extent{Offset: b.Offset, Length: p.at - b.Offset}
	}
	return nil
}

// add widens a tuple and joins it with the last extent where they touch.
func (p *parser) add(b snapshot.Extent) {
	start := b.Offset - b.Offset%p.unit
	end := p.capacity
	if last := b.End() - 1; last < end {
		if up := last - last%p.unit; end-up > p.unit {
			end = up + p.unit
		}
	}
	// More than one only where an answer that was taken up again begins early.
	for n := len(p.extents); n > 0 && start <= p.extents[n-1].End(); n-- {
		start, end = min(start, p.extents[n-1].Offset), max(end, p.extents[n-1].End())
		p.extents = p.extents[:n-1]
	}
	p.extents = append(p.extents, snapshot.Extent{Offset: start, Length: end - start})
}

// coarsen doubles the unit until the extents are half of what may be kept.
func (p *parser) coarsen() {
	for len(p.extents) > p.most/2 && p.unit < p.capacity {
		p.unit *= 2
		old := p.extents
		p.extents = old[:0]
		for _, e := range old {
			p.add(e)
		}
	}
}

// result is the Map once a stream has come to its end.
func (p *parser) result() (Map, error) {
	switch {
	case p.owed.Length > 0:
		return Map{}, lied("what is at %d was told before the answer broke off; asked for again from there, it ended before it told that again", p.owed.Offset)
	case !p.told && p.last.End() == 0:
		return Map{}, lied("it ended without telling anything, not even the volume's size")
	}
	return Map{Capacity: p.capacity, Extents: append([]snapshot.Extent{}, p.extents...)}, nil
}

package cbt

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

const kib, mib = 1 << 10, 1 << 20

func variable(capacity int64, blocks ...snapshot.Extent) message {
	return message{lengths: variableLength, capacity: capacity, blocks: blocks}
}

func fixed(capacity int64, blocks ...snapshot.Extent) message {
	return message{lengths: fixedLength, capacity: capacity, blocks: blocks}
}

func ext(offset, length int64) snapshot.Extent {
	return snapshot.Extent{Offset: offset, Length: length}
}

func TestAnswersAreMergedAndWidened(t *testing.T) {
	for name, c := range map[string]struct {
		messages []message
		want     []snapshot.Extent
	}{
		"none":                  {[]message{variable(mib)}, []snapshot.Extent{}},
		"sectors":               {[]message{variable(mib, ext(512, 512), ext(1536, 512))}, []snapshot.Extent{ext(0, 4*kib)}},
		"touching":              {[]message{variable(mib, ext(0, 4*kib), ext(4*kib, 4*kib)), variable(mib, ext(8*kib, 100))}, []snapshot.Extent{ext(0, 12*kib)}},
		"apart":                 {[]message{variable(mib, ext(0, 4*kib), ext(8*kib, 4*kib))}, []snapshot.Extent{ext(0, 4*kib), ext(8*kib, 4*kib)}},
		"all":                   {[]message{variable(mib, ext(0, mib))}, []snapshot.Extent{ext(0, mib)}},
		"odd end":               {[]message{variable(mib+512, ext(mib, 512))}, []snapshot.Extent{ext(mib, 512)}},
		"fixed":                 {[]message{fixed(mib, ext(0, 64*kib), ext(64*kib, 64*kib)), fixed(mib, ext(mib-64*kib, 64*kib))}, []snapshot.Extent{ext(0, 128*kib), ext(mib-64*kib, 64*kib)}},
		"fixed, over the end":   {[]message{fixed(mib+512, ext(mib, 64*kib))}, []snapshot.Extent{ext(mib, 512)}},
		"largest volume":        {[]message{variable(math.MaxInt64, ext(math.MaxInt64-10, 10))}, []snapshot.Extent{ext(math.MaxInt64&^4095, 4095)}},
		"a message without any": {[]message{variable(mib), variable(mib, ext(0, 1))}, []snapshot.Extent{ext(0, 4*kib)}},
	} {
		p := newParser(mostExtents)
		p.begin()
		for _, m := range c.messages {
			if err := p.take(m, batch); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		got, err := p.result()
		if err != nil || !slices.Equal(got.Extents, c.want) || got.Extents == nil {
			t.Errorf("%s: %v, %v, want %v", name, got.Extents, err, c.want)
		}
	}
}

func TestLiesAreRefused(t *testing.T) {
	for name, messages := range map[string][]message{
		"a block beyond a block of a message": {variable(mib, ext(8*kib, 4*kib), ext(4*kib, 4*kib))},
		"overlap":                             {variable(mib, ext(0, 8*kib), ext(4*kib, 8*kib))},
		"overlap of messages":                 {variable(mib, ext(0, 8*kib)), variable(mib, ext(4*kib, 8*kib))},
		"the same again":                      {variable(mib, ext(0, 4*kib)), variable(mib, ext(0, 4*kib))},
		"beyond the end":                      {variable(mib, ext(mib, 1))},
		"over the end":                        {variable(mib, ext(mib-1, 2))},
		"fixed, beyond the end":               {fixed(mib, ext(mib, 4*kib))},
		"empty block":                         {variable(mib, ext(0, 0))},
		"negative length":                     {variable(mib, ext(100, -50))},
		"negative offset":                     {variable(mib, ext(-4, 8))},
		"overflow":                            {variable(math.MaxInt64, ext(math.MaxInt64-1, 5))},
		"no size":                             {variable(0)},
		"negative size":                       {variable(-1)},
		"size changes":                        {variable(mib), variable(2 * mib)},
		"kind of lengths changes":             {variable(mib), fixed(mib)},
		"no kind of lengths":                  {{capacity: mib}},
		"fixed lengths that differ":           {fixed(mib, ext(0, 4*kib), ext(8*kib, 8*kib))},
		"fixed lengths, other in second":      {fixed(mib, ext(0, 4*kib)), fixed(mib, ext(8*kib, 8*kib))},
		"more than was asked for":             {variable(mib, ext(0, 1), ext(2, 1), ext(4, 1), ext(6, 1), ext(8, 1))},
		"nothing at all":                      {},
	} {
		p := newParser(mostExtents)
		p.begin()
		var err error
		for _, m := range messages {
			if err = p.take(m, 4); err != nil {
				break
			}
		}
		if err == nil {
			_, err = p.result()
		}
		if ReasonOf(err) != Lied {
			t.Errorf("%s: error %v, want one with reason Lied", name, err)
		}
	}
}

func TestManyExtentsAreToldMoreCoarsely(t *testing.T) {
	p := newParser(100)
	p.begin()
	const capacity = 64 * mib
	for at := int64(0); at < capacity; at += 64 * kib {
		if err := p.take(variable(capacity, ext(at, 512)), batch); err != nil {
			t.Fatal(err)
		}
		if len(p.extents) > 100 {
			t.Fatalf("%d extents are kept", len(p.extents))
		}
	}
	m, err := p.result()
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < capacity; at += 64 * kib {
		if !covered(m.Extents, ext(at, 512)) {
			t.Fatalf("the block at %d was lost", at)
		}
	}
}

func TestCover(t *testing.T) {
	m := Map{Capacity: mib, Extents: []snapshot.Extent{ext(0, 4*kib)}}
	if got, err := m.Cover(mib); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := m.Cover(2 * mib); err != nil || !slices.Equal(got, []snapshot.Extent{ext(0, 4*kib), ext(mib, mib)}) {
		t.Errorf("%v, %v: what lies beyond the snapshot's end is unknown and has to be read", got, err)
	}
	if _, err := m.Cover(mib - 1); ReasonOf(err) != Lied {
		t.Errorf("%v: a snapshot on a smaller device", err)
	}
	if got, err := (Map{Capacity: mib}).Cover(mib); err != nil || got == nil {
		t.Errorf("%v, %v: no extents are not all extents", got, err)
	}
}

func covered(extents []snapshot.Extent, e snapshot.Extent) bool {
	return slices.ContainsFunc(extents, func(have snapshot.Extent) bool { return have.Offset <= e.Offset && e.End() <= have.End() })
}

// checkSane holds a Map to what it promises.
func checkSane(m Map) error {
	at := int64(-1)
	for _, e := range m.Extents {
		if e.Length <= 0 || e.Offset <= at || e.End() > m.Capacity || e.Offset%grain != 0 {
			return fmt.Errorf("extent %v after %d in a volume of %d", e, at, m.Capacity)
		}
		if e.End()%grain != 0 && e.End() != m.Capacity {
			return fmt.Errorf("extent %v ends within a block", e)
		}
		at = e.End()
	}
	return nil
}

// FuzzAnswer feeds streams of any content, also ones that break and begin
// again: whatever is taken must cover each block that was told, and no more of
// the volume than there is.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 16, 0, 0, 0, 0, 0, 1, 1, 0, 3, 0, 2}, false)
	f.Add([]byte{2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 4, 0, 8, 0, 4}, true)
	f.Fuzz(func(t *testing.T, data []byte, small bool) {
		most := mostExtents
		if small {
			most = 3
		}
		p := newParser(most)
		p.begin()
		var told []snapshot.Extent
		for len(data) > 9 {
			kind, capacity := data[0], int64(binary.BigEndian.Uint64(data[1:9]))
			n := int(data[9] % 8)
			data = data[10:]
			m := message{lengths: lengths(kind % 3), capacity: capacity}
			for ; n > 0 && len(data) >= 4; n-- {
				scale := int64(1) << (data[0] % 40)
				e := snapshot.Extent{Offset: int64(int8(data[1])) * scale, Length: int64(int8(data[3])) * scale}
				m.blocks = append(m.blocks, e)
				data = data[4:]
			}
			if kind >= 128 {
				p.begin()
			}
			if err := p.take(m, 6); err != nil {
				if ReasonOf(err) != Lied {
					t.Fatalf("error %v", err)
				}
				return
			}
			told = append(told, m.blocks...)
		}
		m, err := p.result()
		if err != nil {
			return
		}
		if err := checkSane(m); err != nil {
			t.Fatal(err)
		}
		for _, e := range told {
			e.Length = min(e.Length, m.Capacity-e.Offset)
			if !covered(m.Extents, e) {
				t.Fatalf("%v was told, and %v do not have it", e, m.Extents)
			}
		}
	})
}

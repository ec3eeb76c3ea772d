package kopiastore

import (
	"bytes"
	"strconv"

	"github.com/kopia/kopia/repo/object"
)

// An index has hundreds of entries, or tens of thousands, and is read and
// written for every segment that a round touches: what JSON costs by
// reflection was half of the work of a small round of a large volume.

const (
	nodeHead = `{"stream":"` + indirectStream + `","entries":[`
	nodeTail = `]}`
	// usualEntry is what an entry takes, mostly.
	usualEntry = 72
)

// encodeNode lists objects that follow each other, in the very bytes that
// encoding/json makes, so that the same index is the same content, whoever
// wrote it.
func encodeNode(entries []object.IndirectObjectEntry) []byte {
	into := make([]byte, 0, len(nodeHead)+len(entries)*usualEntry+len(nodeTail))
	into = append(into, nodeHead...)
	for i, e := range entries {
		if i > 0 {
			into = append(into, ',')
		}
		into = append(into, '{')
		if e.Start != 0 {
			into = append(strconv.AppendInt(append(into, `"s":`...), e.Start, 10), ',')
		}
		if e.Length != 0 {
			into = append(strconv.AppendInt(append(into, `"l":`...), e.Length, 10), ',')
		}
		into = append(e.Object.Append(append(into, `"o":"`...)), `"}`...)
	}
	return append(into, nodeTail...)
}

// parseNode reads what encodeNode writes. What is not exactly that, it leaves
// to encoding/json, and says so.
func parseNode(data []byte) (entries []object.IndirectObjectEntry, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(nodeHead))
	if !ok {
		return nil, false
	}
	entries = make([]object.IndirectObjectEntry, 0, bytes.Count(rest, []byte{'{'}))
	var last []byte
	// The race detector takes each comparison for a look at all that is left.
	for len(rest) != len(nodeTail) || !bytes.Equal(rest, []byte(nodeTail)) {
		if len(entries) > 0 {
			if rest, ok = bytes.CutPrefix(rest, []byte{','}); !ok {
				return nil, false
			}
		}
		var e object.IndirectObjectEntry
		var id []byte
		if e.Start, e.Length, id, rest, ok = parseEntry(rest); !ok {
			return nil, false
		}
		// Neighbours are often the same chunk of zeros.
		if len(entries) > 0 && bytes.Equal(id, last) {
			e.Object = entries[len(entries)-1].Object
		} else {
			var err error
			if e.Object, err = object.ParseID(string(id)); err != nil {
				return nil, false
			}
		}
		entries, last = append(entries, e), id
	}
	return entries, true
}

// parseEntry reads one entry, and returns what follows it.
func parseEntry(data []byte) (start, length int64, id, rest []byte, ok bool) {
	if rest, ok = bytes.CutPrefix(data, []byte{'{'}); !ok {
		return
	}
	if start, rest, ok = parseField(rest, `"s":`); !ok {
		return
	}
	if length, rest, ok = parseField(rest, `"l":`); !ok {
		return
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`"o":"`)); !ok {
		return
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 || bytes.IndexByte(rest[:end], '\\') >= 0 {
		return 0, 0, nil, nil, false
	}
	id = rest[:end]
	rest, ok = bytes.CutPrefix(rest[end:], []byte(`"}`))
	return
}

// parseField reads a number that is left out where it is zero.
func parseField(data []byte, name string) (n int64, rest []byte, ok bool) {
	rest, found := bytes.CutPrefix(data, []byte(name))
	if !found {
		return 0, data, true
	}
	const digits = 18 // fewer than overflow
	i := 0
	for i < len(rest) && i < digits && rest[i] >= '0' && rest[i] <= '9' {
		n = n*10 + int64(rest[i]-'0')
		i++
	}
	if i == 0 || rest[0] == '0' || i == len(rest) || rest[i] != ',' {
		return 0, nil, false
	}
	return n, rest[i+1:], true
}

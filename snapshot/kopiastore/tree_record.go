package kopiastore

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// attributesFile has a line of JSON per entry of the tree, what it is in
	// before it, and names in order of their bytes.
	attributesFile = "attributes.jsonl"
	// escapedName starts the stored name of one that JSON cannot hold.
	escapedName = "godwit-name-"
	maxLine     = 16 << 20
)

type entryType string

const (
	typeFile    entryType = "file"
	typeFolder  entryType = "directory"
	typeSymlink entryType = "symlink"
	typeFIFO    entryType = "fifo"
	typeSocket  entryType = "socket"
	typeBlock   entryType = "block"
	typeChar    entryType = "char"
)

// record is one entry with what kopia does not keep of it.
type record struct {
	// Path is relative to the volume, empty for its root.
	Path raw       `json:"path"`
	Type entryType `json:"type"`
	// Mode has the permissions with setuid, setgid and sticky as chmod(2) has.
	Mode uint32 `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	Size int64  `json:"size,omitempty"`
	// Modified and Changed are mtime and ctime; the latter only tells whether
	// a file is the one of the previous image.
	Modified stamp `json:"modified"`
	Changed  stamp `json:"changed"`
	Target   raw   `json:"target,omitempty"`
	// Link is the path of an earlier entry that this is another name of.
	Link   raw               `json:"link,omitempty"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
	// Major and Minor are of a device node.
	Major uint32 `json:"major,omitempty"`
	Minor uint32 `json:"minor,omitempty"`
	// Sparse files had holes.
	Sparse bool `json:"sparse,omitempty"`
}

// raw is a string of bytes as Linux has for names. JSON holds UTF-8 only:
// other bytes are kept in base64, as {"base64": …}.
type raw string

type rawBytes struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON keeps every byte.
func (r raw) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(r)) {
		return json.Marshal(string(r))
	}
	return json.Marshal(rawBytes{[]byte(r)})
}

// UnmarshalJSON reads both forms.
func (r *raw) UnmarshalJSON(data []byte) error {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return json.Unmarshal(data, (*string)(r))
	}
	var b rawBytes
	if err := json.Unmarshal(data, &b); err != nil {
		return err
	}
	*r = raw(b.Base64)
	return nil
}

// stamp is a time in whole seconds and nanoseconds, since those of some
// filesystems reach further than a count of nanoseconds does.
type stamp struct {
	Seconds int64 `json:"s"`
	Nanos   int64 `json:"n,omitempty"`
}

func (s stamp) time() time.Time { return time.Unix(s.Seconds, s.Nanos) }

// storedName is the name of an entry in the image's volume folder.
func storedName(name string) string {
	if utf8.ValidString(name) && !strings.HasPrefix(name, escapedName) {
		return name
	}
	return escapedName + hex.EncodeToString([]byte(name))
}

// valid refuses a record that would leave the volume or is no entry of it.
func (r *record) valid() error {
	p := string(r.Path)
	switch r.Type {
	case typeFile, typeFolder, typeSymlink, typeFIFO, typeSocket, typeBlock, typeChar:
	default:
		return fmt.Errorf("entry %q has unknown type %q: %w", p, r.Type, snapshot.ErrCorrupt)
	}
	if p == "" {
		if r.Type == typeFolder {
			return nil
		}
		return fmt.Errorf("the root is a %s: %w", r.Type, snapshot.ErrCorrupt)
	}
	if !inside(r.Path) || r.Link != "" && !inside(r.Link) {
		return fmt.Errorf("path %q leads out of the volume: %w", p, snapshot.ErrCorrupt)
	}
	return nil
}

// inside is true for a path that names something in the volume.
func inside(p raw) bool {
	for name := range strings.SplitSeq(string(p), "/") {
		if name == "" || name == "." || name == ".." || strings.ContainsRune(name, 0) {
			return false
		}
	}
	return true
}

// parent is the path of the folder that an entry is in.
func (r *record) parent() raw { return parentPath(r.Path) }

func parentPath(p raw) raw {
	dir := path.Dir(string(p))
	if dir == "." {
		return ""
	}
	return raw(dir)
}

// comparePaths orders as a walk does that takes a folder's names in order of their bytes,
// and what is in a folder right after it.
func comparePaths(a, b raw) int {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == b[i]:
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		default:
			return cmp.Compare(a[i], b[i])
		}
	}
	return cmp.Compare(len(a), len(b))
}

// recordReader reads records one by one, and sees that they are in order, each in a folder
// before it. It keeps no more of a tree than where it is.
type recordReader struct {
	lines *bufio.Scanner
	n     int
	last  raw
	// within are the folders that the last entry is in, the outermost first, with itself
	// where it is one.
	within []raw
}

func newRecordReader(r io.Reader) *recordReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	return &recordReader{lines: lines}
}

// next is io.EOF after the last record.
func (r *recordReader) next() (*record, error) {
	if !r.lines.Scan() {
		switch err := r.lines.Err(); {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", attributesFile, err)
		case r.n == 0:
			return nil, fmt.Errorf("%s is empty: %w", attributesFile, snapshot.ErrCorrupt)
		}
		return nil, io.EOF
	}
	r.n++
	e := &record{}
	if err := json.Unmarshal(r.lines.Bytes(), e); err != nil {
		return nil, fmt.Errorf("%s line %d: %w: %w", attributesFile, r.n, snapshot.ErrCorrupt, err)
	}
	if err := e.valid(); err != nil {
		return nil, fmt.Errorf("%s line %d: %w", attributesFile, r.n, err)
	}
	if !r.follows(e) {
		return nil, fmt.Errorf("%s line %d: %q does not follow what is before it: %w", attributesFile, r.n, e.Path, snapshot.ErrCorrupt)
	}
	r.last = e.Path
	return e, nil
}

// follows is true for an entry that comes after the last one, in a folder that was there.
func (r *recordReader) follows(e *record) bool {
	if r.n > 1 {
		if comparePaths(r.last, e.Path) >= 0 {
			return false
		}
		for len(r.within) > 0 && r.within[len(r.within)-1] != e.parent() {
			r.within = r.within[:len(r.within)-1]
		}
		if len(r.within) == 0 {
			return false
		}
	} else if e.Path != "" {
		return false
	}
	if e.Type == typeFolder {
		r.within = append(r.within, e.Path)
	}
	return e.Link == "" || e.Type != typeFolder && comparePaths(e.Link, e.Path) < 0
}

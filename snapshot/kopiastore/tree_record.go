package kopiastore

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." || name == ".." || strings.ContainsRune(name, 0) {
			return fmt.Errorf("path %q leads out of the volume: %w", p, snapshot.ErrCorrupt)
		}
	}
	return nil
}

// parent is the path of the folder that an entry is in.
func (r *record) parent() string {
	dir := path.Dir(string(r.Path))
	if dir == "." {
		return ""
	}
	return dir
}

// readRecords reads them all and checks that each is in a folder before it.
func readRecords(r io.Reader) ([]record, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	seen := map[raw]entryType{}
	var records []record
	for lines.Scan() {
		var e record
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s line %d: %w: %w", attributesFile, len(records)+1, snapshot.ErrCorrupt, err)
		}
		if err := e.valid(); err != nil {
			return nil, fmt.Errorf("%s line %d: %w", attributesFile, len(records)+1, err)
		}
		_, twice := seen[e.Path]
		of, linked := seen[e.Link]
		if twice || e.Path == "" != (len(records) == 0) || e.Path != "" && seen[raw(e.parent())] != typeFolder ||
			e.Link != "" && (!linked || of != e.Type || of == typeFolder) {
			return nil, fmt.Errorf("%s line %d: %q does not follow what is before it: %w", attributesFile, len(records)+1, e.Path, snapshot.ErrCorrupt)
		}
		seen[e.Path] = e.Type
		records = append(records, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", attributesFile, err)
	}
	if len(records) == 0 {
		return nil, errors.Join(fmt.Errorf("%s is empty", attributesFile), snapshot.ErrCorrupt)
	}
	return records, nil
}

package scenario

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxDifferences is how many differences an error names.
const maxDifferences = 10

// entry is one name of a tree, with all that a move has to keep. The zero value
// of a field means that it does not apply.
type entry struct {
	kind, mode, owner string
	size              int64 // files
	modified          string
	target            string // links
	links             int    // files
	// sameAs is the first name of a file with several.
	sameAs string
	// sparse files have much less room allotted than their size.
	sparse     bool
	hash       string // files
	attributes string
}

// listing is a tree: entries by name, "." for the root.
type listing map[string]entry

// fields of one entry as find prints them, each ended by a zero byte.
const entryFields = 10

// lister prints the entries, an empty field, the hashes, an empty field and the
// attributes. Names may hold anything but a zero byte.
const lister = `set -euo pipefail
cd %q
find . -printf '%%p\0%%y\0%%m\0%%U:%%G\0%%s\0%%T@\0%%l\0%%n\0%%i\0%%b\0'
printf '\0'
find . -type f -exec sha256sum -z -- {} +
printf '\0'
getfattr -R -P -h -d -m - -e hex . | grep -v '^security.selinux=' || [ $? = 1 ]
`

// list reads the tree in the cluster.
func (t Tree) list(ctx context.Context, c Cluster) (listing, error) {
	out, err := c.Script(ctx, t.Namespace, t.Where, fmt.Sprintf(lister, t.Folder))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", t.Folder, err)
	}
	l, err := parseListing(out)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: list %s: %w", c.Name, t.Folder, err)
	}
	return l, nil
}

func parseListing(out []byte) (listing, error) {
	fields := strings.Split(string(out), "\x00")
	l := listing{}
	nodes := map[string][]string{} // names by inode
	for len(fields) > entryFields && fields[0] != "" {
		name := fields[0]
		e, err := parseEntry(fields[:entryFields])
		if err != nil {
			return nil, err
		}
		l[name] = e
		if e.links > 1 {
			nodes[fields[8]] = append(nodes[fields[8]], name)
		}
		fields = fields[entryFields:]
	}
	for _, names := range nodes {
		slices.Sort(names)
		for _, name := range names {
			e := l[name]
			e.sameAs = names[0]
			l[name] = e
		}
	}
	if len(fields) == 0 || fields[0] != "" {
		return nil, errors.New("the listing is cut short after its entries")
	}
	return l, l.parseRest(fields[1:])
}

func parseEntry(f []string) (entry, error) {
	e := entry{kind: f[1], mode: f[2], owner: f[3], modified: f[5], target: f[6]}
	if e.kind != "f" {
		return e, nil
	}
	size, err1 := strconv.ParseInt(f[4], 10, 64)
	links, err2 := strconv.Atoi(f[7])
	blocks, err3 := strconv.ParseInt(f[9], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return e, fmt.Errorf("entry %q: %w", f[0], err)
	}
	e.size, e.links = size, links
	e.sparse = size > 1<<16 && blocks*512 < size/2
	return e, nil
}

// parseRest adds hashes and attributes to the entries.
func (l listing) parseRest(fields []string) error {
	hashes := 0
	for len(fields) > 0 && fields[0] != "" {
		hash, name, found := strings.Cut(fields[0], "  ")
		e, there := l[name]
		if !found || !there {
			return fmt.Errorf("a hash of a file that is not listed: %q", fields[0])
		}
		e.hash = strings.TrimPrefix(hash, `\`)
		l[name] = e
		hashes++
		fields = fields[1:]
	}
	for name, e := range l {
		if e.kind == "f" && e.hash == "" {
			return fmt.Errorf("file %q has no hash: it changed while it was read", name)
		}
	}
	if len(fields) != 2 || hashes == 0 {
		return fmt.Errorf("the listing is cut short after %d hashes", hashes)
	}
	return l.parseAttributes(fields[1])
}

// parseAttributes reads what getfattr prints: a name, and then one line for
// each attribute up to an empty line.
func (l listing) parseAttributes(text string) error {
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if block == "" {
			continue
		}
		rows := strings.Split(block, "\n")
		escaped, found := strings.CutPrefix(rows[0], "# file: ")
		if !found {
			return fmt.Errorf("attributes without a name: %q", block)
		}
		name, err := unescape(escaped)
		if err != nil {
			return err
		}
		if name != "." {
			name = "./" + name
		}
		e, there := l[name]
		if !there {
			return fmt.Errorf("attributes of a name that is not listed: %q", name)
		}
		slices.Sort(rows[1:])
		e.attributes = strings.Join(rows[1:], " ")
		l[name] = e
	}
	return nil
}

// unescape undoes getfattr's octal escapes.
func unescape(s string) (string, error) {
	var b bytes.Buffer
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+3 >= len(s) {
			return "", fmt.Errorf("name %q ends within an escape", s)
		}
		n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return "", fmt.Errorf("name %q: %w", s, err)
		}
		b.WriteByte(byte(n))
		i += 3
	}
	return b.String(), nil
}

// compare says in what the other tree differs.
func (l listing) compare(other listing) error {
	var differences []string
	for name, e := range l {
		o, there := other[name]
		switch {
		case !there:
			differences = append(differences, fmt.Sprintf("%q is missing on the target", name))
		case e != o:
			differences = append(differences, fmt.Sprintf("%q differs: source %s, target %s", name, e.only(o), o.only(e)))
		}
	}
	for name := range other {
		if _, there := l[name]; !there {
			differences = append(differences, fmt.Sprintf("%q is on the target only", name))
		}
	}
	if len(differences) == 0 {
		return nil
	}
	slices.Sort(differences)
	text := strings.Join(differences[:min(len(differences), maxDifferences)], "; ")
	return fmt.Errorf("%d of %d names differ: %s", len(differences), len(l), text)
}

// only tells those fields in which the entries differ.
func (e entry) only(o entry) string {
	var words []string
	add := func(differs bool, name, value string) {
		if differs {
			words = append(words, name+"="+value)
		}
	}
	add(e.kind != o.kind, "type", e.kind)
	add(e.mode != o.mode, "mode", e.mode)
	add(e.owner != o.owner, "owner", e.owner)
	add(e.size != o.size, "size", strconv.FormatInt(e.size, 10))
	add(e.modified != o.modified, "modified", e.modified)
	add(e.target != o.target, "target", e.target)
	add(e.links != o.links, "links", strconv.Itoa(e.links))
	add(e.sameAs != o.sameAs, "same-as", e.sameAs)
	add(e.sparse != o.sparse, "sparse", strconv.FormatBool(e.sparse))
	add(e.hash != o.hash, "sha256", e.hash)
	add(e.attributes != o.attributes, "attributes", fmt.Sprintf("%q", e.attributes))
	return strings.Join(words, ",")
}

// summary tells what the tree consists of, so that an empty one shows.
func (l listing) summary() string {
	var files, folders, links, hard, sparse, attributes int
	var size int64
	rows := make([]string, 0, len(l))
	for name, e := range l {
		rows = append(rows, fmt.Sprintf("%q %+v", name, e))
		switch e.kind {
		case "f":
			files++
			size += e.size
		case "d":
			folders++
		case "l":
			links++
		}
		if e.sameAs != "" {
			hard++
		}
		if e.sparse {
			sparse++
		}
		if e.attributes != "" {
			attributes++
		}
	}
	slices.Sort(rows)
	sum := sha256.Sum256([]byte(strings.Join(rows, "\n")))
	return fmt.Sprintf("%d names in both (%d files of %d bytes, %d folders, %d links, %d names of hard-linked files, %d sparse, %d with attributes), sha256 of the listing %x",
		len(l), files, size, folders, links, hard, sparse, attributes, sum)
}

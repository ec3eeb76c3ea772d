package kopiastore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"path"
	"path/filepath"

	"github.com/klauspost/compress/s2"
)

// treeFolder is a folder of a tree that is being backed up. What is in it is packed, since a
// tree may have millions of entries: some 40 bytes for each.
type treeFolder struct {
	treeEntry
	// blocks have the entries that are no folders, folders the others, both in order.
	blocks  [][]byte
	folders []*treeFolder
	// pending is the block that is not full.
	pending []byte
	entries int64
}

const (
	// blockSize is how much of a folder's entries is packed, and unpacked, at once.
	blockSize = 64 << 10
	// folderWeight is what a folder takes beside what is in it; listingWeight is what an
	// entry of the folder that is being listed takes, in kopia's hands and of each tree
	// before; keyWeight is an entry of a set of paths; blockHeader
	// is a block in a list of them.
	folderWeight  = 512
	listingWeight = 1 << 10
	keyWeight     = 64
	blockHeader   = 32
)

// packedNode is a node as blocks have it.
type packedNode struct {
	record
	Device uint64 `json:"d"`
	Inode  uint64 `json:"i"`
	Fresh  bool   `json:"f,omitempty"`
	Young  bool   `json:"y,omitempty"`
}

// packedTree is a whole tree; entries are added in the order of a walk.
type packedTree struct {
	// within are the folders that the last entry is in, the outermost first.
	within []*treeFolder
	root   *treeFolder
	// entries, files and size are what there is, size in bytes and each file once.
	entries, files, size    int64
	packed, folders, widest int64
}

func (t *packedTree) add(n *node) error {
	t.entries++
	for len(t.within) > 0 && t.within[len(t.within)-1].Path != n.parent() {
		t.leave()
	}
	var in *treeFolder
	if len(t.within) > 0 {
		in = t.within[len(t.within)-1]
		in.entries++
	}
	switch {
	case n.Type == typeFolder:
		t.enter(in, n)
		return nil
	case in == nil:
		return fmt.Errorf("%q is in no folder that was walked over", n.Path)
	case n.Type == typeFile:
		t.files++
		if n.Link == "" {
			t.size += n.Size
		}
	}
	return in.add(n)
}

func (t *packedTree) enter(in *treeFolder, n *node) {
	f := &treeFolder{treeEntry: treeEntry{n}}
	if in == nil {
		t.root = f
	} else {
		in.folders = append(in.folders, f)
	}
	t.folders++
	t.within = append(t.within, f)
}

// leave packs the rest of a folder, of which no more will come.
func (t *packedTree) leave() {
	last := len(t.within) - 1
	f := t.within[last]
	t.within = t.within[:last]
	f.pack()
	f.pending = nil
	for _, b := range f.blocks {
		t.packed += int64(len(b)+len(b)/3) + blockHeader // as the heap rounds it
	}
	t.widest = max(t.widest, f.entries)
}

// whole is the tree when all has been added.
func (t *packedTree) whole() *treeFolder {
	for len(t.within) > 0 {
		t.leave()
	}
	return t.root
}

// weight is what a backup of the tree holds in memory, in bytes, beside the packs.
func (t *packedTree) weight() int64 {
	return t.packed + t.folders*folderWeight + t.widest*listingWeight
}

func (f *treeFolder) add(n *node) error {
	line, err := json.Marshal(packedNode{record: n.record, Device: n.device, Inode: n.inode, Fresh: n.fresh, Young: n.young})
	if err != nil {
		return fmt.Errorf("keep what is known of %q: %w", n.Path, err)
	}
	f.pending = append(append(f.pending, line...), '\n')
	if len(f.pending) >= blockSize {
		f.pack()
	}
	return nil
}

func (f *treeFolder) pack() {
	if len(f.pending) == 0 {
		return
	}
	f.blocks = append(f.blocks, bytes.Clone(s2.EncodeBetter(nil, f.pending)))
	f.pending = f.pending[:0]
}

// leaves are the entries that are no folders, in order.
func (f *treeFolder) leaves() iter.Seq2[*node, error] {
	return func(yield func(*node, error) bool) {
		for _, b := range f.blocks {
			lines, err := s2.Decode(nil, b)
			if err != nil {
				yield(nil, fmt.Errorf("unpack what is in %q: %w", f.Path, err))
				return
			}
			for line := range bytes.Lines(lines) {
				n, err := f.leaf(line)
				if !yield(n, err) || err != nil {
					return
				}
			}
		}
	}
}

func (f *treeFolder) leaf(line []byte) (*node, error) {
	var p packedNode
	if err := json.Unmarshal(line, &p); err != nil {
		return nil, fmt.Errorf("unpack what is in %q: %w", f.Path, err)
	}
	return &node{record: p.record, path: filepath.Join(f.path, path.Base(string(p.Path))), device: p.Device, inode: p.Inode, fresh: p.Fresh, young: p.Young}, nil
}

// encode writes the records of the folder and all that is in it, in order.
func (f *treeFolder) encode(to *json.Encoder) error {
	if err := to.Encode(f.record); err != nil {
		return err
	}
	folders := f.folders
	for n, err := range f.leaves() {
		if err != nil {
			return err
		}
		for ; len(folders) > 0 && comparePaths(folders[0].Path, n.Path) < 0; folders = folders[1:] {
			if err := folders[0].encode(to); err != nil {
				return err
			}
		}
		r := n.record
		if n.young {
			r.Changed = stamp{} // The next run reads it again.
		}
		if err := to.Encode(r); err != nil {
			return err
		}
	}
	for _, c := range folders {
		if err := c.encode(to); err != nil {
			return err
		}
	}
	return nil
}

package kopiastore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
)

// TestPathsAreInTheOrderOfAWalk has names on either side of the slash.
func TestPathsAreInTheOrderOfAWalk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a", "a-b", "a.b", "a b", "ab", "a\x01", "a0", "a\xff", "日"} {
		for _, in := range []string{"", "a/c", "a-b/a", "b/a/a"} {
			must(t, os.MkdirAll(filepath.Join(dir, in, name+"."), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, in, name+".", "file"), nil, 0o600))
		}
	}
	var last raw
	entries := 0
	for n, err := range walkTree(t.Context(), dir) {
		must(t, err)
		if entries > 0 && comparePaths(last, n.Path) >= 0 {
			t.Errorf("the walk has %q before %q, and the order does not", last, n.Path)
		}
		if comparePaths(n.Path, n.Path) != 0 {
			t.Errorf("%q is not itself", n.Path)
		}
		last = n.Path
		entries++
	}
	if entries < 80 {
		t.Errorf("%d entries were walked over", entries)
	}
}

func readAll(text string) (records []*record, err error) {
	from := newRecordReader(strings.NewReader(text))
	for {
		e, err := from.next()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, err
		}
		records = append(records, e)
	}
}

func TestRecordsFollowEachOther(t *testing.T) {
	t.Parallel()
	const root, folder, file = `{"path":"","type":"directory"}`, `{"path":"a","type":"directory"}`, `{"path":"a/f","type":"file"}`
	for name, c := range map[string]struct {
		lines []string
		want  bool
	}{
		"in order":               {[]string{root, folder, file, `{"path":"a-","type":"file"}`}, true},
		"another name":           {[]string{root, folder, file, `{"path":"b","type":"file","link":"a/f"}`}, true},
		"none":                   {nil, false},
		"no root":                {[]string{folder, file}, false},
		"two roots":              {[]string{root, root}, false},
		"twice":                  {[]string{root, folder, file, file}, false},
		"folder after its file":  {[]string{root, file, folder}, false},
		"no folder":              {[]string{root, file}, false},
		"in a file":              {[]string{root, `{"path":"a","type":"file"}`, file}, false},
		"in a folder that ended": {[]string{root, folder, `{"path":"b","type":"file"}`, file}, false},
		"names out of order":     {[]string{root, `{"path":"b","type":"file"}`, folder}, false},
		"link to what comes":     {[]string{root, folder, `{"path":"a/f","type":"file","link":"b"}`, `{"path":"b","type":"file"}`}, false},
		"link to itself":         {[]string{root, folder, `{"path":"a/f","type":"file","link":"a/f"}`}, false},
		"link out of the volume": {[]string{root, `{"path":"b","type":"file","link":"../a"}`}, false},
		"link of a folder":       {[]string{root, folder, `{"path":"b","type":"directory","link":"a"}`}, false},
	} {
		records, err := readAll(strings.Join(c.lines, "\n"))
		switch {
		case c.want && (err != nil || len(records) != len(c.lines)):
			t.Errorf("%s: %d records were read: %v", name, len(records), err)
		case !c.want && !errors.Is(err, snapshot.ErrCorrupt):
			t.Errorf("%s: it was read, with %v", name, err)
		}
	}
}

// TestLinksStayInTheVolume has an image lead a hard link over a symlink.
func TestLinksStayInTheVolume(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must(t, os.Symlink(outside, filepath.Join(dir, "way")))
	must(t, os.Symlink("file", filepath.Join(dir, "symlink")))
	restore := &treeRestore{dir: dir}
	for name, link := range map[string]raw{"over a symlink": "way/secret", "of another type": "symlink", "to nothing": "nothing"} {
		if err := restore.link(&record{Path: "made", Type: typeFile, Link: link}); err == nil {
			t.Errorf("%s: it was made", name)
		}
		if _, err := os.Lstat(filepath.Join(dir, "made")); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s: something is there (%v)", name, err)
		}
	}
	must(t, restore.link(&record{Path: "made", Type: typeFile, Link: "file"}))
	must(t, restore.link(&record{Path: "made too", Type: typeSymlink, Link: "symlink"}))
}

// wideTree has so many files in each of so many folders, and walks over them without
// there being any.
func wideTree(t *testing.T, folders, files int) *packedTree {
	t.Helper()
	tree := &packedTree{}
	must(t, tree.add(&node{record: record{Type: typeFolder}, path: "/volume"}))
	for i := range folders {
		folder := fmt.Sprintf("folder %06d", i)
		must(t, tree.add(&node{record: record{Path: raw(folder), Type: typeFolder}, path: "/volume/" + folder}))
		for k := range files {
			name := fmt.Sprintf("%s/some name, %06d.html", folder, k)
			at := stamp{1_700_000_000 + int64(k*37), int64(k*i*7919) % 1e9}
			must(t, tree.add(&node{
				record: record{Path: raw(name), Type: typeFile, Mode: 0o644, UID: 33, GID: 33, Size: int64(k * i), Modified: at, Changed: at},
				path:   "/volume/" + name, inode: uint64(i*files + k), device: 5,
			}))
		}
	}
	return tree
}

// TestPackedTree sees that what was packed comes back, in order, and what it takes.
func TestPackedTree(t *testing.T) {
	const folders, files = 20, 1000
	tree := wideTree(t, folders, files)
	root := tree.whole()
	took := int64(0)
	for _, f := range root.folders {
		for _, b := range f.blocks {
			took += int64(cap(b) + cap(f.blocks)/len(f.blocks)*int(unsafe.Sizeof(b)))
		}
	}
	if took > tree.packed || tree.packed > 80*tree.entries {
		t.Errorf("%d entries take %d bytes, and are counted as %d", tree.entries, took, tree.packed)
	}
	t.Logf("%d entries take %d bytes each", tree.entries, took/tree.entries)
	var text bytes.Buffer
	must(t, root.encode(json.NewEncoder(&text)))
	records, err := readAll(text.String())
	must(t, err)
	if len(records) != 1+folders*(files+1) || tree.files != folders*files || tree.entries != int64(len(records)) {
		t.Fatalf("%d records came back, of %d files", len(records), tree.files)
	}
	if last := records[len(records)-1]; last.Path != "folder 000019/some name, 000999.html" || last.Size != 19*999 || last.Changed != last.Modified {
		t.Errorf("the last came back as %+v", last)
	}
}

// TestTreeOfTooManyFiles sees that a tree which takes more memory than there may be is
// refused before anything is stored.
func TestTreeOfTooManyFiles(t *testing.T) {
	t.Parallel()
	l, dir := folder(t), t.TempDir()
	for i := range 100 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), nil, 0o600))
	}
	budget := snapshot.NewBudget(150 << 10)
	r := open(t, New(WithBudget(budget)), l)
	_, err := r.BackupTree(t.Context(), dir, snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}, "", nil)
	if !errors.Is(err, snapshot.ErrBudget) || !strings.Contains(err.Error(), "101 entries") {
		t.Errorf("it says %v", err)
	}
	if now, _ := budget.Held(); now != 0 {
		t.Errorf("%d bytes are held after it", now)
	}
}

// TestAllThatCannotBeReadIsNamed has entries of which no record can be made.
func TestAllThatCannotBeReadIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spoil := func(file string) {
		t.Helper()
		if err := unix.Lsetxattr(file, "user.\xff", nil, 0); errors.Is(err, unix.ENOTSUP) {
			t.Skip("the file system has no attributes")
		} else {
			must(t, err)
		}
	}
	r := open(t, New(), folder(t))
	image := snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}
	must(t, os.WriteFile(filepath.Join(dir, "well"), []byte("well"), 0o600))
	good, err := r.BackupTree(t.Context(), dir, image, "", nil)
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "folder", "inside"), nil, 0o600))
	spoil(filepath.Join(dir, "folder"))
	for i := range failuresShown {
		file := filepath.Join(dir, fmt.Sprintf("ill%02d", i))
		must(t, os.WriteFile(file, nil, 0o600))
		spoil(file)
	}
	_, err = r.BackupTree(t.Context(), dir, image, good.ID, nil)
	_, _, differs := r.CompareTree(t.Context(), good.ID, dir, nil)
	for name, err := range map[string]error{"storing": err, "comparing": differs} {
		if err == nil {
			t.Fatalf("%s it went well", name)
		}
		for _, want := range []string{"11 entries", "folder has", "/ill00 ", "/ill08 ", "and 1 more"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s it does not name %q: %v", name, want, err)
			}
		}
	}
	images, err := r.Images(t.Context(), image.Volume)
	if err != nil || len(images) != 1 {
		t.Errorf("there are %d images (%v)", len(images), err)
	}
}

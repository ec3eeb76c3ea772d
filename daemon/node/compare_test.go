package node

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// TestCompare finds a byte that differs, and one behind the image.
func TestCompare(t *testing.T) {
	r := newRig(t)
	want := content(1, size)
	r.publish("pv-src", want)
	d := r.daemon()
	r.upload("up", "pv-src", "1")
	image := d.finish("up").Status.Image
	flipped := append([]byte(nil), want...)
	flipped[3<<20] ^= 1
	behind := append(append([]byte(nil), want...), make([]byte, 2<<20)...)
	behind[size+1<<20] = 1
	for name, c := range map[string]struct {
		held []byte
		says string
	}{
		"same": {want, ""}, "larger": {append(append([]byte(nil), want...), make([]byte, 1<<20)...), ""},
		"flipped": {flipped, "bytes in 1 chunks differ, the first at "}, "behind": {behind, "behind the image, the first at 6291968"},
		"cut": {want[:1<<20], "it has 1048576 bytes"},
	} {
		r.publish("pv-"+name, c.held)
		r.transfer(name, api.VolumeTransferSpec{Direction: api.Compare, Round: "r", Image: image, Mount: api.VolumeMount{PersistentVolume: "pv-" + name}})
		s := d.finish(name).Status
		if s.Phase != api.TransferSucceeded || (s.Differs == "") != (c.says == "") || !strings.Contains(s.Differs, c.says) {
			t.Errorf("%s: %s %q", name, s.Phase, s.Differs)
		}
	}
	r.transfer("tree", api.VolumeTransferSpec{Direction: api.Compare, Round: "r", Image: image, Mount: api.VolumeMount{PersistentVolume: "pv-same", Mode: modeFilesystem}})
	if s := d.finish("tree").Status; s.Phase != api.TransferFailed {
		t.Errorf("an image of blocks was compared with files: %+v", s)
	}
}

// TestCompareFiles finds what is gone, new, longer, another kind or another byte; not
// whose it is, nor what the filesystem itself keeps there.
func TestCompareFiles(t *testing.T) {
	r := newRig(t)
	dir := r.folder("pv-tree")
	two := filepath.Join(dir, "books", "two")
	fill := func() {
		r.must(os.RemoveAll(filepath.Join(dir, "books")))
		r.must(os.MkdirAll(filepath.Join(dir, "books"), 0o750))
		r.must(os.WriteFile(filepath.Join(dir, "books", "one"), []byte("first book"), 0o600))
		r.must(os.WriteFile(two, bytes.Repeat([]byte("x"), 300<<10), 0o600))
		r.must(os.Symlink("one", filepath.Join(dir, "books", "latest")))
	}
	fill()
	d := r.daemon()
	mount := api.VolumeMount{PersistentVolume: "pv-tree", Mode: modeFilesystem}
	r.transfer("up", api.VolumeTransferSpec{Direction: api.Upload, Round: "1", Mount: mount})
	image := d.finish("up").Status.Image
	for name, c := range map[string]struct {
		change func()
		says   string
	}{
		"same":    {func() {}, ""},
		"owner":   {func() { r.must(os.Chmod(two, 0o644)) }, ""},
		"found":   {func() { r.must(os.MkdirAll(filepath.Join(dir, "lost+found", "x"), 0o700)) }, ""},
		"byte":    {func() { b := bytes.Repeat([]byte("x"), 300<<10); b[270000] = 'y'; r.must(os.WriteFile(two, b, 0o600)) }, `the first "books/two": `},
		"longer":  {func() { r.must(os.WriteFile(two, []byte("short"), 0o600)) }, "it had 307200 bytes, and has 5"},
		"gone":    {func() { r.must(os.Remove(two)) }, "it is gone"},
		"new":     {func() { r.must(os.WriteFile(two+"b", nil, 0o600)) }, `1 entries differ, the first "books/twob": it is new`},
		"another": {func() { r.must(os.Remove(two)); r.must(unix.Mkfifo(two, 0o600)) }, "it was a file"},
		"link":    {func() { l := filepath.Join(dir, "books", "latest"); r.must(os.Remove(l)); r.must(os.Symlink("two", l)) }, "it leads elsewhere"},
	} {
		fill()
		c.change()
		r.transfer(name, api.VolumeTransferSpec{Direction: api.Compare, Round: "r", Image: image, Mount: mount})
		s := d.finish(name).Status
		if s.Phase != api.TransferSucceeded || (s.Differs == "") != (c.says == "") || !strings.Contains(s.Differs, c.says) {
			t.Errorf("%s: %s %q %q", name, s.Phase, s.Differs, s.Message)
		}
	}
}

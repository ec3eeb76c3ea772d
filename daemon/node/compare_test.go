package node

import (
	"strings"
	"testing"

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
		t.Errorf("files were compared: %+v", s)
	}
}

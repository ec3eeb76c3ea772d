package node

import (
	"slices"
	"strings"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot/cbt"
)

// keepOf asks about a snapshot that is published nowhere.
func (r *rig) keepOf(name string, b []byte, base *api.TransferBase) {
	r.t.Helper()
	r.transfer(name, api.VolumeTransferSpec{Direction: api.Keep, Round: name, Snapshot: r.snapshot(name, b), Base: base, From: base.Image})
}

// TestKeepsWhatDidNotChange makes images of a volume that no pod has.
func TestKeepsWhatDidNotChange(t *testing.T) {
	r := newRig(t)
	first := blocky(1, 12<<20+512)
	d := r.daemon()
	r.uploadOf("s1", first, nil)
	s1 := d.finish("s1").Status
	base := &api.TransferBase{Image: s1.Image, SnapshotHandle: "s1"}
	r.keepOf("s2", first, base)
	s2 := d.finish("s2").Status
	if s2.Phase != api.TransferSucceeded || s2.Image == "" || s2.Image == s1.Image || s2.Method != "Delta" || s2.Filesystem != s1.Filesystem || s2.Size != s1.Size || s2.Differs != "" {
		t.Fatalf("status %+v after %+v", s2, s1)
	}
	r.wantImage(d, "s2", s2.Image, first)
	if r.tracker.open != 0 || r.counted("Delta", "") != 1 {
		t.Errorf("%d connections were left open; %v images by a delta are counted", r.tracker.open, r.counted("Delta", ""))
	}
	// A node that died before it could say so is asked again.
	r.transfer("s2-again", api.VolumeTransferSpec{Direction: api.Keep, Round: "s2", Snapshot: r.snapshot("s2", first), Base: base, From: base.Image})
	if again := d.finish("s2-again").Status; again.Image == "" {
		t.Errorf("status %+v", again)
	}
}

// TestKeepsNothingElse: whatever is not known to be unchanged has no image, and the
// status says why.
func TestKeepsNothingElse(t *testing.T) {
	first := blocky(1, 4<<20)
	second := slices.Clone(first)
	second[3<<20]++
	for name, c := range map[string]struct {
		now   []byte
		spoil func(*rig, *api.TransferBase)
		why   string
	}{
		"changed": {now: second, why: "4096 bytes changed since image"},
		"grown": {now: append(slices.Clone(first), make([]byte, 1<<20)...), spoil: func(r *rig, _ *api.TransferBase) {
			r.tracker.spoil = func(m *cbt.Map) { m.Extents = nil }
		}, why: "a volume of 5242880 bytes, and the base's image has 4194304"},
		"says nothing": {now: first, spoil: func(r *rig, _ *api.TransferBase) { r.tracker.spoil = func(m *cbt.Map) { *m = cbt.Map{} } }, why: "a volume of 0 bytes"},
		"image gone":   {now: first, spoil: func(_ *rig, b *api.TransferBase) { b.Image = strings.Repeat("0", 32) }, why: "is not in the repository any more"},
		"foreign":      {now: first, spoil: func(_ *rig, b *api.TransferBase) { b.Cluster = "c2" }, why: "is a Block image of"},
		"base gone": {now: first, spoil: func(r *rig, _ *api.TransferBase) {
			r.tracker.delta = &cbt.Error{Reason: cbt.BaseGone, Asked: "changes", Problem: "no snapshot s1"}
		}, why: "no snapshot s1"},
		"nobody": {now: first, spoil: func(r *rig, _ *api.TransferBase) {
			r.tracker.nobody = &cbt.Error{Reason: cbt.Unreachable, Asked: "changes", Problem: "nobody answers"}
		}, why: "nobody answers"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			d := r.daemon()
			r.uploadOf("s1", first, nil)
			base := &api.TransferBase{Image: d.finish("s1").Status.Image, SnapshotHandle: "s1"}
			if c.spoil != nil {
				c.spoil(r, base)
			}
			r.keepOf("s2", c.now, base)
			s := d.finish("s2").Status
			if s.Phase != api.TransferSucceeded || s.Image != "" || !strings.Contains(s.Differs, c.why) {
				t.Errorf("status %+v, want %q", s, c.why)
			}
			images := r.images()
			if len(images) != 1 {
				t.Errorf("%d images are in the repository", len(images))
			}
		})
	}
}

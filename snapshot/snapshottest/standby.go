package snapshottest

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/godwit-io/godwit/snapshot"
)

// standby is a volume that images are applied to, one after the other.
type standby struct {
	device *Device
	model  *model
	holds  snapshot.ImageID // empty for unknown content
	// cut is the apply that was cut short, if one was, and its journal.
	cut     *snapshot.ApplyRequest
	journal Journal
	notices []string
}

// ready makes the standby one of a volume that has images.
func (h *history) ready() (*standby, snapshot.Image) {
	s := &h.standby
	if s.model == nil || len(s.model.images) == 0 {
		*s = standby{model: h.volumes[0]}
		if len(s.model.images) == 0 {
			s.model = h.volumes[1]
		}
		s.device = NewDevice(bytes.Repeat([]byte{0xaa}, len(s.model.data)+300*int(s.model.chunk)))
	}
	image := s.model.images[h.rnd.IntN(len(s.model.images))]
	if int(s.device.Size()) < len(s.model.held[image.ID]) { // as a claim grows
		s.device = NewDevice(append(s.device.Bytes(), make([]byte, 300*int(s.model.chunk)+len(s.model.data))...))
		s.holds, s.cut = "", nil
	}
	return s, image
}

// request brings the standby to the image by what is known of it.
func (h *history) request(s *standby, to snapshot.Image) snapshot.ApplyRequest {
	r := snapshot.ApplyRequest{
		Sink: s.device, To: to.ID, From: s.holds, Workers: 1 + h.rnd.IntN(4), Verify: snapshot.VerifyMode(h.rnd.IntN(4)),
		Journal: &s.journal, SinkID: "standby", Notice: func(text string) { s.notices = append(s.notices, text) },
	}
	if h.rnd.IntN(4) == 0 {
		r.From = ""
	}
	return r
}

// apply finishes what was cut short, takes it back, repairs, or goes anywhere.
func (h *history) apply() {
	h.t.Helper()
	s, to := h.ready()
	r := h.request(s, to)
	if s.cut != nil {
		switch h.rnd.IntN(4) {
		case 0, 1: // the same again
			r.To, r.From = s.cut.To, s.cut.From
		case 2:
			if r.To, r.From = s.cut.From, s.cut.To; r.To == "" {
				r.To, r.From = s.cut.To, s.cut.From
			}
		default:
			h.reconcile(s, to)
			return
		}
	}
	h.applyNow(s, r)
}

func (h *history) applyNow(s *standby, r snapshot.ApplyRequest) {
	h.t.Helper()
	h.note("apply %s over %q", r.To, r.From)
	stats, err := snapshot.Apply(h.t.Context(), r, h.client())
	gone := !h.there(s, r.To) || r.From != "" && !h.there(s, r.From)
	if gone && (errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrNoBase)) {
		s.cut, s.holds = nil, ""
		return
	}
	if err != nil || stats.Done != stats.Total {
		h.fail("apply %s over %q: %+v, %v", r.To, r.From, stats, err)
	}
	h.mustHold(s, r.To)
}

func (h *history) there(s *standby, id snapshot.ImageID) bool {
	return slices.ContainsFunc(s.model.images, func(i snapshot.Image) bool { return i.ID == id })
}

func (h *history) mustHold(s *standby, id snapshot.ImageID) {
	h.t.Helper()
	want := s.model.held[id]
	if got := s.device.Bytes()[:len(want)]; !bytes.Equal(got, want) {
		h.fail("the standby holds other bytes than %s, from %d on", id, firstDifference(got, want))
	}
	s.holds, s.cut = id, nil
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

func (h *history) reconcile(s *standby, to snapshot.Image) {
	h.t.Helper()
	h.note("reconcile with %s", to.ID)
	r := snapshot.ReconcileRequest{Sink: s.device, To: to.ID, Verify: snapshot.VerifyMode(h.rnd.IntN(4))}
	stats, err := snapshot.Reconcile(h.t.Context(), r, h.client())
	if err != nil || stats.Done != stats.Total {
		h.fail("reconcile with %s: %+v, %v", to.ID, stats, err)
	}
	h.mustHold(s, to.ID)
}

// killedApply stops at any write, any entry of the journal or any fetch, and
// leaves a torn chunk behind.
func (h *history) killedApply() {
	h.t.Helper()
	s, to := h.ready()
	if s.cut != nil {
		h.apply()
		return
	}
	r := h.request(s, to)
	h.note("kill an apply of %s over %q", r.To, r.From)
	faults := &Countdown{N: int64(1 + h.rnd.IntN(60))}
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	byCancel := h.rnd.IntN(4) == 0
	s.device.OnWrite = func(offset, length int64) error {
		err := faults.Next()
		if err != nil && byCancel {
			cancel()
			return nil
		}
		if err != nil {
			s.device.tear(offset, length/2)
		}
		return err
	}
	s.journal.OnSave = func([]byte) error { return faults.Next() }
	_, err := snapshot.Apply(ctx, r, h.client())
	s.device.OnWrite, s.journal.OnSave = nil, nil
	if err == nil {
		h.mustHold(s, r.To)
		return
	}
	if !errors.Is(err, ErrInjected) && !errors.Is(err, context.Canceled) {
		h.fail("killed apply: %v", err)
	}
	s.cut, s.holds = &r, ""
}

// tear leaves what a write that was cut off by a power failure may leave.
func (d *Device) tear(offset, length int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.data[offset : offset+length] {
		d.data[offset+int64(i)] = 0x55
	}
}

// corruptVolume changes bytes of the standby: each chunk that holds one is
// named, no other is, and nothing but them is written to repair it.
func (h *history) corruptVolume() {
	h.t.Helper()
	s, _ := h.ready()
	if s.holds == "" || !h.there(s, s.holds) {
		h.apply()
		if s.holds == "" || !h.there(s, s.holds) {
			return
		}
	}
	size := int64(len(s.model.held[s.holds]))
	var spoiled []int64
	for range 1 + h.rnd.IntN(5) {
		at := h.rnd.Int64N(size)
		chunk := at - at%s.model.chunk
		if slices.Contains(spoiled, chunk) {
			continue
		}
		spoiled = append(spoiled, chunk)
		s.device.mu.Lock()
		s.device.data[at] ^= byte(1 << h.rnd.IntN(8))
		s.device.mu.Unlock()
	}
	slices.Sort(spoiled)
	h.note("corrupt the standby of %s at %v", s.holds, spoiled)
	report, err := snapshot.Verify(h.t.Context(), snapshot.VerifyRequest{Source: s.device, Image: s.holds, Volume: s.model.volume}, h.client())
	if !errors.Is(err, snapshot.ErrDiffers) || int(report.Differing) != len(spoiled) {
		h.fail("corruption at %v was told as %+v, %v", spoiled, report, err)
	}
	for i, m := range report.Mismatches {
		if m.Chunk.Offset != spoiled[i] {
			h.fail("corruption at %v was told as %v", spoiled, report.Mismatches)
		}
	}
	stats, err := snapshot.Reconcile(h.t.Context(), snapshot.ReconcileRequest{Sink: s.device, To: s.holds}, h.client())
	if err != nil || stats.Written > int64(len(spoiled))*s.model.chunk {
		h.fail("repairing %d chunks: %+v, %v", len(spoiled), stats, err)
	}
	h.mustHold(s, s.holds)
}

// corruptRepository changes what is stored: whatever is restored from it is
// right, or nothing is said to be.
func (h *history) corruptRepository() {
	h.t.Helper()
	if h.world.Damage == nil {
		return
	}
	s, to := h.ready()
	h.note("corrupt the repository and restore %s", to.ID)
	undo := h.world.Damage(h.rnd)
	defer undo()
	store := h.client()
	if h.rnd.IntN(4) == 0 { // a client that has nothing cached
		var err error
		if store, err = h.world.Open(h.t, "reader"); err != nil {
			return
		}
	}
	want := s.model.held[to.ID]
	scratch := NewDevice(make([]byte, len(want)))
	if len(s.model.images) > 1 && h.rnd.IntN(2) == 0 {
		from := s.model.images[h.rnd.IntN(len(s.model.images))].ID
		copy(scratch.data, s.model.held[from])
		_, err := snapshot.Apply(h.t.Context(), snapshot.ApplyRequest{Sink: scratch, To: to.ID, From: from}, store)
		if err == nil && !bytes.Equal(scratch.data, want) {
			h.fail("an apply from a corrupt repository gave other bytes and no error")
		}
		return
	}
	_, err := snapshot.Reconcile(h.t.Context(), snapshot.ReconcileRequest{Sink: scratch, To: to.ID}, store)
	if err == nil && !bytes.Equal(scratch.data, want) {
		h.fail("a restore from a corrupt repository gave other bytes and no error")
	}
	if _, err := snapshot.Verify(h.t.Context(), snapshot.VerifyRequest{Source: NewDevice(want), Image: to.ID}, store); errors.Is(err, snapshot.ErrDiffers) {
		h.fail("a corrupt repository was told as a corrupt volume: %v", err)
	}
}

package snapshottest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

// testChunk keeps volumes of a few MiB to many chunks and several segments.
const testChunk = 4 << 10

// model is a volume with its history: what each image must hold.
type model struct {
	t      *testing.T
	rnd    *rand.Rand
	store  snapshot.Store
	volume snapshot.Volume
	data   []byte
	dirty  map[snapshot.ImageID][]snapshot.Extent // written since
	images []snapshot.Image
	held   map[snapshot.ImageID][]byte
}

// TestModel writes at random over rounds, backs up by every method, applies
// from any round to any other, cuts runs short anywhere, and compares each byte.
func TestModel(t *testing.T, store snapshot.Store, seed uint64, rounds int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 7))
	m := &model{
		t: t, rnd: rnd, store: store,
		volume: snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "model"},
		data:   make([]byte, 3<<20+rnd.IntN(2<<20)),
		dirty:  map[snapshot.ImageID][]snapshot.Extent{}, held: map[snapshot.ImageID][]byte{},
	}
	for i := range rounds {
		m.mutate()
		m.interruptedBackup()
		m.backup(i)
		m.apply()
	}
	listed, err := store.Images(t.Context(), m.volume)
	if err != nil {
		t.Fatal(err)
	}
	if len(listed) != len(m.images) {
		t.Fatalf("seed %d: %d images listed, %d committed", seed, len(listed), len(m.images))
	}
	for i := range listed {
		if listed[i].ID != m.images[i].ID {
			t.Fatalf("seed %d: image %d is %s, want %s", seed, i, listed[i].ID, m.images[i].ID)
		}
	}
}

func (m *model) write(e snapshot.Extent) []byte {
	for id := range m.dirty {
		m.dirty[id] = append(m.dirty[id], e)
	}
	return m.data[e.Offset:e.End()]
}

func (m *model) extent(most int) snapshot.Extent {
	offset := m.rnd.IntN(len(m.data))
	return snapshot.Extent{Offset: int64(offset), Length: int64(min(1+m.rnd.IntN(most), len(m.data)-offset))}
}

func (m *model) mutate() {
	if m.rnd.IntN(6) == 0 {
		m.data = append(m.data, make([]byte, m.rnd.IntN(300<<10))...)
	}
	for range 1 + m.rnd.IntN(30) {
		switch m.rnd.IntN(4) {
		case 0:
			clear(m.write(m.extent(256 << 10)))
		case 1: // equal content elsewhere
			from := bytes.Clone(m.data[:min(64<<10, len(m.data))])
			copy(m.write(m.extent(64<<10)), from)
		case 2:
			b := m.write(m.extent(100 << 10))
			for i := range b {
				b[i] = "text that shrinks "[i%18]
			}
		default:
			b := m.write(m.extent(20 << 10))
			for i := range b {
				b[i] = byte(m.rnd.Uint32())
			}
		}
	}
}

func (m *model) request(round int) snapshot.BackupRequest {
	r := snapshot.BackupRequest{
		Source: NewDevice(bytes.Clone(m.data)),
		Image:  snapshot.Image{Volume: m.volume, Round: string(rune('a' + round)), Method: snapshot.MethodScan, ChunkSize: testChunk},
	}
	r.Workers = 1 + m.rnd.IntN(5)
	if len(m.images) > 0 && m.rnd.IntN(4) > 0 {
		r.Parent = m.images[m.rnd.IntN(len(m.images))].ID
	}
	switch method := m.rnd.IntN(3); {
	case method == 0:
		r.Image.Method, r.Extents = snapshot.MethodAllocated, m.allocated()
	case method == 1 && r.Parent != "":
		r.Image.Method, r.Extents = snapshot.MethodDelta, slices.Clone(m.dirty[r.Parent])
		if r.Extents == nil {
			r.Extents = []snapshot.Extent{}
		}
	}
	return r
}

// allocated gives extents of what is not zero, cut as a filesystem would.
func (m *model) allocated() []snapshot.Extent {
	extents := []snapshot.Extent{}
	for at := 0; at < len(m.data); at += 1000 {
		piece := m.data[at:min(at+1000, len(m.data))]
		if len(bytes.TrimLeft(piece, "\x00")) > 0 {
			extents = append(extents, snapshot.Extent{Offset: int64(at), Length: int64(len(piece))})
		}
	}
	m.rnd.Shuffle(len(extents), func(i, j int) { extents[i], extents[j] = extents[j], extents[i] })
	return extents
}

func (m *model) interruptedBackup() {
	if m.rnd.IntN(2) == 0 {
		return
	}
	faulty := FaultyStore{m.store, &Countdown{N: int64(1 + m.rnd.IntN(1500))}}
	r := m.request(25)
	image, _, err := snapshot.Backup(m.t.Context(), r, faulty)
	if err == nil { // it had fewer calls than the fault waits for
		err = m.store.Forget(m.t.Context(), image.ID)
		if err != nil {
			m.t.Fatal(err)
		}
	} else if !errors.Is(err, ErrInjected) && !errors.Is(err, context.Canceled) {
		m.t.Fatalf("interrupted backup: %v", err)
	}
}

func (m *model) backup(round int) {
	m.t.Helper()
	r := m.request(round)
	image, stats, err := snapshot.Backup(m.t.Context(), r, m.store)
	if err != nil {
		m.t.Fatal(err)
	}
	if stats.Read != stats.Total || stats.Done != stats.Total {
		m.t.Fatalf("read %d and did %d of %d", stats.Read, stats.Done, stats.Total)
	}
	var before []byte
	if r.Parent != "" {
		before = m.held[r.Parent]
	}
	if want := changedBytes(before, m.data); stats.Changed != want {
		m.t.Fatalf("%s from %q: changed %d bytes, want %d", r.Image.Method, r.Parent, stats.Changed, want)
	}
	m.images = append(m.images, image)
	m.held[image.ID] = bytes.Clone(m.data)
	m.dirty[image.ID] = nil
}

// changedBytes counts the chunks that differ, whole.
func changedBytes(before, after []byte) int64 {
	var n int64
	for at := 0; at < len(after); at += testChunk {
		chunk := after[at:min(at+testChunk, len(after))]
		old := make([]byte, len(chunk))
		if before != nil {
			if at >= len(before) {
				n += int64(len(chunk))
				continue
			}
			old = before[at:min(at+testChunk, len(before))]
		}
		if !bytes.Equal(old, chunk) {
			n += int64(len(chunk))
		}
	}
	return n
}

func (m *model) apply() {
	m.t.Helper()
	from, to := m.images[m.rnd.IntN(len(m.images))], m.images[m.rnd.IntN(len(m.images))]
	held, want := m.held[from.ID], m.held[to.ID]
	sink := make([]byte, max(len(held), len(want))+m.rnd.IntN(100<<10))
	for i := len(held); i < len(sink); i++ {
		sink[i] = 0xaa
	}
	copy(sink, held)
	tail := bytes.Clone(sink[len(want):])
	device := NewDevice(sink)
	r := snapshot.ApplyRequest{Sink: device, To: to.ID, From: from.ID, Workers: 1 + m.rnd.IntN(4), Verify: snapshot.Verify(m.rnd.IntN(2))}
	if m.rnd.IntN(3) == 0 {
		r.From = ""
		clear(tail)
	}
	if m.rnd.IntN(2) == 0 {
		m.interruptedApply(r, device)
	}
	if _, err := snapshot.Apply(m.t.Context(), r, m.store); err != nil {
		m.t.Fatal(err)
	}
	got := device.Bytes()
	if !bytes.Equal(got[:len(want)], want) {
		m.t.Fatalf("applying %s over %q gave other bytes", r.To, r.From)
	}
	if !bytes.Equal(got[len(want):], tail) {
		m.t.Fatalf("applying %s over %q changed the tail", r.To, r.From)
	}
}

// interruptedApply leaves the device half applied, a chunk torn, or taken back.
func (m *model) interruptedApply(r snapshot.ApplyRequest, device *Device) {
	fault := &Countdown{N: int64(1 + m.rnd.IntN(40))}
	device.OnWrite = func(offset, length int64) error {
		err := fault.Next()
		if err != nil {
			device.mu.Lock()
			for i := range device.data[offset : offset+length/2] {
				device.data[offset+int64(i)] = 0x55
			}
			device.mu.Unlock()
		}
		return err
	}
	_, err := snapshot.Apply(m.t.Context(), r, m.store)
	device.OnWrite = nil
	if err == nil || r.From == "" || m.rnd.IntN(2) == 0 || m.held[r.To] == nil {
		return
	}
	back := r
	back.To, back.From = r.From, r.To
	if device.Size() < int64(len(m.held[back.To])) {
		return
	}
	if _, err := snapshot.Apply(m.t.Context(), back, m.store); err != nil {
		m.t.Fatal(err)
	}
	want := m.held[back.To]
	if got := device.Bytes(); !bytes.Equal(got[:len(want)], want) {
		m.t.Fatalf("taking the apply of %s back to %s gave other bytes", r.To, back.To)
	}
}

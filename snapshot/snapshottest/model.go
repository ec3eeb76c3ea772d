package snapshottest

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"github.com/godwit-io/godwit/snapshot"
)

// testChunk keeps volumes of a few MiB to many chunks and several segments.
const testChunk = 4 << 10

// model is a volume with its history: what each image must hold.
type model struct {
	rnd    *rand.Rand
	volume snapshot.Volume
	chunk  int64
	data   []byte
	dirty  map[snapshot.ImageID][]snapshot.Extent // written since
	images []snapshot.Image
	held   map[snapshot.ImageID][]byte
	rounds int
}

// newModel starts with a volume of zeros of up to 600 chunks.
func newModel(rnd *rand.Rand, name string, chunk int64) *model {
	return &model{
		rnd: rnd, chunk: chunk, volume: snapshot.Volume{Cluster: "c1", Namespace: "histories", Name: name},
		data:  make([]byte, int(chunk)*(1+rnd.IntN(600))+rnd.IntN(int(chunk))),
		dirty: map[snapshot.ImageID][]snapshot.Extent{}, held: map[snapshot.ImageID][]byte{},
	}
}

func (m *model) write(e snapshot.Extent) []byte {
	for id := range m.dirty {
		m.dirty[id] = append(m.dirty[id], e)
	}
	return m.data[e.Offset:e.End()]
}

// extent is somewhere, and up to so many chunks long.
func (m *model) extent(chunks int) snapshot.Extent {
	offset := m.rnd.IntN(len(m.data))
	return snapshot.Extent{Offset: int64(offset), Length: int64(min(1+m.rnd.IntN(chunks*int(m.chunk)), len(m.data)-offset))}
}

// mutate writes here and there, and grows the volume now and then.
func (m *model) mutate() {
	if m.rnd.IntN(6) == 0 {
		m.data = append(m.data, make([]byte, m.rnd.IntN(75*int(m.chunk)))...)
	}
	for range 1 + m.rnd.IntN(20) {
		switch m.rnd.IntN(4) {
		case 0:
			clear(m.write(m.extent(60)))
		case 1: // equal content elsewhere
			from := bytes.Clone(m.data[:min(16*int(m.chunk), len(m.data))])
			copy(m.write(m.extent(16)), from)
		case 2:
			b := m.write(m.extent(25))
			for i := range b {
				b[i] = "text that shrinks "[i%18]
			}
		default:
			b := m.write(m.extent(5))
			for i := range b {
				b[i] = byte(m.rnd.Uint32())
			}
		}
	}
}

// request asks for a backup by any method, from any image or none.
func (m *model) request() snapshot.BackupRequest {
	m.rounds++
	r := snapshot.BackupRequest{
		Source: NewDevice(bytes.Clone(m.data)),
		Image:  snapshot.Image{Volume: m.volume, Round: string(rune('a' + m.rounds)), Method: snapshot.MethodScan, ChunkSize: m.chunk},
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
	step := int(m.chunk)/4 - 24
	for at := 0; at < len(m.data); at += step {
		piece := m.data[at:min(at+step, len(m.data))]
		if len(bytes.TrimLeft(piece, "\x00")) > 0 {
			extents = append(extents, snapshot.Extent{Offset: int64(at), Length: int64(len(piece))})
		}
	}
	m.rnd.Shuffle(len(extents), func(i, j int) { extents[i], extents[j] = extents[j], extents[i] })
	return extents
}

// committed notes an image of what the volume holds.
func (m *model) committed(image snapshot.Image) {
	m.images = append(m.images, image)
	m.held[image.ID] = bytes.Clone(m.data)
	m.dirty[image.ID] = nil
}

// forget removes the nth image.
func (m *model) forget(n int) snapshot.Image {
	image := m.images[n]
	m.images = slices.Delete(m.images, n, n+1)
	delete(m.dirty, image.ID)
	return image
}

// changed counts the bytes of the chunks that differ, whole.
func (m *model) changed(before, after []byte) int64 {
	var n int64
	chunk := int(m.chunk)
	for at := 0; at < len(after); at += chunk {
		part := after[at:min(at+chunk, len(after))]
		old := make([]byte, len(part))
		if before != nil {
			if at >= len(before) {
				n += int64(len(part))
				continue
			}
			old = before[at:min(at+chunk, len(before))]
		}
		if !bytes.Equal(old, part) {
			n += int64(len(part))
		}
	}
	return n
}

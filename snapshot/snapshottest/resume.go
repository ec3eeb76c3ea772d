package snapshottest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

// CountedSource counts what is read of a Source, and stops giving at a point.
type CountedSource struct {
	snapshot.Source
	Read Counter
	// Dead, where set, is asked before each read.
	Dead *Countdown
}

// Counter adds up bytes.
type Counter struct{ n atomic.Int64 }

func (c *Counter) add(n int64) { c.n.Add(n) }

// Total is the sum.
func (c *Counter) Total() int64 { return c.n.Load() }

// ReadAt reads.
func (c *CountedSource) ReadAt(p []byte, offset int64) (int, error) {
	if c.Dead != nil {
		if err := c.Dead.Next(); err != nil {
			return 0, err
		}
	}
	n, err := c.Source.ReadAt(p, offset)
	c.Read.add(int64(n))
	return n, err
}

const (
	resumeSize  = 12 << 20
	resumeChunk = 64 << 10
	resumeBytes = 2 << 20 // what a run that is cut short may lose
)

// resumable is a request over data that checkpoints often.
func resumable(data []byte, dead *Countdown) (snapshot.BackupRequest, *CountedSource) {
	r := scan(data, "resumed")
	source := &CountedSource{Source: r.Source, Dead: dead}
	r.Source, r.Moment, r.Workers, r.Image.ChunkSize = source, "the snapshot", 2, resumeChunk
	r.CheckpointEvery = snapshot.CheckpointEvery{Bytes: resumeBytes}
	return r, source
}

// testResume cuts runs short at many points, and looks at what the next reads.
func testResume(t *testing.T, open func(*testing.T) snapshot.Store) {
	data := noise(resumeSize+123, 9)
	clear(data[1<<20 : 1<<20+300<<10])
	for _, at := range []int64{1, 40, 100, 150, 193} {
		s := open(t)
		r, first := resumable(data, nil)
		if _, _, err := snapshot.Backup(t.Context(), r, FaultyStore{s, &Countdown{N: at}}); err == nil {
			t.Fatalf("fault %d did not come", at)
		} else if !errors.Is(err, ErrInjected) && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if images, err := s.Images(t.Context(), r.Image.Volume); err != nil || len(images) != 0 {
			t.Fatalf("a run that was cut short is listed: %v, %v", images, err)
		}
		r, second := resumable(data, nil)
		image, stats := mustBackup(t, r, s)
		// Each worker may go beyond by one buffer, once before a checkpoint begins and
		// once while it is made.
		again := first.Read.Total() + second.Read.Total() - int64(len(data))
		if most := int64(resumeBytes + 2*r.Workers<<20); again > most || stats.Done != stats.Total {
			t.Errorf("cut short at %d, after reading %d, %d bytes were read twice; stats are %+v", at, first.Read.Total(), again, stats)
		}
		mustHold(t, s, image.ID, data)
	}
}

// testOtherMoment shows that a checkpoint is of one moment only.
func testOtherMoment(t *testing.T, open func(*testing.T) snapshot.Store) {
	// Equal sizes, other bytes.
	before, after := noise(resumeSize, 1), noise(resumeSize, 2)
	for name, change := range map[string]func(*snapshot.BackupRequest){
		"moment": func(r *snapshot.BackupRequest) { r.Moment = "another" },
		"none":   func(r *snapshot.BackupRequest) { r.Moment = "" },
		"round":  func(r *snapshot.BackupRequest) { r.Image.Round = "r2" },
		"volume": func(r *snapshot.BackupRequest) { r.Image.Volume.Name = "other" },
		"chunk":  func(r *snapshot.BackupRequest) { r.Image.ChunkSize /= 2 },
		"extents": func(r *snapshot.BackupRequest) {
			r.Image.Method, r.Extents = snapshot.MethodAllocated, []snapshot.Extent{{Length: resumeSize}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			r, first := resumable(before, &Countdown{N: 9})
			if _, _, err := snapshot.Backup(t.Context(), r, s); !errors.Is(err, ErrInjected) || first.Read.Total() == 0 {
				t.Fatalf("the first run read %d: %v", first.Read.Total(), err)
			}
			r, second := resumable(after, nil)
			change(&r)
			image, _ := mustBackup(t, r, s)
			if second.Read.Total() != resumeSize {
				t.Errorf("%d bytes were read of %d", second.Read.Total(), resumeSize)
			}
			mustHold(t, s, image.ID, after)
		})
	}
}

func mustHold(t *testing.T, s snapshot.Store, id snapshot.ImageID, want []byte) {
	t.Helper()
	sink := NewDevice(bytes.Repeat([]byte{0xee}, len(want)))
	if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: id}, s); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sink.Bytes(), want) {
		t.Fatalf("image %s holds other bytes", id)
	}
}

// testResumedDelta goes on with a delta that was cut short, and has its base go.
func testResumedDelta(t *testing.T, s snapshot.Store) {
	data := noise(resumeSize, 3)
	full, _ := resumable(data, nil)
	base, _ := mustBackup(t, full, s)
	rnd := rand.New(rand.NewPCG(5, 6))
	changed := bytes.Clone(data)
	extents := []snapshot.Extent{}
	for at := int64(0); at < resumeSize-resumeChunk; at += 3 * resumeChunk {
		e := snapshot.Extent{Offset: at + rnd.Int64N(4<<10), Length: 1 + rnd.Int64N(2*resumeChunk)}
		copy(changed[e.Offset:e.End()], noise(int(e.Length), uint64(at>>16)))
		extents = append(extents, e)
	}
	request := func() (snapshot.BackupRequest, *CountedSource) {
		r, source := resumable(changed, nil)
		r.Image.Method, r.Extents, r.Parent = snapshot.MethodDelta, extents, base.ID
		r.CheckpointEvery.Bytes, r.Workers = 1<<20, 1
		return r, source
	}
	r, first := request()
	_, _, err := snapshot.Backup(t.Context(), r, FaultyStore{s, &Countdown{N: 80}})
	if !errors.Is(err, ErrInjected) {
		t.Fatal(err)
	}
	r, second := request()
	image, stats := mustBackup(t, r, s)
	if first.Read.Total() == 0 || second.Read.Total() >= stats.Total || stats.Done != stats.Total {
		t.Errorf("a delta read %d, then %d of %d", first.Read.Total(), second.Read.Total(), stats.Total)
	}
	mustHold(t, s, image.ID, changed)

	r, _ = request()
	r.Image.Round = "r3"
	if _, _, err := snapshot.Backup(t.Context(), r, FaultyStore{s, &Countdown{N: 40}}); !errors.Is(err, ErrInjected) {
		t.Fatal(err)
	}
	if err := s.Forget(t.Context(), base.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := snapshot.Backup(t.Context(), r, s); !errors.Is(err, snapshot.ErrNoBase) {
		t.Errorf("a delta whose base is gone went on: %v", err)
	}
}

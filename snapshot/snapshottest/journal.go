package snapshottest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

// Journal is a snapshot.Journal in memory.
type Journal struct {
	Entry []byte
	// OnSave, where set, is asked before each entry is kept.
	OnSave func(entry []byte) error
}

var _ snapshot.Journal = (*Journal)(nil)

// Load returns the entry.
func (j *Journal) Load(context.Context) ([]byte, error) { return slices.Clone(j.Entry), nil }

// Save keeps the entry.
func (j *Journal) Save(_ context.Context, entry []byte) error {
	if j.OnSave != nil {
		if err := j.OnSave(entry); err != nil {
			return err
		}
	}
	j.Entry = slices.Clone(entry)
	return nil
}

// Clear removes it.
func (j *Journal) Clear(context.Context) error {
	j.Entry = nil
	return nil
}

// journalSize is more than one window of its Applies, mostly zeros.
const (
	journalSize   = 330 << 20
	journalWindow = 256 << 20 / 8
)

// TestJournal cuts an apply short after its first window and finishes it: by
// the same request, by another, with the volume changed in between, and with
// journals that lie.
func TestJournal(t *testing.T, s snapshot.Store) {
	t.Helper()
	data := make([]byte, journalSize)
	copy(data, noise(64<<10, 31))
	copy(data[200<<20:], noise(64<<10, 32))
	copy(data[320<<20:], noise(64<<10, 33))
	r := scan(data, "v")
	r.Image.ChunkSize = 64 << 10
	image, _ := mustBackup(t, r, s)
	r = scan(bytes.Clone(data), "v")
	r.Image.ChunkSize = 64 << 10
	other, _ := mustBackup(t, r, s)
	target := make([]byte, journalSize)
	half := &Journal{}
	journal := &Journal{}
	var saved [][]byte
	journal.OnSave = func(entry []byte) error {
		saved = append(saved, slices.Clone(entry))
		if len(saved) == 3 {
			return ErrInjected
		}
		return nil
	}
	var notices []string
	request := snapshot.ApplyRequest{
		Sink: NewDevice(target), To: image.ID, Journal: journal, SinkID: "one", Notice: func(s string) { notices = append(notices, s) },
		Window: journalWindow,
	}
	if _, err := snapshot.Apply(t.Context(), request, s); !errors.Is(err, ErrInjected) || len(saved) != 3 {
		t.Fatalf("cut short: %v, %d entries", err, len(saved))
	}
	half.Entry = saved[1]
	held := make([]byte, journalSize) // one for all: the race detector pays for each new byte
	for name, c := range map[string]struct {
		entry  []byte
		change func(r *snapshot.ApplyRequest, held []byte)
		want   string // in the notice; none means that it goes on
	}{
		"the same":      {entry: half.Entry},
		"nothing":       {entry: nil, want: "-"},
		"another sink":  {entry: half.Entry, change: func(r *snapshot.ApplyRequest, _ []byte) { r.SinkID = "two" }, want: `on "one"`},
		"another image": {entry: half.Entry, change: func(r *snapshot.ApplyRequest, _ []byte) { r.To = other.ID }, want: `the apply of "` + string(image.ID)},
		"another base":  {entry: half.Entry, change: func(r *snapshot.ApplyRequest, _ []byte) { r.From = other.ID }, want: `over ""`},
		"torn":          {entry: half.Entry[:20], want: "cannot be read"},
		"of the future": {entry: bytes.Replace(half.Entry, []byte(`"format":1`), []byte(`"format":2`), 1), want: "format 2"},
		"too far":       {entry: bytes.Replace(half.Entry, []byte(`"done":`), []byte(`"done":9`), 1), want: "ends at 9"},
		"written since": {entry: half.Entry, change: func(_ *snapshot.ApplyRequest, held []byte) { held[5] ^= 1 }, want: "chunk "},
	} {
		t.Run(name, func(t *testing.T) {
			notices = nil
			clear(held[copy(held, data[:260<<20]):])
			r := request
			r.Sink, r.Journal = NewDevice(held), &Journal{Entry: c.entry} // the rest of held is zeros
			if c.change != nil {
				c.change(&r, held)
			}
			if r.From != "" { // what the base claims must be true
				copy(held, data)
			}
			var firstWrite atomic.Int64
			firstWrite.Store(journalSize)
			r.Sink.(*Device).OnWrite = func(offset, _ int64) error {
				for now := firstWrite.Load(); offset < now && !firstWrite.CompareAndSwap(now, offset); now = firstWrite.Load() {
				}
				return nil
			}
			stats, err := snapshot.Apply(t.Context(), r, s)
			if err != nil || !bytes.Equal(r.Sink.(*Device).data, data) || stats.Done != stats.Total {
				t.Fatalf("%+v, %v, or other bytes", stats, err)
			}
			if left := r.Journal.(*Journal).Entry; left != nil {
				t.Errorf("the journal is left with %s", left)
			}
			told := strings.Join(notices, "\n")
			switch {
			case c.want == "":
				if len(notices) > 0 || firstWrite.Load() < 200<<20 || stats.Fetched == 0 {
					t.Errorf("it did not go on: wrote at %d first, told %q, %+v", firstWrite.Load(), told, stats)
				}
			case c.want != "-" && (len(notices) != 1 || !strings.Contains(told, c.want)):
				t.Errorf("told %q, want %q", told, c.want)
			case c.want == "chunk ":
				if stats.Fetched == 0 || stats.Written != 2*64<<10 {
					t.Errorf("more than what differs was written again: %+v", stats)
				}
			case r.From == "" && firstWrite.Load() != 0:
				t.Errorf("it did not start again: wrote at %d first", firstWrite.Load())
			}
		})
	}
	request.SinkID = ""
	if _, err := snapshot.Apply(t.Context(), request, s); err == nil || !strings.Contains(err.Error(), "name of the volume") {
		t.Errorf("a journal of a nameless volume: %v", err)
	}
}

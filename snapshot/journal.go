package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Journal keeps the place that an Apply reached where a later process finds
// it: a file beside the volume, a field of an object. One Journal serves one
// volume.
type Journal interface {
	// Load returns what was saved last, or nothing.
	Load(ctx context.Context) ([]byte, error)
	// Save returns once the entry is durable. It replaces the one before.
	Save(ctx context.Context, entry []byte) error
	// Clear removes it; where there is none, that is no error.
	Clear(ctx context.Context) error
}

const journalFormat = 1

// journalEntry is one Apply and how far it is.
type journalEntry struct {
	Format int     `json:"format"`
	Sink   string  `json:"sink"`
	Size   int64   `json:"size"`
	From   ImageID `json:"from"`
	To     ImageID `json:"to"`
	// Done is the offset before which the volume holds To, durably.
	Done int64 `json:"done"`
}

// journaled is the journal of one Apply. A nil one keeps nothing.
type journaled struct {
	journal Journal
	notice  func(string)
	entry   journalEntry
}

func (r ApplyRequest) journaled() (*journaled, error) {
	if r.Journal == nil {
		return nil, nil //nolint:nilnil // no journal keeps nothing
	}
	if r.SinkID == "" || r.Notice == nil {
		return nil, errors.New("a journal needs the name of the volume, and somebody to tell when it is not trusted")
	}
	return &journaled{r.Journal, r.Notice, journalEntry{journalFormat, r.SinkID, r.Sink.Size(), r.From, r.To, 0}}, nil
}

// load returns how far an earlier run of the same Apply says that it came.
// The journal of any other is told of and not used.
func (j *journaled) load(ctx context.Context) (int64, error) {
	data, err := j.journal.Load(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the journal: %w", err)
	}
	if len(data) == 0 {
		return 0, nil
	}
	var found journalEntry
	const again = "all of it is done again"
	if err := json.Unmarshal(data, &found); err != nil {
		j.distrust(again, fmt.Sprintf("it cannot be read (%v)", err))
		return 0, nil
	}
	want := j.entry
	want.Done = found.Done
	switch {
	case found.Format != journalFormat:
		j.distrust(again, fmt.Sprintf("it has format %d, not %d", found.Format, journalFormat))
	case found != want:
		j.distrust(again, fmt.Sprintf("it is of the apply of %q over %q on %q of %d bytes", found.To, found.From, found.Sink, found.Size))
	case found.Done < 0 || found.Done > found.Size:
		j.distrust(again, fmt.Sprintf("it ends at %d in a volume of %d bytes", found.Done, found.Size))
	default:
		return found.Done, nil
	}
	return 0, nil
}

func (j *journaled) distrust(so, why string) {
	j.notice(fmt.Sprintf("the journal of the apply of %q over %q on %s is not trusted, and %s: %s", j.entry.To, j.entry.From, j.entry.Sink, so, why))
}

// save notes that all before the offset is written and durable.
func (j *journaled) save(ctx context.Context, done int64) error {
	if j == nil {
		return nil
	}
	j.entry.Done = max(j.entry.Done, done)
	data, err := json.Marshal(j.entry)
	if err == nil {
		err = j.journal.Save(ctx, data)
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

func (j *journaled) clear(ctx context.Context) error {
	if j == nil {
		return nil
	}
	if err := j.journal.Clear(ctx); err != nil {
		return fmt.Errorf("clear the journal: %w", err)
	}
	return nil
}

// resume divides the pairs into those that an earlier run of the same Apply
// says that it wrote and the rest, and notes this run before it writes anything.
func (d *download) resume(ctx context.Context, pairs []segmentPair) (claimed, left []segmentPair, err error) {
	if d.journal == nil {
		return nil, pairs, nil
	}
	done, err := d.journal.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	n := slices.IndexFunc(pairs, func(pair segmentPair) bool { return pair.to.End() > done })
	if n < 0 {
		n = len(pairs)
	}
	return pairs[:n], pairs[n:], d.journal.save(ctx, done)
}

// doubt adds what of the claimed pairs the volume does not hold. A journal
// cannot know who wrote the volume since, so what it says is read again: that
// costs a fraction of fetching it.
func (d *download) doubt(ctx context.Context, p *imagePlan, claimed []segmentPair, w *windows) error {
	if len(claimed) == 0 {
		return nil
	}
	var n counters
	held := newScan(d.sink, d.to, 0, d.limiter, &n)
	if err := held.findHoles(); err != nil {
		return err
	}
	told := false
	err := held.compare(ctx, func(ctx context.Context, yield func(Chunk) error) error {
		return p.compareAll(ctx, claimed, yield)
	}, func(c Chunk) error {
		if !told {
			told = true
			image := d.to.Image()
			d.journal.distrust("what differs is written again",
				"the volume does not hold what it says, first "+Mismatch{image.Volume, image.ID, c}.String())
		}
		p.n.total.Add(c.Length)
		return w.add(c)
	})
	d.n.read.Add(n.read.Load())
	d.n.done.Add(n.done.Load())
	return err
}

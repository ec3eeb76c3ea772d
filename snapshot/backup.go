package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// defaultWorkers was the best on two cores; more only cost memory there.
	defaultWorkers = 4
	// readSize is how much a worker reads at once where chunks are smaller.
	readSize = 1 << 20
)

// BackupRequest says what to read and how.
type BackupRequest struct {
	Source Source
	// Image gives Volume, Round, Taken, Filesystem and Method. A ChunkSize of
	// zero leaves the choice to the Store; with a parent it is the parent's.
	Image Image
	// Extents to read, by the image's Method: what changed since Parent
	// (MethodDelta; none of them means that nothing did), what is allocated
	// (MethodAllocated), and nil, the whole device, for MethodScan.
	Extents []Extent
	// Parent is what chunks are compared with and, by MethodDelta, kept from.
	Parent ImageID
	// Moment names what the source holds, such as the snapshot that it was made
	// of: a run goes on where one of the same Moment was cut short. Empty is for
	// a source that may change between runs, and each reads all of it.
	Moment string
	// Rewrite stores again what the repository holds already, so that what is damaged there
	// is whole in all images that have the same chunks. There is no Parent then.
	Rewrite bool
	// CheckpointEvery is how much work a run that is cut short loses.
	CheckpointEvery CheckpointEvery
	// Workers read and store at once; zero means 4. Each holds one buffer of
	// 1 MiB, or of one chunk where that is larger. No more of them read at a time than
	// bring anything: the source's storage is its application's too.
	Workers int
	// Limiter bounds reading the source, a request being one read of at most
	// 1 MiB or one chunk; nil bounds nothing.
	Limiter *Limiter
	// Budget bounds the memory of all that share it; nil bounds nothing.
	Budget   *Budget
	Progress Progress
}

// Backup reads the source into a new image and commits it. A run that was cut
// short leaves nothing listed. The next one does not send again what had
// reached the repository, and reads only what the last checkpoint has not,
// where its Moment is the same.
//
// ErrNoBase says that the parent is gone: a full copy is the answer.
func Backup(ctx context.Context, r BackupRequest, s Store) (Image, Stats, error) {
	image, n, err := backup(ctx, r, s)
	if err != nil {
		return Image{}, n, fmt.Errorf("back up %s: %w", r.Image.Volume, err)
	}
	return image, n, nil
}

func backup(ctx context.Context, r BackupRequest, s Store) (_ Image, _ Stats, err error) {
	if err := r.check(); err != nil {
		return Image{}, Stats{}, err
	}
	image := r.Image
	image.ID, image.Kind, image.Size, image.Base = "", Block, r.Source.Size(), ""
	var parentSize int64
	if image.Method == MethodDelta {
		parent, err := s.Image(ctx, r.Parent)
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w: %w", ErrNoBase, err)
		}
		if err != nil {
			return Image{}, Stats{}, err
		}
		image.Base, parentSize = r.Parent, parent.Size
	}
	w, err := s.Begin(ctx, image, r.Parent)
	if err != nil {
		return Image{}, Stats{}, err
	}
	// The caller's context may be what ended the run, and must not end the cleaning.
	defer func() { err = errors.Join(err, w.Abort(context.WithoutCancel(ctx))) }()
	if err := r.rewrite(w); err != nil {
		return Image{}, Stats{}, err
	}
	steps, err := r.plan(w.ChunkSize(), parentSize)
	if err != nil {
		return Image{}, Stats{}, err
	}
	b := &upload{source: r.Source, writer: w, workers: workers(r.Workers), limiter: r.Limiter, budget: r.Budget}
	b.pace = newPace(b.workers, time.Now)
	b.n.total.Add(reads(steps))
	if steps, err = b.resume(ctx, r, steps); err != nil {
		return Image{}, b.n.stats(), err
	}
	stop := b.n.report(ctx, r.Progress)
	defer stop()
	if err := b.run(ctx, steps); err != nil {
		return Image{}, b.n.stats(), err
	}
	committed, uploaded, err := w.Commit(ctx)
	b.n.uploaded.Add(uploaded)
	return committed, b.n.stats(), err
}

func workers(n int) int {
	if n <= 0 {
		return defaultWorkers
	}
	return n
}

// check refuses a request whose parts contradict each other: a delta without
// its extents would be an image of nothing new.
func (r BackupRequest) check() error {
	switch {
	case r.Source == nil || r.Source.Size() <= 0:
		return errors.New("the source holds no bytes; is the device there?")
	case r.Rewrite && r.Parent != "":
		return errors.New("what is stored again is compared with nothing: leave the parent out")
	case r.Image.Method == MethodScan && r.Extents == nil:
		return nil
	case r.Image.Method == MethodAllocated && r.Extents != nil:
		return nil
	case r.Image.Method == MethodDelta && r.Extents != nil && r.Parent != "":
		return nil
	}
	return fmt.Errorf("method %q with extents %t and parent %t is no way to read a volume",
		r.Image.Method, r.Extents != nil, r.Parent != "")
}

// Rewriter is a Writer that can store again what the repository holds already.
type Rewriter interface {
	// Rewrite is called at most once, first of all.
	Rewrite()
}

func (r BackupRequest) rewrite(w Writer) error {
	if !r.Rewrite {
		return nil
	}
	to, ok := w.(Rewriter)
	if !ok {
		return errors.New("this repository cannot store again what it holds already")
	}
	to.Rewrite()
	return nil
}

type action int

const (
	readIt action = iota
	keepIt
	zeroIt
)

type step struct {
	Extent
	do action
}

// plan covers the whole volume by steps in order of offset.
func (r BackupRequest) plan(chunk, parentSize int64) ([]step, error) {
	size := r.Source.Size()
	if r.Extents == nil {
		return []step{{Extent{0, size}, readIt}}, nil
	}
	extents := append([]Extent{}, r.Extents...)
	rest := zeroIt
	if r.Image.Method == MethodDelta {
		rest = keepIt
		// Where one of the two ends, chunks of the other have no counterpart.
		if parentSize != size {
			edge := min(parentSize, size)
			extents = append(extents, Extent{edge - edge%chunk, size - edge + edge%chunk})
		}
	}
	reads, err := widen(extents, size, chunk)
	if err != nil {
		return nil, err
	}
	var steps []step
	others := gaps(reads, size)
	for len(reads)+len(others) > 0 {
		if len(others) == 0 || len(reads) > 0 && reads[0].Offset < others[0].Offset {
			steps = append(steps, step{reads[0], readIt})
			reads = reads[1:]
			continue
		}
		steps = append(steps, step{others[0], rest})
		others = others[1:]
	}
	return steps, nil
}

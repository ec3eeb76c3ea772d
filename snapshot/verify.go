package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
)

// VerifyMode says how much of a volume is read again and compared with the
// image by its hashes. Nothing is fetched for it.
type VerifyMode int

const (
	// VerifyNone trusts that what was written is there. Verify takes it as VerifyFull.
	VerifyNone VerifyMode = iota
	// VerifyReadBack reads what an Apply wrote.
	VerifyReadBack
	// VerifySample reads chunks at random over the whole volume, always with
	// the first and the last; after an Apply that is in addition to what it wrote.
	VerifySample
	// VerifyFull reads the whole volume.
	VerifyFull
)

// SampleShare is how much of a volume a sample reads where nothing else is asked for.
const SampleShare = 0.01

// maxMismatches bounds the list: a volume that is another one altogether needs no
// line for each chunk.
const maxMismatches = 100

func (m VerifyMode) known() bool { return m >= VerifyNone && m <= VerifyFull }

// VerifyRequest says what to compare with which image.
type VerifyRequest struct {
	// Source is the volume; a Sink is one too. Nobody may write it meanwhile.
	Source Source
	Image  ImageID
	// Volume, where it is set, is whose image it must be.
	Volume Volume
	// Mode is VerifyFull (also when it is not set) or VerifySample.
	Mode VerifyMode
	// Share of the chunks that VerifySample reads, up to 1; zero means 0.01.
	Share float64
	// Workers read and hash at once; zero means two per core.
	Workers int
	// Limiter bounds what is read.
	Limiter  *Limiter
	Progress Progress
}

// VerifyReport is what Verify found.
type VerifyReport struct {
	Image Image
	// Stats has in Read what was read, and in Changed what differs.
	Stats Stats
	// Differing counts the chunks that differ.
	Differing int64
	// Mismatches are the first hundred of them, by offset.
	Mismatches []Mismatch
}

// Mismatch is a chunk that the volume does not hold.
type Mismatch struct {
	Volume Volume
	Image  ImageID
	Chunk  Chunk
}

// String names the volume, the offset and the chunk.
func (m Mismatch) String() string {
	name := m.Chunk.ID
	if m.Chunk.Zero {
		name = "of zeros"
	}
	return fmt.Sprintf("volume %s, image %s: chunk %s, %d bytes at %d", m.Volume, m.Image, name, m.Chunk.Length, m.Chunk.Offset)
}

// errReadBack is of what an Apply read back: the device did not keep what it took.
var errReadBack = fmt.Errorf("%w: %w", ErrDiffers, ErrCorrupt)

// Verify reads the volume in parallel and compares it with the image by
// hashes; no data is fetched. What lies behind the image is not looked at.
// ErrDiffers says that the volume holds something else; the report says where.
func Verify(ctx context.Context, r VerifyRequest, s Store) (VerifyReport, error) {
	report, err := verify(ctx, r, s)
	if err != nil {
		return report, fmt.Errorf("verify against image %s: %w", r.Image, err)
	}
	return report, nil
}

func verify(ctx context.Context, r VerifyRequest, s Store) (report VerifyReport, err error) {
	share := 1.0
	switch {
	case r.Source == nil:
		return report, errors.New("there is no volume")
	case r.Mode == VerifySample:
		if share = r.Share; share == 0 {
			share = SampleShare
		}
		if share < 0 || share > 1 {
			return report, fmt.Errorf("a share of %g is not between 0 and 1", share)
		}
	case r.Mode != VerifyFull && r.Mode != VerifyNone:
		return report, fmt.Errorf("verify mode %d is only for what an apply wrote", r.Mode)
	}
	reader, err := openImage(ctx, r.Image, r.Volume, r.Source.Size(), s)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	var n counters
	held := newScan(r.Source, reader, r.Workers, r.Limiter, &n)
	if err := held.findHoles(); err != nil {
		return report, err
	}
	stop := n.report(ctx, r.Progress)
	v := verification{image: reader.Image(), n: &n}
	err = held.compare(ctx, chosen(reader, share, &n), v.differ)
	stop()
	v.report.Image, v.report.Stats = v.image, n.stats()
	return v.report, errors.Join(err, v.verdict())
}

// chosen lists chunks of the image, each with that chance.
func chosen(r Reader, share float64, n *counters) lister {
	size := r.Image().Size
	return func(ctx context.Context, yield func(Chunk) error) error {
		if share == 1 {
			n.total.Add(size)
			return imageChunks(ctx, r, yield)
		}
		return imageChunks(ctx, r, func(c Chunk) error {
			if c.Offset > 0 && c.End() < size && rand.Float64() >= share { //nolint:gosec // which chunks are read is no secret
				return nil
			}
			n.total.Add(c.Length)
			return yield(c)
		})
	}
}

// imageChunks lists all chunks of an image.
func imageChunks(ctx context.Context, r Reader, yield func(Chunk) error) error {
	segments, err := r.Segments(ctx)
	if err != nil {
		return err
	}
	for _, s := range segments {
		chunks, err := chunksOf(ctx, r, s)
		if err != nil {
			return err
		}
		for _, c := range chunks {
			if err := yield(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// verification gathers what differs.
type verification struct {
	image  Image
	n      *counters
	report VerifyReport
}

func (v *verification) differ(c Chunk) error {
	v.n.changed.Add(c.Length)
	v.report.Differing++
	if len(v.report.Mismatches) < maxMismatches {
		v.report.Mismatches = append(v.report.Mismatches, Mismatch{v.image.Volume, v.image.ID, c})
	}
	return nil
}

func (v *verification) verdict() error {
	if v.report.Differing == 0 {
		return nil
	}
	return fmt.Errorf("%w in %d chunks, the first being %s; reconcile writes what differs anew", ErrDiffers, v.report.Differing, v.report.Mismatches[0])
}

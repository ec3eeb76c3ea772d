package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	"github.com/godwit-io/godwit/snapshot"
)

func newVolumeDiff(s *session, shared *volumeFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "diff A B",
		Short: "Print the ranges where image B differs from image A",
		Long: `Print the ranges where image B differs from image A, as lines of OFFSET LENGTH.

Only the lists of chunks are read. The ranges are whole chunks, so they may hold
bytes that are equal.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("%s needs the ids of two images", cmd.CommandPath())
			}
			return s.onRepository(cmd.Context(), shared, false, func(ctx context.Context, r *volumeRun) error {
				return r.diff(ctx, snapshot.ImageID(args[0]), snapshot.ImageID(args[1]))
			})
		},
	}
}

// volumeDiff is what --json writes.
type volumeDiff struct {
	A       snapshot.Image  `json:"a"`
	B       snapshot.Image  `json:"b"`
	Changed int64           `json:"changed"`
	Extents []changedExtent `json:"extents"`
}

type changedExtent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

func (r *volumeRun) diff(ctx context.Context, a, b snapshot.ImageID) (err error) {
	first, err := r.openImage(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, first.Close()) }()
	second, err := r.openImage(ctx, b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, second.Close()) }()
	if x, y := first.Image().ChunkSize, second.Image().ChunkSize; x != y {
		return fmt.Errorf("image %s has chunks of %d bytes and image %s of %d: they share none, so all of it may differ", a, x, b, y)
	}
	d := volumeDiff{A: first.Image(), B: second.Image(), Extents: []changedExtent{}}
	if err := d.compare(ctx, first, second); err != nil {
		return err
	}
	if r.flags.json {
		return r.outJSON(d)
	}
	for _, e := range d.Extents {
		if err := r.out("%d %d", e.Offset, e.Length); err != nil {
			return err
		}
	}
	return r.hint("%s of %s differ, in %d ranges", quantity.Bytes(d.Changed), quantity.Bytes(d.B.Size), len(d.Extents))
}

func (r *volumeRun) openImage(ctx context.Context, id snapshot.ImageID) (snapshot.Reader, error) {
	image, err := r.choose(ctx, "image", string(id), "")
	if err != nil {
		return nil, err
	}
	if image.Kind != snapshot.Block {
		return nil, fmt.Errorf("image %s is of files, which have no ranges: only images of devices are compared", id)
	}
	return r.repo.Open(ctx, id)
}

// compare reads the chunks of segments that differ only.
func (d *volumeDiff) compare(ctx context.Context, a, b snapshot.Reader) error {
	had, err := a.Segments(ctx)
	if err != nil {
		return fmt.Errorf("image %s: %w", d.A.ID, err)
	}
	before := map[int64]snapshot.Segment{}
	for _, s := range had {
		before[s.Offset] = s
	}
	has, err := b.Segments(ctx)
	if err != nil {
		return fmt.Errorf("image %s: %w", d.B.ID, err)
	}
	for _, s := range has {
		old := before[s.Offset]
		if old == s {
			continue
		}
		chunks, err := chunkIDs(ctx, a, old)
		if err != nil {
			return fmt.Errorf("image %s, segment at %d: %w", d.A.ID, s.Offset, err)
		}
		now, err := b.Chunks(ctx, s)
		if err != nil {
			return fmt.Errorf("image %s, segment at %d: %w", d.B.ID, s.Offset, err)
		}
		for _, c := range now {
			if held, ok := chunks[c.Extent]; !ok || held.ID != c.ID || held.Zero != c.Zero {
				d.add(c.Extent)
			}
		}
	}
	return nil
}

// chunkIDs are the chunks of a segment by where they are.
func chunkIDs(ctx context.Context, r snapshot.Reader, s snapshot.Segment) (map[snapshot.Extent]snapshot.Chunk, error) {
	found := map[snapshot.Extent]snapshot.Chunk{}
	if s.Length == 0 {
		return found, nil
	}
	chunks, err := r.Chunks(ctx, s)
	for _, c := range chunks {
		found[c.Extent] = c
	}
	return found, err
}

// add joins ranges that touch.
func (d *volumeDiff) add(e snapshot.Extent) {
	d.Changed += e.Length
	if n := len(d.Extents); n > 0 && d.Extents[n-1].Offset+d.Extents[n-1].Length == e.Offset {
		d.Extents[n-1].Length += e.Length
		return
	}
	d.Extents = append(d.Extents, changedExtent{e.Offset, e.Length})
}

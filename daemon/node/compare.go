package node

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/godwit-io/godwit/snapshot"
)

// comparePiece is how much of what lies behind the image is read at once.
const comparePiece = 1 << 20

// compareBlocks says where a volume differs from an image: that it does is a
// result, and no failure.
func (a *attempt) compareBlocks(ctx context.Context) (_ result, err error) {
	image, err := a.wanted(ctx, snapshot.Block)
	if err != nil {
		return result{}, err
	}
	path, err := a.volumes.device(a.transfer.Spec.Mount)
	if err != nil {
		return result{}, err
	}
	source, err := a.cfg.Devices.OpenSource(path)
	if err != nil {
		return result{}, err
	}
	defer func() { joinClose(&err, path, source.Close()) }()
	if source.Size() == 0 {
		return result{}, fmt.Errorf("%w: %s has no size", errUnpublished, path)
	}
	if source.Size() < image.Size {
		r := resultOf(image, snapshot.Stats{})
		r.differs = fmt.Sprintf("it has %d bytes, and the image %d", source.Size(), image.Size)
		return r, nil
	}
	report, err := snapshot.Verify(ctx, snapshot.VerifyRequest{
		Limiter: a.cfg.Limiters.Volumes,
		Source:  source, Image: image.ID, Volume: image.Volume, Progress: a.progress,
	}, a.repository)
	if err != nil && !errors.Is(err, snapshot.ErrDiffers) {
		return result{}, err
	}
	r := resultOf(image, report.Stats)
	if report.Differing > 0 {
		first := report.Mismatches[0].Chunk
		r.differs = fmt.Sprintf("%d bytes in %d chunks differ, the first at %d", report.Stats.Changed, report.Differing, first.Offset)
		return r, nil
	}
	at, err := firstByte(ctx, source, image.Size)
	if err != nil {
		return result{}, fmt.Errorf("read %s behind the image: %w", path, err)
	}
	if at >= 0 {
		r.differs = fmt.Sprintf("there are bytes behind the image, the first at %d", at)
	}
	return r, nil
}

// compareTree says where a folder holds something else than an image.
func (a *attempt) compareTree(ctx context.Context) (_ result, err error) {
	image, err := a.wanted(ctx, snapshot.Tree)
	if err != nil {
		return result{}, err
	}
	path, root, err := a.volumes.directory(a.transfer.Spec.Mount)
	if err != nil {
		return result{}, err
	}
	defer func() { joinClose(&err, path, root.Close()) }()
	differs, stats, err := a.repository.CompareTree(ctx, image.ID, path, a.progress)
	if err != nil {
		return result{}, err
	}
	r := resultOf(image, stats)
	r.differs = differs
	return r, nil
}

// firstByte finds the first byte at or behind the offset that is no zero; -1 for none.
func firstByte(ctx context.Context, s snapshot.Source, from int64) (int64, error) {
	piece := make([]byte, comparePiece)
	for at := from; at < s.Size(); at += comparePiece {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		b := piece[:min(comparePiece, s.Size()-at)]
		if n, err := s.ReadAt(b, at); err != nil && (!errors.Is(err, io.EOF) || n < len(b)) {
			return 0, err
		}
		for i, c := range b {
			if c != 0 {
				return at + int64(i), nil
			}
		}
	}
	return -1, nil
}

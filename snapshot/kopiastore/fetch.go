package kopiastore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
	"golang.org/x/sync/errgroup"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// A request costs as much time as spanGap bytes do.
	spanGap = 512 << 10
	// spanMax is what each worker holds in memory.
	spanMax = 8 << 20
)

// wanted is one content and the chunks that hold it.
type wanted struct {
	info   content.Info
	chunks []snapshot.Chunk
}

// Fetch reads chunks by pack and offset, many with one request. Kopia
// decrypts each with a key and a seal made from its id, so that content that
// is not what the id stands for does not open.
func (b *blockImage) Fetch(ctx context.Context, chunks []snapshot.Chunk, workers int, emit func(snapshot.Chunk, []byte) error) (int64, error) {
	spans, err := b.spans(ctx, chunks)
	if err != nil {
		return 0, err
	}
	var fetched atomic.Int64
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(max(1, workers))
	for _, items := range spans {
		if running.Err() != nil {
			break
		}
		group.Go(func() error { return b.read(running, items, &fetched, emit) })
	}
	if err := group.Wait(); err != nil {
		return fetched.Load(), err
	}
	return fetched.Load(), ctx.Err()
}

// spans finds where the chunks are and groups what lies together.
func (b *blockImage) spans(ctx context.Context, chunks []snapshot.Chunk) ([][]wanted, error) {
	byID := map[string]*wanted{}
	for _, c := range chunks {
		if w := byID[c.ID]; w != nil {
			w.chunks = append(w.chunks, c)
			continue
		}
		info, err := b.find(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("chunk at %d of image %s: %w", c.Offset, b.image.ID, err)
		}
		byID[c.ID] = &wanted{info, []snapshot.Chunk{c}}
	}
	all := make([]wanted, 0, len(byID))
	for _, w := range byID {
		all = append(all, *w)
	}
	slices.SortFunc(all, func(a, b wanted) int {
		return cmp.Or(cmp.Compare(a.info.PackBlobID, b.info.PackBlobID), cmp.Compare(a.info.PackOffset, b.info.PackOffset))
	})
	var spans [][]wanted
	for _, w := range all {
		if n := len(spans); n > 0 && joins(spans[n-1], w) {
			spans[n-1] = append(spans[n-1], w)
			continue
		}
		spans = append(spans, []wanted{w})
	}
	return spans, nil
}

func joins(span []wanted, w wanted) bool {
	first, last := span[0].info, span[len(span)-1].info
	return w.info.PackBlobID == first.PackBlobID && start(w.info)-end(last) <= spanGap && end(w.info)-start(first) <= spanMax
}

func start(i content.Info) int64 { return int64(i.PackOffset) }

func end(i content.Info) int64 { return int64(i.PackOffset) + int64(i.PackedLength) }

func (b *blockImage) find(ctx context.Context, c snapshot.Chunk) (content.Info, error) {
	id, err := object.ParseID(c.ID)
	if err != nil {
		return content.Info{}, fmt.Errorf("%w: %w", snapshot.ErrCorrupt, err)
	}
	cid, compressed, ok := id.ContentID()
	if !ok || compressed {
		return content.Info{}, fmt.Errorf("object %s is not one content: %w", id, snapshot.ErrCorrupt)
	}
	info, err := b.repository.rep.ContentInfo(ctx, cid)
	if err != nil {
		return content.Info{}, b.repository.damage(err)
	}
	return info, nil
}

func (b *blockImage) read(ctx context.Context, items []wanted, fetched *atomic.Int64, emit func(snapshot.Chunk, []byte) error) error {
	sp := &span{pack: items[0].info.PackBlobID, start: start(items[0].info), end: end(items[len(items)-1].info)}
	if err := b.repository.spans.load(ctx, sp); err != nil {
		return fmt.Errorf("chunk at %d of image %s: %w", items[0].chunks[0].Offset, b.image.ID, b.repository.damage(err))
	}
	defer b.repository.spans.drop(sp)
	fetched.Add(sp.end - sp.start)
	for _, w := range items {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := b.repository.rep.ContentReader().GetContent(ctx, w.info.ContentID)
		if err != nil {
			return fmt.Errorf("chunk at %d of image %s, in blob %s at %d: %w",
				w.chunks[0].Offset, b.image.ID, w.info.PackBlobID, w.info.PackOffset, b.repository.damage(err))
		}
		for _, c := range w.chunks {
			if int64(len(data)) != c.Length {
				return fmt.Errorf("chunk at %d of image %s has %d bytes, not %d: %w", c.Offset, b.image.ID, len(data), c.Length, snapshot.ErrCorrupt)
			}
			if err := emit(c, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// damage tells a repository that lost or changed bytes from one that cannot
// be reached just now.
func (r *Repository) damage(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, snapshot.ErrCorrupt):
		return err
	case errors.Is(err, content.ErrContentNotFound), errors.Is(err, object.ErrObjectNotFound),
		errors.Is(err, blob.ErrBlobNotFound), errors.Is(err, blob.ErrInvalidRange):
		return fmt.Errorf("%w: the repository lost it; take a full copy, and look for who deletes in the bucket: %w", snapshot.ErrCorrupt, err)
	case strings.Contains(err.Error(), "invalid checksum"), strings.Contains(err.Error(), "decompress"),
		strings.Contains(err.Error(), "invalid indirect object"):
		// kopia has no error values for these.
		return fmt.Errorf("%w: the repository changed it; take a full copy, and look for a faulty disk under the bucket: %w", snapshot.ErrCorrupt, err)
	}
	return explain(r.location, err)
}

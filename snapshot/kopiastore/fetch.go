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
	// spanMax is what each worker holds in memory: half a pack, which kopia
	// ends with the first content that reaches its size.
	spanMax = packSize/2 + 1<<19
	// runSize is how much is handed on at once: what follows each other on the
	// volume is written by one request, which costs the device as much as a chunk's.
	runSize = 1 << 20
)

// wanted is one content and the chunks that hold it.
type wanted struct {
	info   content.Info
	chunks []snapshot.Chunk
}

// Fetch reads chunks by pack and offset, many with one request.
func (b *blockImage) Fetch(ctx context.Context, chunks []snapshot.Chunk, o snapshot.FetchOptions, emit func(snapshot.Extent, []byte) error) (int64, error) {
	spans, err := b.spans(ctx, chunks)
	if err != nil {
		return 0, err
	}
	f := &fetch{image: b, options: o, emit: emit}
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(max(1, o.Workers))
	for _, items := range spans {
		if running.Err() != nil {
			break
		}
		group.Go(func() error { return f.read(running, items) })
	}
	if err := group.Wait(); err != nil {
		return f.fetched.Load(), err
	}
	return f.fetched.Load(), ctx.Err()
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
			return nil, fmt.Errorf("%s: %w", b.name(c), err)
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

// fetch is one Fetch under way.
type fetch struct {
	image   *blockImage
	options snapshot.FetchOptions
	emit    func(snapshot.Extent, []byte) error
	fetched atomic.Int64
}

// read brings a span with one request, and hands on what is in it.
func (f *fetch) read(ctx context.Context, items []wanted) error {
	b, first := f.image, items[0]
	from, length := start(first.info), end(items[len(items)-1].info)-start(first.info)
	next := run{emit: f.emit, most: runOf(items)}
	// A chunk is there three times while it is unsealed.
	release, err := f.options.Budget.Acquire(ctx, length+next.most+2*largest(items))
	if err != nil {
		return err
	}
	defer release()
	span := b.buffers.take(length)
	defer b.buffers.give(span)
	if err := b.repository.spans.GetBlob(ctx, first.info.PackBlobID, from, length, span); err != nil {
		return fmt.Errorf("%s: %d bytes at %d of blob %s: %w", b.name(first.chunks[0]), length, from, first.info.PackBlobID, b.repository.damage(err))
	}
	f.fetched.Add(length)
	if int64(span.Length()) != length {
		return fmt.Errorf("%s: blob %s gave %d bytes at %d, not %d: %w", b.name(first.chunks[0]), first.info.PackBlobID, span.Length(), from, length, snapshot.ErrCorrupt)
	}
	next.room = &span.room
	for _, w := range items {
		if err := ctx.Err(); err != nil {
			return err
		}
		into, err := next.space(w.chunks[0].Offset, int64(w.info.OriginalLength))
		if err != nil {
			return err
		}
		sealed := span.data[start(w.info)-from : end(w.info)-from]
		data, err := b.unseal(w, sealed, into, next.room)
		if errors.Is(err, snapshot.ErrCorrupt) {
			data, err = f.again(ctx, w, sealed, into, next.room)
		}
		if err != nil {
			return err
		}
		if err := next.give(w.chunks, data); err != nil {
			return err
		}
	}
	return next.flush()
}

// again asks once more for a content that came damaged, into the place of what came: it
// may have been the line, or one of several copies that the store has.
func (f *fetch) again(ctx context.Context, w wanted, sealed, into []byte, room *room) ([]byte, error) {
	came := &spanBuffer{data: sealed[:0:len(sealed)]}
	if err := f.image.repository.spans.GetBlob(ctx, w.info.PackBlobID, start(w.info), int64(len(sealed)), came); err != nil {
		return nil, fmt.Errorf("%s: again %d bytes at %d of blob %s, which came damaged: %w",
			f.image.name(w.chunks[0]), len(sealed), start(w.info), w.info.PackBlobID, f.image.repository.damage(err))
	}
	f.fetched.Add(int64(len(came.data)))
	return f.image.unseal(w, came.data, into, room)
}

// largest is the length of the largest chunk.
func largest(items []wanted) int64 {
	n := int64(0)
	for _, w := range items {
		n = max(n, int64(w.info.OriginalLength))
	}
	return n
}

// runOf is the most that runs of the items can have.
func runOf(items []wanted) int64 {
	all := int64(0)
	for _, w := range items {
		all += int64(w.info.OriginalLength)
	}
	return max(min(all, runSize), largest(items))
}

// unseal gives a content's bytes, which are those of its chunks.
func (b *blockImage) unseal(w wanted, sealed, into []byte, room *room) ([]byte, error) {
	data, err := b.unsealer.unseal(sealed, w.info, into, &room.packed)
	if err != nil {
		return nil, fmt.Errorf("%s, in blob %s at %d: %w", b.name(w.chunks[0]), w.info.PackBlobID, w.info.PackOffset, err)
	}
	for _, c := range w.chunks {
		if int64(len(data)) != c.Length {
			return nil, fmt.Errorf("%s has %d bytes, not %d: %w", b.name(c), len(data), c.Length, snapshot.ErrCorrupt)
		}
	}
	return data, nil
}

// run is chunks that follow each other on the volume, and are handed on at once.
type run struct {
	emit func(snapshot.Extent, []byte) error
	room *room
	most int64
	at   int64
	size int
}

// space is where a chunk at that offset is unsealed to: behind the run, if it follows it
// and there is room, and else where the run was, which is handed on first.
func (r *run) space(offset, length int64) ([]byte, error) {
	if size := int64(r.size); size > 0 && (offset != r.at+size || size+length > r.most) {
		if err := r.flush(); err != nil {
			return nil, err
		}
	}
	if r.size == 0 {
		r.at, r.room.plain = offset, spare(r.room.plain, int(max(r.most, length))+decodeSlack)
	}
	return r.room.plain[r.size : r.size : r.size+int(length)+decodeSlack], nil
}

// add takes what was unsealed for the last space, where a decoder may have wanted
// another.
func (r *run) add(data []byte) {
	if space := r.room.plain[r.size : r.size+len(data)]; len(data) > 0 && &space[0] != &data[0] {
		copy(space, data)
	}
	r.size += len(data)
}

// give adds the chunk that the last space was for, and hands on what else has its bytes.
func (r *run) give(chunks []snapshot.Chunk, data []byte) error {
	r.add(data)
	for _, c := range chunks[1:] {
		if err := r.emit(c.Extent, data); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) flush() error {
	if r.size == 0 {
		return nil
	}
	data := r.room.plain[:r.size]
	r.size = 0
	return r.emit(snapshot.Extent{Offset: r.at, Length: int64(len(data))}, data)
}

// name says which chunk of what.
func (b *blockImage) name(c snapshot.Chunk) string {
	return fmt.Sprintf("chunk at %d of volume %s, image %s, content %s", c.Offset, b.image.Volume, b.image.ID, c.ID)
}

// damage tells a repository that lost or changed bytes from one that cannot
// be reached just now. What is cached is forgotten, so that whoever tries again
// is told what the storage holds then.
func (r *Repository) damage(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, snapshot.ErrCorrupt):
		return err
	case errors.Is(err, content.ErrContentNotFound), errors.Is(err, object.ErrObjectNotFound),
		errors.Is(err, blob.ErrBlobNotFound), errors.Is(err, blob.ErrInvalidRange):
		return fmt.Errorf("%w: the repository lost it; %s, and look for who deletes in the bucket: %w", snapshot.ErrCorrupt, mend, err)
	case unreadable(err):
		return errors.Join(changed(inBlob(err)), r.forgetCached())
	}
	return explain(r.location, err)
}

// inBlob says where damaged bytes are in the words that are used everywhere; kopia has
// them in its text alone.
func inBlob(err error) error {
	_, rest, _ := strings.Cut(err.Error(), "invalid checksum at ")
	var id string
	var at int64
	if n, _ := fmt.Sscanf(rest, "%s offset %d", &id, &at); n != 2 {
		return err
	}
	return fmt.Errorf("in blob %s at %d: %w", id, at, err)
}

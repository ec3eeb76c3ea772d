package kopiastore

import (
	"context"
	"fmt"
	"slices"

	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"

	"github.com/godwit-io/godwit/snapshot"
)

// mend is what a user can do about damage. Another copy alone would go by what the index
// lists, and leave it as it is.
const mend = "store the volume again with godwitctl volume backup --rewrite if it is a device or a file, or go by an image that is whole"

var _ snapshot.Rewriter = (*writer)(nil)

// Rewrite has chunks, and the indexes over them, stored again where the repository held
// them before this run began: it takes what an index lists for stored, whatever has become
// of it.
func (w *writer) Rewrite() {
	w.rewrite = true
	w.repository.sessions.follow()
}

// anew writes an object, and once more where it was there already. All images that have it
// are whole then, since kopia's index goes by the newest place of a content.
func (w *writer) anew(ctx context.Context, write func() (object.ID, error)) (object.ID, error) {
	id, err := write()
	if err != nil || !w.rewrite {
		return id, err
	}
	of, err := contentOf(id)
	if err != nil {
		return object.EmptyID, err
	}
	// Of two who store the same chunk one would remove what the other has just stored.
	w.rewriting.Lock()
	defer w.rewriting.Unlock()
	info, err := w.session.ContentInfo(ctx, of)
	if err != nil {
		return object.EmptyID, fmt.Errorf("look for content %s: %w", of, err)
	}
	// Not by the time that the content bears: it is of the clock of whoever stored it.
	if w.repository.sessions.followed(info.PackBlobID) {
		return id, nil
	}
	if err := w.session.ContentManager().DeleteContent(ctx, of); err != nil {
		return object.EmptyID, fmt.Errorf("give up content %s: %w", of, err)
	}
	return write()
}

// contentOf is the content of an object that has one, or of the index of one.
func contentOf(id object.ID) (content.ID, error) {
	of := id
	for in, more := of.IndexObjectID(); more; in, more = of.IndexObjectID() {
		of = in
	}
	c, _, ok := of.ContentID()
	if !ok {
		return content.EmptyID, fmt.Errorf("object %s has no content", id)
	}
	return c, nil
}

// indexAnew has the parts stored again that a large index is cut into.
func (w *writer) indexAnew(ctx context.Context, entries []object.IndirectObjectEntry) error {
	if !w.rewrite {
		return nil
	}
	index := encodeNode(entries)
	if len(index) <= indexPart {
		return nil
	}
	for part := range slices.Chunk(index, indexPart) {
		if _, err := w.anew(ctx, func() (object.ID, error) { return writeIndexData(ctx, w.session, part) }); err != nil {
			return err
		}
	}
	return nil
}

package kopiastore

import (
	"context"
	"sync/atomic"

	"github.com/kopia/kopia/repo/object"
)

// leaf stores one chunk as one content, without the copy that kopia's writer
// of objects makes.
func (w *writer) leaf(ctx context.Context, chunk []byte) (object.ID, error) {
	manager := w.session.ContentManager()
	if !manager.SupportsContentCompression() {
		return w.anew(ctx, func() (object.ID, error) { return writeLeaf(ctx, w.session, chunk) })
	}
	data := secondOfFour(manager.WriteContent)
	data.Slices = [][]byte{chunk}
	return w.anew(ctx, func() (object.ID, error) {
		id, err := manager.WriteContent(ctx, data, "", w.repository.spans.thrift.header(chunk))
		return object.DirectObjectID(id), err
	})
}

// secondOfFour is as ofSecond.
func secondOfFour[A, B, C, D, R any](func(A, B, C, D) (R, error)) (value B) { return value }

// likeness counts how often the parent held the chunk that was given.
type likeness struct{ same, other atomic.Int64 }

// pays says that hashing first what is stored, and hashed again, if it differs
// saves more than it costs. It does not where a fifth is not the same.
func (l *likeness) pays() bool {
	const enough = 64
	other := l.other.Load()
	return other < enough || l.same.Load() > other/4
}

// holds says that the parent's chunk has these bytes: then it is the chunk.
func (w *writer) holds(held object.ID, chunk []byte) bool {
	if chunk == nil || w.parent.zeros[int64(len(chunk))] == held || !w.alike.pays() {
		return false
	}
	if w.parent.unsealer.id(chunk) != held.String() {
		w.alike.other.Add(1)
		return false
	}
	w.alike.same.Add(1)
	return true
}

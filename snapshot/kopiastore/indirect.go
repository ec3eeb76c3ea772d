package kopiastore

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/object"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// indirectStream marks an indirect object, as kopia's own writer does.
	indirectStream = "kopia:indirect"
	// metadataPrefix puts an object with kopia's metadata, which is cached.
	metadataPrefix = "x"
	// indexSplitter cuts an index into parts of indexPart.
	indexSplitter = "FIXED-4M"
	indexPart     = 4 << 20
	// leafSplitter is larger than any chunk, or a leaf would become an index.
	leafSplitter = "FIXED-8M"
)

// indirect is the JSON of an object that consists of others, in any form.
type indirect struct {
	Stream  string                       `json:"stream"`
	Entries []object.IndirectObjectEntry `json:"entries"`
}

// decodeIndirect reads an index and holds it against the length that it must
// have: entries that overlap or leave a hole would shift a volume's bytes.
func decodeIndirect(data []byte, length int64) ([]object.IndirectObjectEntry, error) {
	entries, err := parseIndirect(data)
	if err != nil {
		return nil, fmt.Errorf("decode an index: %w: %w", snapshot.ErrCorrupt, err)
	}
	at := int64(0)
	for _, e := range entries {
		if e.Start != at || e.Length <= 0 || e.Length > length-at || e.Object == object.EmptyID {
			return nil, fmt.Errorf("index entry of %d bytes at %d does not follow %d in %d: %w", e.Length, e.Start, at, length, snapshot.ErrCorrupt)
		}
		at += e.Length
	}
	if at != length {
		return nil, fmt.Errorf("index ends at %d, not at %d: %w", at, length, snapshot.ErrCorrupt)
	}
	return entries, nil
}

func parseIndirect(data []byte) ([]object.IndirectObjectEntry, error) {
	if entries, ok := parseNode(data); ok {
		return entries, nil
	}
	var in indirect
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, err
	}
	if in.Stream != indirectStream {
		return nil, fmt.Errorf("stream %q is no index", in.Stream)
	}
	return in.Entries, nil
}

// writeIndirect stores an index; kopia reads the returned object as the
// bytes of all its entries.
func writeIndirect(ctx context.Context, w repo.RepositoryWriter, entries []object.IndirectObjectEntry) (object.ID, error) {
	id, err := writeIndexData(ctx, w, encodeNode(entries))
	if err != nil {
		return object.EmptyID, err
	}
	return object.ParseID("I" + id.String())
}

// writeIndexData stores the bytes of an index, cut into parts.
func writeIndexData(ctx context.Context, w repo.RepositoryWriter, index []byte) (object.ID, error) {
	id, err := writeObject(ctx, w, index, object.WriterOptions{
		Description: "index", Prefix: metadataPrefix, Splitter: indexSplitter, Compressor: compressor, MetadataCompressor: compressor,
	})
	if err != nil {
		return object.EmptyID, fmt.Errorf("write an index: %w", err)
	}
	return id, nil
}

// readIndirect reads the index behind an object id.
func readIndirect(ctx context.Context, r repo.Repository, id object.ID, length int64) ([]object.IndirectObjectEntry, error) {
	index, ok := id.IndexObjectID()
	if !ok {
		return nil, fmt.Errorf("object %s is no index: %w", id, snapshot.ErrCorrupt)
	}
	data, err := readObject(ctx, r, index)
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", id, err)
	}
	return decodeIndirect(data, length)
}

func writeObject(ctx context.Context, w repo.RepositoryWriter, data []byte, o object.WriterOptions) (id object.ID, err error) {
	ow := w.NewObjectWriter(ctx, o)
	defer func() {
		if closed := ow.Close(); err == nil {
			err = closed
		}
	}()
	if _, err := ow.Write(data); err != nil {
		return object.EmptyID, err
	}
	return ow.Result()
}

// writeLeaf stores one chunk as one content.
func writeLeaf(ctx context.Context, w repo.RepositoryWriter, data []byte) (object.ID, error) {
	o := object.WriterOptions{Description: "chunk", Splitter: leafSplitter, MetadataCompressor: compressor}
	if new(sampleRoom).shrinks(data) {
		o.Compressor = compressor
	}
	return writeObject(ctx, w, data, o)
}

func readObject(ctx context.Context, r repo.Repository, id object.ID) (data []byte, err error) {
	or, err := r.OpenObject(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := or.Close(); err == nil {
			err = closed
		}
	}()
	return io.ReadAll(or)
}

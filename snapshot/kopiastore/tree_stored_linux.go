package kopiastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"

	kopia "github.com/kopia/kopia/snapshot"

	"github.com/godwit-io/godwit/snapshot"
)

// storedTree is a tree as an image, or a checkpoint, has it. It is gone through in order,
// as often as needed, and never in memory as a whole.
type storedTree struct {
	repository         *Repository
	volume, attributes *kopia.DirEntry
}

// tree opens a Tree image.
func (r *Repository) tree(ctx context.Context, m *kopia.Manifest) (*storedTree, error) {
	stored, files, err := r.record(ctx, m)
	if err != nil {
		return nil, err
	}
	t := &storedTree{repository: r, volume: files[volumeName], attributes: files[attributesFile]}
	if stored.Image.Kind != snapshot.Tree || t.volume == nil || t.volume.Type != kopia.EntryTypeDirectory {
		return nil, fmt.Errorf("it is of kind %s and holds no tree of files", stored.Image.Kind)
	}
	if t.attributes == nil {
		return nil, fmt.Errorf("%s is missing: %w", attributesFile, snapshot.ErrCorrupt)
	}
	return t, nil
}

// records are all entries, in the order of comparePaths.
func (t *storedTree) records(ctx context.Context) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		from := &sureReader{ctx: ctx, repository: t.repository, id: t.attributes.ObjectID}
		defer func() { _ = from.Close() }() // It was only read.
		records := newRecordReader(from)
		for {
			e, err := records.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("read %w", t.repository.damage(err)))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// storedEntry is an entry with what kopia has of it: nothing for what it has no type for.
type storedEntry struct {
	record
	stored *kopia.DirEntry
}

// entries are all records, each with what is stored, which is as the record says.
func (t *storedTree) entries(ctx context.Context) iter.Seq2[*storedEntry, error] {
	return func(yield func(*storedEntry, error) bool) {
		listed := t.listings()
		for r, err := range t.records(ctx) {
			var e *storedEntry
			if err == nil {
				e = &storedEntry{*r, listed.of(r.Path)}
				err = e.asRecorded()
			}
			if err == nil && e.Type == typeFolder {
				err = listed.enter(ctx, e.Path, e.stored)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func (e *storedEntry) asRecorded() error {
	s := e.stored
	switch e.Type {
	case typeFolder:
		if s != nil && s.Type == kopia.EntryTypeDirectory {
			return nil
		}
	case typeFile:
		if s != nil && s.Type == kopia.EntryTypeFile && s.FileSize == e.Size {
			return nil
		}
	default:
		return nil
	}
	return fmt.Errorf("%s %q is not stored as its record says: %w", e.Type, e.Path, snapshot.ErrCorrupt)
}

// listings are the folders on the way to an entry as kopia lists them.
type listings struct {
	repository *Repository
	volume     *kopia.DirEntry
	within     []listing
}

type listing struct {
	path     raw
	children map[string]*kopia.DirEntry
}

func (t *storedTree) listings() *listings {
	return &listings{repository: t.repository, volume: t.volume}
}

// of is what kopia has of an entry, nil for nothing. Entries come in order, and each
// folder is entered.
func (l *listings) of(p raw) *kopia.DirEntry {
	if p == "" {
		return l.volume
	}
	parent := parentPath(p)
	for len(l.within) > 0 && l.within[len(l.within)-1].path != parent {
		l.within = l.within[:len(l.within)-1]
	}
	if len(l.within) == 0 {
		return nil
	}
	return l.within[len(l.within)-1].children[storedName(path.Base(string(p)))]
}

// enter lists a folder, which is empty where kopia has none.
func (l *listings) enter(ctx context.Context, p raw, folder *kopia.DirEntry) error {
	in := listing{path: p}
	if folder != nil && folder.Type == kopia.EntryTypeDirectory {
		var err error
		if in.children, err = l.repository.folder(ctx, folder); err != nil {
			return fmt.Errorf("directory %q: %w", p, err)
		}
	}
	l.within = append(l.within, in)
	return nil
}

func (r *Repository) folder(ctx context.Context, entry *kopia.DirEntry) (map[string]*kopia.DirEntry, error) {
	data, err := r.readObject(ctx, entry.ObjectID)
	if err != nil {
		return nil, r.damage(err)
	}
	var d kopia.DirManifest
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrCorrupt, err)
	}
	children := make(map[string]*kopia.DirEntry, len(d.Entries))
	for _, e := range d.Entries {
		children[e.Name] = e
	}
	return children, nil
}

package kopiastore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"

	kopia "github.com/kopia/kopia/snapshot"

	"github.com/godwit-io/godwit/snapshot"
)

// knownTree is what an image, or a checkpoint, has of the files. It is asked in the order
// of a walk, and read as far as that has come.
type knownTree struct {
	volume *kopia.DirEntry
	next   func() (*record, error, bool)
	stop   func()
	// at is the record that the walk has not come past; nil after the last.
	at *record
	// begun are the folders of a checkpoint: a file that was under way has another name
	// there, and is not known. awaited are those that are whole. Both are nil for an image.
	begun   *listings
	awaited map[pathSum]bool
	// name is what it is, for messages.
	name string
}

// pathSum stands for the path that kopia has for a file.
type pathSum [16]byte

func sumOf(stored string) pathSum {
	sum := sha256.Sum256([]byte(stored))
	return pathSum(sum[:16])
}

// storedPath is the path of an entry in the image's volume folder.
func storedPath(p raw) string {
	names := strings.Split(string(p), "/")
	for i := range names {
		names[i] = storedName(names[i])
	}
	return path.Join(names...)
}

// seen is what tells whether a file is another.
type seen struct {
	size              int64
	modified, changed stamp
}

// damagedCheckpoint is one that is as good as none: time is all that it saves.
type damagedCheckpoint struct{ error }

func (d damagedCheckpoint) Unwrap() error { return d.error }

// knownImage is the image before this one.
func (r *Repository) knownImage(ctx context.Context, id snapshot.ImageID) (*knownTree, error) {
	m, err := r.manifestOf(ctx, id, kindImage)
	if errors.Is(err, snapshot.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", snapshot.ErrNoBase, err)
	}
	if err != nil {
		return nil, err
	}
	return r.knownTree(ctx, "image "+string(id), m)
}

// knownCheckpoint is what a run that was killed had stored.
func (r *Repository) knownCheckpoint(ctx context.Context, m *kopia.Manifest) (*knownTree, error) {
	k, err := r.knownTree(ctx, "checkpoint "+string(m.ID), m)
	if err != nil {
		return nil, asCheckpoint(err)
	}
	k.begun, k.awaited = &listings{repository: r, volume: k.volume}, map[pathSum]bool{}
	return k, nil
}

func (r *Repository) knownTree(ctx context.Context, name string, m *kopia.Manifest) (*knownTree, error) {
	t, err := r.tree(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	k := &knownTree{volume: t.volume, at: &record{}, name: name}
	k.next, k.stop = iter.Pull2(t.records(ctx))
	return k, nil
}

func asCheckpoint(err error) error {
	if errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, errFormat) {
		return damagedCheckpoint{err}
	}
	return err
}

// find returns what is known of a file, nil for nothing. It is called for all entries of a
// walk, in order.
func (k *knownTree) find(ctx context.Context, n *node) (*seen, error) {
	s, err := k.found(ctx, n)
	if err == nil {
		return s, nil
	}
	err = fmt.Errorf("%s: %w", k.name, err)
	if k.begun != nil {
		err = asCheckpoint(err)
	}
	return nil, err
}

func (k *knownTree) found(ctx context.Context, n *node) (*seen, error) {
	for k.at != nil && comparePaths(k.at.Path, n.Path) < 0 {
		if err := k.advance(); err != nil {
			return nil, err
		}
	}
	var stored *kopia.DirEntry
	if k.begun != nil {
		stored = k.begun.of(n.Path)
		if n.Type == typeFolder {
			return nil, k.begun.enter(ctx, n.Path, stored)
		}
	}
	if k.at == nil || k.at.Path != n.Path || k.at.Type != typeFile || n.Type != typeFile {
		return nil, nil //nolint:nilnil // nothing is known
	}
	if k.begun != nil {
		if stored == nil || stored.Type != kopia.EntryTypeFile {
			return nil, nil //nolint:nilnil // it was under way
		}
		k.awaited[sumOf(storedPath(n.Path))] = true
	}
	return &seen{k.at.Size, k.at.Modified, k.at.Changed}, nil
}

func (k *knownTree) advance() error {
	e, err, more := k.next()
	if !more {
		e = nil
	}
	k.at = e
	return err
}

// isFresh is true for a file that has to be read.
func isFresh(ctx context.Context, n *node, known []*knownTree) (bool, error) {
	var found []seen
	for _, k := range known {
		s, err := k.find(ctx, n)
		if err != nil {
			return false, err
		}
		if s != nil {
			found = append(found, *s)
		}
	}
	return n.Type == typeFile && !isKnown(n, found), nil
}

// isKnown is true for a file that is stored. Kopia takes it, by its size and time, from
// any of those that are known: none may have another content by the same.
func isKnown(n *node, known []seen) bool {
	found := false
	for _, before := range known {
		switch {
		case before.size != n.Size || !kopiaTime(before.modified).Equal(kopiaTime(n.Modified)):
		case before.changed != n.Changed || before.modified != n.Modified:
			return false
		default:
			found = true
		}
	}
	return found
}

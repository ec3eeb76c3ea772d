package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	kopia "github.com/kopia/kopia/snapshot"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// treeKey is the key of all checkpoints of a volume's trees: which of its files a
	// later run need not read is told by each file's size and times, as with an image.
	treeKey = "tree"
	// treesTaken is how many checkpoints a run goes by: the one of the last run that was
	// killed, and the one that this run went by itself.
	treesTaken = 2
)

// treeSession is what kopia's uploader writes through. Kopia makes checkpoints of its own:
// each is listed here as one of ours, and its own retention sees none of our images.
// Kopia does not wait for the last of them, so that nothing of it reaches the session once
// the upload has ended.
type treeSession struct {
	repo.DirectRepositoryWriter
	list func(ctx context.Context, root *kopia.DirEntry) (manifest.ID, error)

	gate   sync.RWMutex
	ended  bool
	mu     sync.Mutex
	failed error
}

var errTreeEnded = errors.New("the tree is stored already")

// pass does something that uses the session, unless the upload has ended.
func (s *treeSession) pass(do func() error) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.ended {
		return errTreeEnded
	}
	return do()
}

// end returns when nothing of the upload uses the session, and nothing will, with what
// made a checkpoint fail.
func (s *treeSession) end() error {
	s.gate.Lock()
	s.ended = true
	s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// PutManifest lists a checkpoint.
func (s *treeSession) PutManifest(ctx context.Context, _ map[string]string, payload any) (id manifest.ID, err error) {
	m, ok := payload.(*kopia.Manifest)
	if !ok || m.RootEntry == nil {
		return "", fmt.Errorf("%T is no checkpoint of a tree", payload)
	}
	err = s.pass(func() (err error) {
		if id, err = s.list(ctx, m.RootEntry); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.failed = fmt.Errorf("list a checkpoint: %w", err)
		}
		return err
	})
	return id, err
}

// FindManifests shows kopia's retention nothing that it could remove.
func (s *treeSession) FindManifests(context.Context, map[string]string) ([]*manifest.EntryMetadata, error) {
	return nil, nil
}

// ReplaceManifests is not the uploader's to do.
func (s *treeSession) ReplaceManifests(context.Context, map[string]string, any) (manifest.ID, error) {
	return "", errors.New("an upload of a tree replaces no manifests")
}

// DeleteManifest is not the uploader's to do.
func (s *treeSession) DeleteManifest(_ context.Context, id manifest.ID) error {
	return fmt.Errorf("an upload of a tree does not delete manifest %s", id)
}

// Flush makes durable what was sent.
func (s *treeSession) Flush(ctx context.Context) error {
	return s.pass(func() error { return s.DirectRepositoryWriter.Flush(withOneList(ctx)) })
}

// NewObjectWriter writes as long as the upload has not ended.
func (s *treeSession) NewObjectWriter(ctx context.Context, o object.WriterOptions) object.Writer {
	return &treeWriter{s.DirectRepositoryWriter.NewObjectWriter(ctx, o), s}
}

type treeWriter struct {
	object.Writer
	session *treeSession
}

func (w *treeWriter) Write(p []byte) (n int, err error) {
	err = w.session.pass(func() (err error) {
		n, err = w.Writer.Write(p)
		return err
	})
	return n, err
}

func (w *treeWriter) Result() (id object.ID, err error) {
	err = w.session.pass(func() (err error) {
		id, err = w.Writer.Result()
		return err
	})
	return id, err
}

func (w *treeWriter) Checkpoint() (id object.ID, err error) {
	err = w.session.pass(func() (err error) {
		id, err = w.Writer.Checkpoint()
		return err
	})
	return id, err
}

// checkpoint lists what is stored so far of the tree, with the records of all of it, as an
// image that is not complete, in place of the checkpoint before.
func (u *treeUpload) checkpoint(ctx context.Context, root *kopia.DirEntry) (manifest.ID, error) {
	src, err := source(u.image.Volume)
	if err != nil {
		return "", err
	}
	volume := root.Clone()
	volume.Name = volumeName
	if u.records == nil {
		if u.records, err = writeRecords(ctx, u.session, u.root, volume.ModTime); err != nil {
			return "", err
		}
	}
	image, err := writeRecord(ctx, u.session, imageRecord{Image: u.image})
	if err != nil {
		return "", err
	}
	id, err := u.repository.save(ctx, u.session, directory{
		entries: []*kopia.DirEntry{volume, u.records, image},
		source:  src, taken: u.image.Taken, size: u.image.Size, incomplete: kindCheckpoint, replaces: u.spent(1),
		tags: map[string]string{kindTag: kindCheckpoint, checkpointTag: treeKey},
		text: fmt.Sprintf("Checkpoint of %s, round %s", u.image.Volume, u.image.Round),
	}, "")
	if err != nil {
		return "", err
	}
	u.own = []manifest.ID{id}
	return id, nil
}

// spent are the checkpoints that go: this run's own, and all but so many of those that it
// found, newest first.
func (u *treeUpload) spent(but int) []manifest.ID {
	ids := slices.Clone(u.own)
	for i, m := range u.found {
		if i >= but {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// treeCheckpoints lists those of a volume's trees, newest first.
func (r *Repository) treeCheckpoints(ctx context.Context, v snapshot.Volume) ([]*kopia.Manifest, error) {
	if err := r.refresh(ctx); err != nil {
		return nil, err
	}
	all, err := r.checkpointsOf(ctx, v)
	var found []*kopia.Manifest
	for _, m := range all {
		if m.Tags[checkpointTag] == treeKey {
			found = append(found, m)
		}
	}
	return found, err
}

// begun is what checkpoints have of the tree. One that is damaged is as good as none: time
// is all it saves.
func (r *Repository) begun(ctx context.Context, checkpoints []*kopia.Manifest, root *node) ([]knownTree, error) {
	var known []knownTree
	for _, m := range checkpoints[:min(len(checkpoints), treesTaken)] {
		k, err := r.knownTree(ctx, m)
		if err == nil {
			all := k.files
			k.files = map[raw]record{}
			err = r.stored(ctx, k.volume, root, all, k.files)
		}
		switch {
		case errors.Is(err, snapshot.ErrCorrupt), errors.Is(err, errFormat):
		case err != nil:
			return nil, fmt.Errorf("checkpoint %s: %w", m.ID, err)
		default:
			known = append(known, k)
		}
	}
	return known, nil
}

// stored picks, out of all that a run walked over, the files that it had stored whole.
// Those that were under way have other names in a checkpoint.
func (r *Repository) stored(ctx context.Context, folder *kopia.DirEntry, n *node, all, into map[raw]record) error {
	children, err := r.folder(ctx, folder)
	if err != nil {
		return err
	}
	for _, c := range n.children {
		e := children[storedName(c.name)]
		switch {
		case e == nil:
		case c.Type == typeFile && e.Type == kopia.EntryTypeFile:
			if walked, ok := all[c.Path]; ok {
				into[c.Path] = walked
			}
		case c.Type == typeFolder && e.Type == kopia.EntryTypeDirectory:
			if err := r.stored(ctx, e, c, all, into); err != nil {
				return err
			}
		}
	}
	return nil
}

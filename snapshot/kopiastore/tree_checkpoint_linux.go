package kopiastore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/repo/object"
	kopia "github.com/kopia/kopia/snapshot"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// checkpointShare keeps long runs from leaving thousands of checkpoints: the next one
	// comes after so large a part of the time before it, and after mostBetween at most.
	checkpointShare = 64
	mostBetween     = 30 * time.Minute
	// standInterval is how often a run that stands still lists its checkpoint anew, well
	// before unheldAfter.
	standInterval = 2 * time.Hour
)

// treeSession is what kopia's uploader writes through. Kopia makes checkpoints of its own:
// each is listed here as one of ours, and its own retention sees none of our images.
// Kopia does not wait for the last of them, so that nothing of it reaches the session once
// the upload has ended.
type treeSession struct {
	repo.DirectRepositoryWriter
	list func(ctx context.Context, root *kopia.DirEntry) (manifest.ID, error)

	gate  sync.RWMutex
	ended bool
	mu    sync.Mutex
	// failed is the first failure: kopia tells nobody why it could make no checkpoint.
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
	err := do()
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed = cmp.Or(s.failed, err)
	}
	return err
}

// end returns when nothing of the upload uses the session, and nothing will, with what
// failed first.
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
		id, err = s.list(ctx, m.RootEntry)
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

// Flush has nothing to do: a checkpoint that is listed is durable.
func (s *treeSession) Flush(context.Context) error { return nil }

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
// image that is not complete, in place of the checkpoint before. There is none before all
// is in it that the last run's had, none for nothing new unless it stands still for long,
// and none too often.
func (u *treeUpload) checkpoint(ctx context.Context, root *kopia.DirEntry) (manifest.ID, error) {
	now := u.repository.now()
	done, missing := u.progress.soFar()
	if missing > 0 || !isDue(now.Sub(u.began), now.Sub(u.listed), done != u.done, u.own != "") {
		return u.own, nil
	}
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
		source:  src, taken: u.image.Taken, size: u.image.Size, incomplete: kindCheckpoint, replaces: u.spent(), hold: u.hold,
		tags: map[string]string{kindTag: kindCheckpoint, checkpointTag: treeKey},
		text: fmt.Sprintf("Checkpoint of %s, round %s", u.image.Volume, u.image.Round),
	}, "")
	if err != nil {
		return "", fmt.Errorf("list a checkpoint: %w", err)
	}
	u.own, u.found, u.listed, u.done = id, nil, now, done
	u.hold.move(id, now)
	return id, nil
}

// isDue decides whether a run that began so long ago makes a checkpoint, so long after its
// last: for what is new, and in place of one of its own before that is too old to hold.
func isDue(run, since time.Duration, isNew, isListed bool) bool {
	return isNew && since >= min(run/checkpointShare, mostBetween) || isListed && since >= standInterval
}

// spent are the checkpoints that go when the next one, or the image, comes.
func (u *treeUpload) spent() []manifest.ID {
	var ids []manifest.ID
	if u.own != "" {
		ids = append(ids, u.own)
	}
	for _, m := range u.found {
		ids = append(ids, m.ID)
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

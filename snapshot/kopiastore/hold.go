package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/manifest"
	kopia "github.com/kopia/kopia/snapshot"
)

const (
	// unsafeAfter is how long what was stored may be named by no index: what nothing names
	// is collected once it is a day old.
	unsafeAfter = 20 * time.Hour
	// unheldAfter is how long what a run goes by may be held by no checkpoint. Not all of it
	// is young: what was there already is taken for stored, and the image that it is of may
	// be forgotten. Maintenance that is run as often as somebody likes marks it at once,
	// and drops it by two more runs, five hours later at the soonest.
	unheldAfter = 4 * time.Hour
	// lookedUpFor is how long a run goes by what it saw of the repository before its first chunk.
	lookedUpFor = time.Minute
)

// hold is what keeps that of which a run makes an image from being collected until the
// image is listed: the checkpoint that it went on from, and for the rest that little time passes.
// Whoever restores the image would miss chunks that are gone. A nil one is of what is
// stored and listed at once.
type hold struct {
	repository *Repository
	mu         sync.Mutex
	// taken is the checkpoint; empty for none.
	taken manifest.ID
	// safe is when all that was stored before was held.
	safe time.Time

	first sync.Once
	// failed is why the first chunk could not begin.
	failed error
}

// start has the time count from a run's first chunk: it may have waited for memory for
// hours, and took nothing for stored until then.
func (h *hold) start(ctx context.Context) error {
	h.first.Do(func() {
		now := h.repository.now()
		taken, safe := h.state()
		if now.Sub(safe) < lookedUpFor {
			return
		}
		if h.failed = h.repository.refresh(ctx); h.failed == nil {
			h.move(taken, now)
		}
	})
	return h.failed
}

// move notes a checkpoint that holds all that was stored before safe.
func (h *hold) move(taken manifest.ID, safe time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken, h.safe = taken, safe
}

func (h *hold) state() (manifest.ID, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.taken, h.safe
}

// inTime sees that nothing can have been collected in the time that passed.
func (h *hold) inTime() error {
	if h == nil {
		return nil
	}
	_, safe := h.state()
	if stood := h.repository.now().Sub(safe); stood > unheldAfter {
		return fmt.Errorf("what was stored was held by no checkpoint for %s, and may have been collected meanwhile: the run has to be started again",
			stood.Round(time.Second))
	}
	return nil
}

// stands sees that nothing can have been collected. To ask the store may have taken long,
// where transfers are paused.
func (h *hold) stands(ctx context.Context) error {
	if h == nil {
		return nil
	}
	if err := h.inTime(); err != nil {
		return err
	}
	taken, _ := h.state()
	if err := h.repository.checkpointThere(ctx, taken); err != nil {
		return err
	}
	return h.inTime()
}

// whileInTime ends a request that waits until its turn comes too late.
func (h *hold) whileInTime(ctx context.Context) (context.Context, context.CancelFunc) {
	if h == nil {
		return context.WithCancel(ctx)
	}
	_, safe := h.state()
	return context.WithTimeout(ctx, safe.Add(unheldAfter).Sub(h.repository.now()))
}

// checkpointThere sees that the checkpoint which keeps what a run goes by from being
// collected is still listed; empty is none.
func (r *Repository) checkpointThere(ctx context.Context, id manifest.ID) error {
	if id == "" {
		return nil
	}
	if err := r.refresh(ctx); err != nil {
		return err
	}
	err := r.sure(ctx, func() error {
		_, err := r.rep.GetManifest(ctx, id, &kopia.Manifest{})
		return err
	})
	if errors.Is(err, manifest.ErrNotFound) {
		return fmt.Errorf("checkpoint %s, which this run went on from, was removed meanwhile: the run has to be started again", id)
	}
	return err
}

// enlist adds a manifest in place of those that the directory replaces. The last flush may
// wait for days where transfers are paused: what it lists then is taken back.
func (r *Repository) enlist(ctx context.Context, w repo.DirectRepositoryWriter, d directory, m *kopia.Manifest) (manifest.ID, error) {
	if err := d.hold.stands(ctx); err != nil {
		return "", err
	}
	limited, cancel := d.hold.whileInTime(ctx)
	defer cancel()
	id, err := listInstead(limited, w, m, d.replaces)
	late := d.hold.inTime()
	switch {
	case late != nil && err == nil:
		return "", errors.Join(late, unlist(ctx, w, id))
	case late != nil:
		return "", late
	}
	return id, err
}

func listInstead(ctx context.Context, w repo.DirectRepositoryWriter, m *kopia.Manifest, replaces []manifest.ID) (manifest.ID, error) {
	id, err := kopia.SaveSnapshot(ctx, w, m)
	if err != nil {
		return "", fmt.Errorf("list the image: %w", err)
	}
	for _, old := range replaces {
		if err := w.DeleteManifest(ctx, old); err != nil && !errors.Is(err, manifest.ErrNotFound) {
			return "", fmt.Errorf("remove checkpoint %s: %w", old, err)
		}
	}
	// One index names what the image is made of and its manifest, once all of it
	// is in the store.
	if err := w.Flush(withOneList(ctx)); err != nil {
		return "", fmt.Errorf("list the image: %w", err)
	}
	return id, nil
}

// unlist takes back what was listed too late.
func unlist(ctx context.Context, w repo.DirectRepositoryWriter, id manifest.ID) error {
	if err := w.DeleteManifest(ctx, id); err != nil {
		return fmt.Errorf("take image %s back, which is not to be used: %w", id, err)
	}
	if err := w.Flush(withOneList(ctx)); err != nil {
		return fmt.Errorf("take image %s back, which is not to be used: %w", id, err)
	}
	return nil
}

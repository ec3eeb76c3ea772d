package kopiastore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kopia/kopia/repo/format"

	"github.com/godwit-io/godwit/snapshot"
)

// mostKept bounds how many repositories are kept open.
const mostKept = 8

// KeepOpen keeps a repository open for so long after its user closed it, for who opens the
// same place next: opening derives a key from the password, which takes a fifth of a second
// and 64 MiB, and a small round opens its repository several times. What is kept has one
// user at a time, and only where it still is what the storage holds: who refreshes what
// others read takes kopia's indexes from under them. Opener.Close ends it.
func KeepOpen(idle time.Duration) Option {
	return func(o *Opener) { o.kept = &keeper{idle: idle, open: map[placeKey]*keptRepository{}} }
}

// keeper has the repositories that are open and that nobody uses, one of each place.
type keeper struct {
	idle time.Duration

	mu     sync.Mutex
	open   map[placeKey]*keptRepository
	closed bool
	// failed is what closing gave where nobody waited for it.
	failed error
}

// placeKey stands for all that a Location says, its secrets included.
type placeKey [sha256.Size]byte

func keyOf(l snapshot.Location) placeKey {
	// A Secret hides itself from all ways of printing but its own type's.
	secrets := []string{l.SecretAccessKey.Reveal(), l.ServiceAccount.Reveal(), l.Application.ClientSecret.Reveal(), l.Password.Reveal()}
	return sha256.Sum256(fmt.Appendf(nil, "%#v %q", l, secrets))
}

// keptRepository is one that is open.
type keptRepository struct {
	*Repository
	keeper *keeper
	key    placeKey
	once   sync.Once
}

// Close ends the use; the repository may stay open for a while.
func (r *keptRepository) Close(ctx context.Context) (err error) {
	r.once.Do(func() {
		if !r.keeper.keep(context.WithoutCancel(ctx), r.Repository, r.key) {
			err = r.Repository.Close(ctx)
		}
	})
	return err
}

// take gives what is kept of the place to one user; nil for nothing.
func (k *keeper) take(key placeKey) *Repository {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept := k.open[key]
	if kept == nil {
		return nil
	}
	delete(k.open, key)
	return kept.Repository
}

// keep has a repository closed later, and reports whether it will be.
func (k *keeper) keep(ctx context.Context, r *Repository, key placeKey) bool {
	if r.failed() != nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.open[key] != nil || len(k.open) >= mostKept {
		return false
	}
	r.writes.end()
	kept := &keptRepository{Repository: r, keeper: k, key: key}
	k.open[key] = kept
	time.AfterFunc(k.idle, func() { k.expire(ctx, kept) })
	return true
}

// expire closes what nobody took meanwhile.
func (k *keeper) expire(ctx context.Context, kept *keptRepository) {
	k.mu.Lock()
	still := k.open[kept.key] == kept
	if still {
		delete(k.open, kept.key)
	}
	k.mu.Unlock()
	if still {
		k.closeUnused(ctx, kept.Repository)
	}
}

// closeUnused closes a repository that nobody waits for.
func (k *keeper) closeUnused(ctx context.Context, r *Repository) {
	if err := r.Close(ctx); err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.failed = errors.Join(k.failed, err)
	}
}

// Close closes what is kept open, and has nothing kept any more: what is in use ends with
// its user. It returns what closing gave before, too.
func (o *Opener) Close(ctx context.Context) error {
	if o.kept == nil {
		return nil
	}
	k := o.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	err := k.failed
	k.failed = nil
	for _, kept := range k.open {
		err = errors.Join(err, kept.Repository.Close(ctx))
	}
	clear(k.open)
	return err
}

// openOrKept takes what is kept open of a place, if that is as good as opening it anew.
func (o *Opener) openOrKept(ctx context.Context, l snapshot.Location, create bool) (snapshot.Repository, error) {
	if o.kept == nil {
		return o.open(ctx, l, create)
	}
	if err := complete(ctx, l, create); err != nil {
		return nil, err
	}
	key := keyOf(l)
	r := o.kept.take(key)
	if r != nil && !r.stands(ctx) {
		o.kept.closeUnused(context.WithoutCancel(ctx), r)
		r = nil
	}
	if r == nil {
		var err error
		if r, err = o.openComplete(ctx, l, create); err != nil {
			return nil, err
		}
	}
	o.sound.add(l, r.formatBlob, o.now())
	return &keptRepository{Repository: r, keeper: o.kept, key: key}, nil
}

// stands is true where the storage holds the repository that was opened, and it shows all
// that is there by now. Whatever else it is, opening anew tells.
func (r *Repository) stands(ctx context.Context) bool {
	var found buffer
	err := r.format.Storage.GetBlob(ctx, format.KopiaRepositoryBlobID, 0, -1, &found)
	return err == nil && bytes.Equal(found.Bytes(), r.formatBlob) && r.refresh(ctx) == nil
}

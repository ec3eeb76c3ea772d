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

// KeepOpen keeps a repository open for so long after its last user closed it, for who
// opens the same place next: opening derives a key from the password, which takes a fifth
// of a second and 64 MiB, and a small round opens its repository several times. What is
// kept is used only where it still is what the storage holds. Opener.Close closes it.
func KeepOpen(idle time.Duration) Option {
	return func(o *Opener) { o.kept = &keeper{idle: idle, open: map[placeKey]*keptRepository{}} }
}

// keeper has the repositories that are kept open, one of each place.
type keeper struct {
	idle time.Duration

	mu   sync.Mutex
	open map[placeKey]*keptRepository
	// failed is what closing gave where nobody waited for it: the next who closes is told.
	failed error
}

// placeKey stands for all that a Location says, its secrets included.
type placeKey [sha256.Size]byte

func keyOf(l snapshot.Location) placeKey {
	// A Secret hides itself from all ways of printing but its own type's.
	secrets := []string{l.SecretAccessKey.Reveal(), l.ServiceAccount.Reveal(), l.Application.ClientSecret.Reveal(), l.Password.Reveal()}
	return sha256.Sum256(fmt.Appendf(nil, "%#v %q", l, secrets))
}

// keptRepository is one that is open; its fields are under the keeper's lock.
type keptRepository struct {
	*Repository
	key   placeKey
	users int
	// expiry runs while nobody uses it.
	expiry *time.Timer
}

// lease is one user's.
type lease struct {
	*Repository
	giveBack func(context.Context) error
}

// Close ends the use; the repository stays open for a while.
func (l *lease) Close(ctx context.Context) error { return l.giveBack(ctx) }

// take gives what is kept of the place; nil for nothing.
func (k *keeper) take(key placeKey) *keptRepository {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept := k.open[key]
	if kept == nil {
		return nil
	}
	kept.users++
	if kept.expiry != nil {
		kept.expiry.Stop()
		kept.expiry = nil
	}
	return kept
}

// add keeps one that was just opened, unless another of the place was meanwhile.
func (k *keeper) add(key placeKey, r *Repository) *keptRepository {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept := &keptRepository{Repository: r, key: key, users: 1}
	if k.open[key] == nil {
		k.open[key] = kept
	}
	return kept
}

// drop lets nobody else have it.
func (k *keeper) drop(kept *keptRepository) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open[kept.key] == kept {
		delete(k.open, kept.key)
	}
}

// lease gives a repository to one user.
func (k *keeper) lease(kept *keptRepository) *lease {
	var once sync.Once
	return &lease{Repository: kept.Repository, giveBack: func(ctx context.Context) (err error) {
		once.Do(func() { err = k.giveBack(context.WithoutCancel(ctx), kept) })
		return err
	}}
}

func (k *keeper) giveBack(ctx context.Context, kept *keptRepository) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	earlier := k.failed
	k.failed = nil
	kept.users--
	switch {
	case kept.users > 0:
	case k.open[kept.key] != kept:
		return errors.Join(earlier, kept.Close(ctx))
	default:
		kept.expiry = time.AfterFunc(k.idle, func() { k.expire(ctx, kept) })
	}
	return earlier
}

func (k *keeper) expire(ctx context.Context, kept *keptRepository) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kept.users > 0 || k.open[kept.key] != kept {
		return
	}
	delete(k.open, kept.key)
	k.failed = errors.Join(k.failed, kept.Close(ctx))
}

// Close closes what is kept open and not in use. What is in use is closed by its users,
// and nothing is kept any more.
func (o *Opener) Close(ctx context.Context) error {
	if o.kept == nil {
		return nil
	}
	k := o.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.failed
	k.failed = nil
	for _, kept := range k.open {
		if kept.users == 0 {
			kept.expiry.Stop()
			err = errors.Join(err, kept.Close(ctx))
		}
	}
	clear(k.open)
	return err
}

// again gives what is kept open of a place, if that is as good as opening it anew; nil
// otherwise.
func (o *Opener) again(ctx context.Context, key placeKey) *lease {
	kept := o.kept.take(key)
	if kept == nil {
		return nil
	}
	leased := o.kept.lease(kept)
	if kept.stands(ctx) {
		return leased
	}
	o.kept.drop(kept)
	if err := leased.Close(ctx); err != nil {
		o.kept.mu.Lock()
		defer o.kept.mu.Unlock()
		o.kept.failed = errors.Join(o.kept.failed, err)
	}
	return nil
}

// stands is true where the storage holds the repository that was opened, and it shows all
// that is there by now. Whatever else it is, opening anew tells.
func (r *keptRepository) stands(ctx context.Context) bool {
	var found buffer
	err := r.format.Storage.GetBlob(ctx, format.KopiaRepositoryBlobID, 0, -1, &found)
	return err == nil && bytes.Equal(found.Bytes(), r.formatBlob) && r.refresh(ctx) == nil
}

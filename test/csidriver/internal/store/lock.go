package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is held until Unlock, or until the process ends.
type Lock struct{ f *os.File }

// Unlock lets the next one in.
func (l *Lock) Unlock() {
	// A file that stays costs nothing but its name.
	_ = os.Remove(l.f.Name())
	// Closing the only descriptor frees the lock, whatever Close returns.
	_ = l.f.Close()
}

// LockName waits until the caller alone makes things of a kind by that name.
func (s *Store) LockName(ctx context.Context, k Kind, name string) (*Lock, error) {
	return s.lock(ctx, string(k)+"-"+namePrefix(k, name))
}

// LockDebris waits for a lock that Debris named.
func (s *Store) LockDebris(ctx context.Context, lock string) (*Lock, error) {
	return s.lock(ctx, lock)
}

// LockVolume waits until the caller alone works on a volume. Whoever needs
// several volumes takes them in the order of their IDs.
func (s *Store) LockVolume(ctx context.Context, id string) (*Lock, error) {
	if err := s.Read(id, &Volume{}); err != nil {
		return nil, err
	}
	return s.lock(ctx, id)
}

func (s *Store) lock(ctx context.Context, name string) (*Lock, error) {
	path := filepath.Join(s.dir, "locks", name)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := tryLock(path)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: another call holds it: %w", name, ctx.Err())
		case <-tick.C:
		}
	}
}

// tryLock returns nil where another call holds the lock.
func tryLock(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, f.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	// Its last holder may have removed the file after we had opened it.
	mine, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	now, err := os.Stat(path)
	if err != nil || !os.SameFile(mine, now) {
		return nil, f.Close()
	}
	return &Lock{f: f}, nil
}

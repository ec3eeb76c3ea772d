package node

import (
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// DefaultPatience is how long a transfer may get no further before it is given up,
// unless told otherwise: longer than most networks are down, and no limit to one
// that moves, however slowly.
const DefaultPatience = 30 * time.Minute

// errStuck ends an attempt that gets no further.
var errStuck = errors.New("nothing has moved")

// hopeless is true for a transfer that was tried often enough and has got no further
// for as long as there is patience. Attempts alone do not count: a network that is
// down for a while uses up many of them.
func hopeless(s api.VolumeTransferStatus, now time.Time, patience time.Duration) bool {
	since := s.LastProgress
	if since == nil {
		since = s.StartTime
	}
	return s.Attempts >= maxAttempts && (since == nil || now.Sub(since.Time) > patience)
}

// watchdog tells when an attempt gets no further. A transfer gets further by what it
// reads as well as by what it stores.
type watchdog struct {
	patience time.Duration
	moved    time.Time
	at       int64
}

// look notes how far the attempt is, and fails once it has stood too long.
func (w *watchdog) look(now time.Time, s snapshot.Stats) error {
	at := s.Done + s.Read + s.Uploaded + s.Fetched + s.Written + s.Files
	if w.moved.IsZero() || at != w.at {
		w.moved, w.at = now, at
		return nil
	}
	if stood := now.Sub(w.moved); stood > w.patience {
		return fmt.Errorf("%w for %s, after %d of %d bytes: look at the storage and the object store, which do not answer", errStuck, stood.Round(time.Second), s.Done, s.Total)
	}
	return nil
}

// pause starts the wait anew: who is held back is not stuck.
func (w *watchdog) pause() { w.moved = time.Time{} }

// noteProgress remembers when the transfer last got further than ever before: what is
// read again after a cut is no progress.
func noteProgress(s *api.VolumeTransferStatus, now time.Time) {
	if s.Progress.BytesDone > s.Furthest {
		at := metav1.NewTime(now)
		s.Furthest, s.LastProgress = s.Progress.BytesDone, &at
	}
}

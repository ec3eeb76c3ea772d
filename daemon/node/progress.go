package node

import (
	"sync/atomic"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// rateWindow is what the rate is an average over.
const rateWindow = 10 * time.Second

// latest holds the newest Stats that the engine told; telling never blocks.
type latest struct {
	stats atomic.Pointer[snapshot.Stats]
}

func (l *latest) tell(s snapshot.Stats) { l.stats.Store(&s) }

func (l *latest) get() snapshot.Stats {
	if s := l.stats.Load(); s != nil {
		return *s
	}
	return snapshot.Stats{}
}

// meter turns counts into a rate.
type meter struct{ samples []sample }

type sample struct {
	at   time.Time
	done int64
}

// progress adds a sample and returns how far the transfer is. Where all bytes
// are through, storing the rest still takes its time: the rate is the one at
// which they went, not one that falls to nothing.
func (m *meter) progress(now time.Time, s snapshot.Stats) api.TransferProgress {
	n := len(m.samples)
	if n > 0 && s.Done < m.samples[n-1].done {
		m.samples, n = nil, 0 // It was begun anew, by another method.
	}
	if ended := n > 1 && s.Total > 0 && m.samples[n-1].done >= s.Total; !ended {
		m.samples = append(m.samples, sample{now, s.Done})
	}
	now = m.samples[len(m.samples)-1].at
	// One sample from before the window stays, so that the window is full.
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
	p := counts(s)
	first := m.samples[0]
	if elapsed := now.Sub(first.at); elapsed > 0 {
		p.BytesPerSecond = int64(float64(s.Done-first.done) / elapsed.Seconds())
	}
	if left := s.Total - s.Done; left > 0 && p.BytesPerSecond > 0 {
		p.SecondsLeft = (left + p.BytesPerSecond - 1) / p.BytesPerSecond
	}
	return p
}

func counts(s snapshot.Stats) api.TransferProgress {
	return api.TransferProgress{
		BytesTotal: s.Total, BytesDone: s.Done, BytesRead: s.Read, BytesChanged: s.Changed,
		BytesUploaded: s.Uploaded, BytesFetched: s.Fetched, BytesWritten: s.Written, Files: s.Files,
	}
}

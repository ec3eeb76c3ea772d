package pairing

import (
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"
)

// DefaultOverlap is how long a replaced authority is still honoured: long
// enough for a source that was away, and whose certificate expired meanwhile.
const DefaultOverlap = DefaultGrace + DefaultCertificateTTL

// Retired is an authority that was replaced.
type Retired struct {
	*Authority
	// Until is when it stops being honoured.
	Until time.Time
}

// Ring holds the cluster's authorities: the current one, which signs, and those
// that were replaced and are honoured for a while. Sources that know only a
// replaced one learn of the current one with their next certificate.
type Ring struct {
	mu      sync.RWMutex
	current *Authority
	retired []Retired
}

// NewRing makes a ring. The authorities must be of one cluster.
func NewRing(current *Authority, retired ...Retired) *Ring {
	return &Ring{current: current, retired: retired}
}

// Replace takes over what another process stored.
func (r *Ring) Replace(current *Authority, retired ...Retired) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.retired = current, retired
}

// Current is the authority that signs.
func (r *Ring) Current() *Authority {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.current
}

// Retired lists the replaced authorities that are still honoured.
func (r *Ring) Retired(now time.Time) []Retired {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(r.retired), func(a Retired) bool { return !now.Before(a.Until) })
}

// Pool holds every authority whose client certificates are honoured.
func (r *Ring) Pool(now time.Time) *x509.CertPool {
	pool := r.Current().Pool()
	for _, a := range r.Retired(now) {
		pool.AddCert(a.certificate)
	}
	return pool
}

// Known is the authority by whose hint a client says which one it pins; the
// current one where there is no such hint among them.
func (r *Ring) Known(hints []string, now time.Time) *Authority {
	for _, a := range r.Retired(now) {
		if slices.Contains(hints, a.Fingerprint().Hint()) {
			return a.Authority
		}
	}
	return r.Current()
}

// Hint is what a client says in the handshake, so that the server can show the
// authority that it pins. It is no secret, and proves nothing.
func (f Fingerprint) Hint() string { return fmt.Sprintf("godwit-authority/%x", f[:8]) }

// Rotated gives the ring after its current authority is replaced by next.
func (r *Ring) Rotated(next *Authority, now time.Time, overlap time.Duration) (*Ring, error) {
	if next.ClusterID() != r.Current().ClusterID() {
		return nil, fmt.Errorf("rotate pairing authority: %w: the new one is of another cluster", ErrCertificate)
	}
	if overlap <= 0 {
		overlap = DefaultOverlap
	}
	return NewRing(next, append(r.Retired(now), Retired{Authority: r.Current(), Until: now.Add(overlap)})...), nil
}

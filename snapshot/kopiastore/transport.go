package kopiastore

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// mostSkew is how far apart clocks may be: object stores refuse requests
	// that are off by a quarter of an hour, and collection of what is not
	// used any more counts in hours.
	mostSkew       = 5 * time.Minute
	firstPenalty   = 500 * time.Millisecond
	longestPenalty = time.Minute
)

// transport sends requests to one object store. It obeys when the store asks
// for a pause, for all that use it together, and watches the store's clock.
type transport struct {
	base http.RoundTripper
	now  func() time.Time

	mu      sync.Mutex
	resume  time.Time     // nothing is sent before
	penalty time.Duration // the last pause, where the store did not say how long
	skew    time.Duration // the store's clock less ours
	heard   bool
}

// RoundTrip waits for the pause to end, and sends the request.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := t.wait(request); err != nil {
		return nil, err
	}
	response, err := t.base.RoundTrip(request)
	if err == nil {
		t.note(response)
	}
	return response, err
}

func (t *transport) wait(request *http.Request) error {
	for {
		t.mu.Lock()
		left := t.resume.Sub(t.now())
		t.mu.Unlock()
		if left <= 0 {
			return request.Context().Err()
		}
		timer := time.NewTimer(left + rand.N(left/4+time.Millisecond)) //nolint:gosec // no secret
		select {
		case <-request.Context().Done():
			timer.Stop()
			return request.Context().Err()
		case <-timer.C:
		}
	}
}

func (t *transport) note(response *http.Response) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		t.skew, t.heard = date.Sub(now), true
	}
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusServiceUnavailable {
		t.penalty /= 2
		return
	}
	pause, said := retryAfter(response.Header.Get("Retry-After"), now)
	if !said {
		t.penalty = min(longestPenalty, max(firstPenalty, 2*t.penalty))
		pause = t.penalty
	}
	if until := now.Add(min(pause, longestPenalty)); until.After(t.resume) {
		t.resume = until
	}
}

func retryAfter(header string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.Atoi(header); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second, true
	}
	if date, err := http.ParseTime(header); err == nil {
		return max(0, date.Sub(now)), true
	}
	return 0, false
}

// time is the store's, or ours where the store never told.
func (t *transport) time() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now().Add(t.skew)
}

// checkClock refuses a clock that is far from the store's.
func (t *transport) checkClock(l snapshot.Location) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.heard {
		return nil
	}
	return checkSkew(l, t.skew)
}

func checkSkew(l snapshot.Location, skew time.Duration) error {
	if skew.Abs() <= mostSkew {
		return nil
	}
	direction := "behind"
	if skew < 0 {
		direction = "ahead of"
	}
	return fmt.Errorf("%w: the clock here is %s %s that of %s: correct the wrong one", errSkew, skew.Abs().Round(time.Second), direction, place(l))
}

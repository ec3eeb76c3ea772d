package node

import (
	"errors"
	"fmt"

	"github.com/godwit-io/godwit/snapshot"
)

// finalError is a failure that no further attempt mends.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

func final(format string, args ...any) error {
	return &finalError{fmt.Errorf(format, args...)}
}

// fewAttempts is how often what is damaged, or does not answer, is tried: once more
// may tell a bad line from a bad store.
const fewAttempts = 3

// isLasting says whether another attempt is of no use. An image that is not in
// the repository does not come back, and a device that does not keep what it took
// is not to be trusted with it once more; anything else (the network, the store, a
// pod that is published again) may pass.
func isLasting(err error, attempts int32) bool {
	var f *finalError
	return errors.As(err, &f) || errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrDiffers) || errors.Is(err, snapshot.ErrBudget) ||
		(errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, errStuck)) && attempts >= fewAttempts
}

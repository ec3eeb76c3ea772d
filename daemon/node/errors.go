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

// isLasting says whether another attempt is of no use. An image that is not in
// the repository does not come back; anything else (the network, the store, a
// pod that is published again) may.
func isLasting(err error) bool {
	var f *finalError
	return errors.As(err, &f) || errors.Is(err, snapshot.ErrNotFound)
}

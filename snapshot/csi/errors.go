package csi

import "errors"

// FinalError is a failure that trying again does not mend: somebody has to
// change something first. Remedy says what.
type FinalError struct {
	Problem string
	Remedy  string
}

// Error gives the problem and what to do about it.
func (e *FinalError) Error() string { return e.Problem + ": " + e.Remedy }

// IsFinal says whether trying again is of no use.
func IsFinal(err error) bool {
	var final *FinalError
	return errors.As(err, &final) || errors.Is(err, ErrNoBlocks)
}

// ErrNoBlocks says that the storage refuses to give a volume of files as a
// block device: expose it with Mode Filesystem instead.
var ErrNoBlocks = errors.New("the storage has no block devices")

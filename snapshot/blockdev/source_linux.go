package blockdev

import (
	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
)

// Source reads a device or a file.
type Source struct{ *device }

var _ snapshot.Source = (*Source)(nil)

// OpenSource opens a device or file for reading.
func OpenSource(path string) (*Source, error) {
	d, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &Source{d}, nil
}

package blockdev

import (
	"errors"
	"fmt"
	"os"

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

// Allocated gives the extents of a file that are not holes; the rest reads as
// zeros. For a block device it is errors.ErrUnsupported: only its storage knows.
func (s *Source) Allocated() ([]snapshot.Extent, error) {
	if s.block {
		return nil, fmt.Errorf("allocated extents of %s: %w", s.path, errors.ErrUnsupported)
	}
	extents := []snapshot.Extent{}
	fd := int(s.file.Fd())
	for at := int64(0); at < s.size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, &os.PathError{Op: "find data in", Path: s.path, Err: err}
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return nil, &os.PathError{Op: "find holes in", Path: s.path, Err: err}
		}
		if data >= s.size {
			break
		}
		hole = min(hole, s.size)
		extents = append(extents, snapshot.Extent{Offset: data, Length: hole - data})
		at = hole
	}
	return extents, nil
}

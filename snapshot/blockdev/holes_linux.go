package blockdev

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
)

// Allocated gives the extents of a file that are not holes; the rest reads as
// zeros. For a block device it is errors.ErrUnsupported: only its storage knows.
func (d *device) Allocated() ([]snapshot.Extent, error) {
	if d.block {
		return nil, fmt.Errorf("allocated extents of %s: %w", d.path, errors.ErrUnsupported)
	}
	extents := []snapshot.Extent{}
	fd := int(d.file.Fd())
	for at := int64(0); at < d.size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, &os.PathError{Op: "find data in", Path: d.path, Err: err}
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return nil, &os.PathError{Op: "find holes in", Path: d.path, Err: err}
		}
		if data >= d.size {
			break
		}
		hole = min(hole, d.size)
		extents = append(extents, snapshot.Extent{Offset: data, Length: hole - data})
		at = hole
	}
	return extents, nil
}

package disk

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ioctlFiemap      = 0xc020660b // FS_IOC_FIEMAP
	fiemapSync       = 0x1        // FIEMAP_FLAG_SYNC
	fiemapLast       = 0x1        // FIEMAP_EXTENT_LAST
	fiemapUnwritten  = 0x800      // FIEMAP_EXTENT_UNWRITTEN
	fiemapUnreliable = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400
	fiemapBatch      = 512
)

// segment is a run of an image that holds data. Two segments at the same
// offset with the same known place on the disk are the same blocks.
type segment struct {
	offset, length int64
	place          uint64
	known          bool
}

func (s segment) end() int64 { return s.offset + s.length }

type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

type fiemapRequest struct {
	start, length                  uint64
	flags, mapped, count, reserved uint32
	extents                        [fiemapBatch]fiemapExtent
}

// mapImage lists the segments of an image below size; the gaps read as zeros.
func mapImage(f *os.File, size int64) ([]segment, error) {
	var all []segment
	req := new(fiemapRequest)
	for start := int64(0); start < size; {
		*req = fiemapRequest{start: uint64(start), length: uint64(size - start), flags: fiemapSync, count: fiemapBatch}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ioctlFiemap, uintptr(unsafe.Pointer(req)))
		if errno == unix.EOPNOTSUPP || errno == unix.ENOTTY {
			return mapByHoles(f, size)
		}
		if errno != 0 {
			return nil, fmt.Errorf("map the extents of %s: %w", f.Name(), errno)
		}
		if req.mapped == 0 {
			break
		}
		last := false
		for _, e := range req.extents[:req.mapped] {
			start = int64(e.logical + e.length)
			last = e.flags&fiemapLast != 0
			if e.flags&fiemapUnwritten != 0 {
				continue
			}
			all = append(all, segment{
				offset: int64(e.logical), length: int64(e.length), place: e.physical,
				known: e.flags&fiemapUnreliable == 0,
			})
		}
		if last {
			break
		}
	}
	return all, nil
}

// mapByHoles is for filesystems that do not tell where their blocks are.
func mapByHoles(f *os.File, size int64) ([]segment, error) {
	own, err := sizeOf(f)
	if err != nil {
		return nil, err
	}
	var all []segment
	err = dataRanges(f, 0, min(size, own), func(e Extent) error {
		all = append(all, segment{offset: e.Offset, length: e.Length})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("map the data of %s: %w", f.Name(), err)
	}
	return all, nil
}

// sweep walks two maps side by side and yields every range that is not
// certainly the same in both. Ranges start and end at block borders.
func sweep(base, target []segment, from, size int64, yield func(Extent) error) error {
	for pos := from; pos < size; {
		base, target = dropBefore(base, pos), dropBefore(target, pos)
		bIn, tIn := covers(base, pos), covers(target, pos)
		next := min(border(base, pos), border(target, pos), size)
		same := !bIn && !tIn
		if bIn && tIn && base[0].known && target[0].known {
			same = base[0].place+uint64(pos-base[0].offset) == target[0].place+uint64(pos-target[0].offset)
		}
		if !same {
			// A border inside of a block makes the whole block suspect.
			next = min((next+BlockSize-1)/BlockSize*BlockSize, size)
			if err := yield(Extent{Offset: pos, Length: next - pos}); err != nil {
				return err
			}
		}
		pos = next
	}
	return nil
}

func dropBefore(s []segment, pos int64) []segment {
	for len(s) > 0 && s[0].end() <= pos {
		s = s[1:]
	}
	return s
}

func covers(s []segment, pos int64) bool { return len(s) > 0 && s[0].offset <= pos }

// border is where the state of a map next changes after pos.
func border(s []segment, pos int64) int64 {
	switch {
	case len(s) == 0:
		return 1<<63 - 1
	case s[0].offset > pos:
		return s[0].offset
	default:
		return s[0].end()
	}
}

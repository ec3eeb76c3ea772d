package blockdev

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
)

// Sink writes a device or a file.
type Sink struct{ *device }

var _ snapshot.Sink = (*Sink)(nil)

// OpenSink opens a device or an existing file for writing. A device that is
// mounted, or held by another program that asked for that, is refused.
func OpenSink(path string) (*Sink, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	flags := unix.O_RDWR
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		flags |= unix.O_EXCL
	}
	d, err := open(path, flags)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s is in use, mounted or held by another device: it is not written; stop what uses it: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	return &Sink{d}, nil
}

// WriteAt writes.
func (s *Sink) WriteAt(p []byte, offset int64) (int, error) {
	if err := s.inside(offset, int64(len(p))); err != nil {
		return 0, err
	}
	if s.straight(p, offset) {
		s.edges.RLock()
		defer s.edges.RUnlock()
		return s.file.WriteAt(p, offset)
	}
	if s.whole(offset, int64(len(p))) {
		s.edges.RLock()
		defer s.edges.RUnlock()
	} else {
		s.edges.Lock()
		defer s.edges.Unlock()
	}
	return s.writeBounced(p, offset)
}

// writeBounced writes through an aligned buffer, filling sectors that p covers
// in part from the device.
func (s *Sink) writeBounced(p []byte, offset int64) (int, error) {
	buf, ok := s.bounce.Get().(*[]byte)
	if !ok {
		return 0, os.ErrInvalid
	}
	defer s.bounce.Put(buf)
	done := 0
	for done < len(p) {
		at := offset + int64(done)
		start := at - at%s.align
		end := min(s.up(offset+int64(len(p))), start+bounceSize)
		b := (*buf)[:end-start]
		n := min(int64(len(p)-done), end-at)
		if at != start || at+n != end {
			if _, err := s.file.ReadAt(b, start); err != nil {
				return done, err
			}
		}
		copy(b[at-start:], p[done:done+int(n)])
		if _, err := s.file.WriteAt(b, start); err != nil {
			return done, err
		}
		done += int(n)
	}
	return done, nil
}

// inside keeps a write from growing a file that stands for a device.
func (s *Sink) inside(offset, length int64) error {
	if offset < 0 || length < 0 || length > s.size-offset {
		return fmt.Errorf("%d bytes at %d are outside %s of %d bytes", length, offset, s.path, s.size)
	}
	return nil
}

// Zero makes the range read as zeros: deallocated where the device can and
// promises zeros for it, else zeroed by the device or the kernel, else written.
func (s *Sink) Zero(offset, length int64) error {
	if err := s.inside(offset, length); err != nil {
		return err
	}
	start, end := s.up(offset), offset+length
	end -= end % s.align
	if start >= end {
		return s.writeZeros(offset, length)
	}
	if err := s.writeZeros(offset, start-offset); err != nil {
		return err
	}
	if err := s.zeroWhole(start, end-start); err != nil {
		return err
	}
	return s.writeZeros(end, offset+length-end)
}

func (s *Sink) zeroWhole(offset, length int64) error {
	fd := int(s.file.Fd())
	s.edges.RLock()
	err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	if err != nil && s.block {
		// The punch is refused where it would not promise zeros.
		extent := [2]uint64{uint64(offset), uint64(length)}                                                            //nolint:gosec // both were checked
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&extent[0]))) //nolint:gosec // the kernel reads it
		err = nil
		if errno != 0 {
			err = errno
		}
	}
	s.edges.RUnlock()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EINVAL):
		return s.writeZeros(offset, length)
	}
	return &os.PathError{Op: "zero", Path: s.path, Err: err}
}

func (s *Sink) writeZeros(offset, length int64) error {
	if length == 0 {
		return nil
	}
	zeros := *alignedBuffer()
	for at := offset; at < offset+length; {
		n := min(int64(len(zeros)), offset+length-at)
		if _, err := s.WriteAt(zeros[:n], at); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// Sync returns when all that was written is on the device. What is read then
// comes from there too: a device is read around the page cache, and the pages
// of a file are dropped.
func (s *Sink) Sync() error {
	if err := s.file.Sync(); err != nil || s.block {
		return err
	}
	if err := unix.Fadvise(int(s.file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return &os.PathError{Op: "drop the cached pages of", Path: s.path, Err: err}
	}
	return nil
}

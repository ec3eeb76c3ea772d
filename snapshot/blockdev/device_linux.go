package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// memoryAlign satisfies every device's wish for buffers.
	memoryAlign = 4096
	// sectorSize is what the kernel counts the blocks of a file in.
	sectorSize = 512
	// bounceSize is how much goes through an aligned buffer at once.
	bounceSize = 1 << 20
)

// device is an open block device or file.
type device struct {
	path  string
	file  *os.File
	size  int64
	block bool
	// align is what offsets and lengths must be a multiple of; 1 with the
	// page cache between.
	align int64
	// edges orders writes that cover a sector in part, which read it first,
	// against all others.
	edges  sync.RWMutex
	bounce sync.Pool
}

func open(path string, flags int) (*device, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := &device{path: path, file: os.NewFile(uintptr(fd), path), align: 1}
	d.bounce.New = func() any { return alignedBuffer() }
	if err := d.measure(); err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	return d, nil
}

// measure finds the size, and turns the page cache off where it can.
func (d *device) measure() error {
	var st unix.Stat_t
	fd := int(d.file.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: d.path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		d.size = st.Size
		return d.passCache(fd)
	case unix.S_IFBLK:
		d.block = true
	default:
		return fmt.Errorf("%s is neither a block device nor a file", d.path)
	}
	var size uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); errno != 0 { //nolint:gosec // the kernel fills it
		return &os.PathError{Op: "measure", Path: d.path, Err: errno}
	}
	d.size = int64(size)
	sector, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
	if err != nil {
		return &os.PathError{Op: "find the sector size of", Path: d.path, Err: err}
	}
	return d.direct(int64(sector))
}

// direct turns the page cache off, where the kernel lets us.
func (d *device) direct(align int64) error {
	status, err := unix.FcntlInt(d.file.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return &os.PathError{Op: "read the flags of", Path: d.path, Err: err}
	}
	if _, err := unix.FcntlInt(d.file.Fd(), unix.F_SETFL, status|unix.O_DIRECT); err == nil {
		d.align = align
	}
	return nil
}

// passCache goes around the page cache where the file system says how: what is written is
// to be on the disk at the end anyway, and what is read is read once. A file that is in
// memory already is read from there.
func (d *device) passCache(fd int) error {
	status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return &os.PathError{Op: "read the flags of", Path: d.path, Err: err}
	}
	if status&unix.O_ACCMODE == unix.O_RDONLY && d.inMemory(fd) {
		return nil
	}
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	align := int64(st.Dio_offset_align)
	told := err == nil && st.Mask&unix.STATX_DIOALIGN != 0 && align > 0
	// Its last sector must not grow a file.
	if !told || st.Dio_mem_align > memoryAlign || align > memoryAlign || d.size%align != 0 {
		return nil
	}
	return d.direct(align)
}

// inMemory says whether much of a file is in the page cache; a kernel that does not tell
// is taken to have it there.
func (d *device) inMemory(fd int) bool {
	const much = 4 // of which a fourth is
	var held unix.Cachestat_t
	err := unix.Cachestat(uint(fd), &unix.CachestatRange{}, &held, 0)
	var st unix.Stat_t
	if err = errors.Join(err, unix.Fstat(fd, &st)); err != nil {
		return true
	}
	return held.Cache*uint64(os.Getpagesize())*much >= uint64(st.Blocks)*sectorSize //nolint:gosec // sizes are not negative
}

// alignedBuffer relies on the runtime only where it kept its habit of putting
// large objects at the start of a page.
func alignedBuffer() *[]byte {
	b := make([]byte, bounceSize+memoryAlign)
	skip := (memoryAlign - int(address(b)%memoryAlign)) % memoryAlign
	b = b[skip : skip+bounceSize]
	return &b
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) } //nolint:gosec // only its low bits matter

// Size is in bytes.
func (d *device) Size() int64 { return d.size }

// Close closes it.
func (d *device) Close() error { return d.file.Close() }

// straight says that the kernel takes the range as it is.
func (d *device) straight(p []byte, offset int64) bool {
	return d.align == 1 || d.whole(offset, int64(len(p))) && address(p)%memoryAlign == 0
}

// whole says that the range has no sector in part.
func (d *device) whole(offset, length int64) bool { return offset%d.align == 0 && length%d.align == 0 }

// ReadAt reads.
func (d *device) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("read %s at %d: %w", d.path, offset, os.ErrInvalid)
	}
	short := false
	if int64(len(p)) > d.size-offset {
		p, short = p[:max(0, d.size-offset)], true
	}
	n, err := d.read(p, offset)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (d *device) read(p []byte, offset int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if d.straight(p, offset) {
		return d.file.ReadAt(p, offset)
	}
	buf, ok := d.bounce.Get().(*[]byte)
	if !ok {
		return 0, os.ErrInvalid
	}
	defer d.bounce.Put(buf)
	done := 0
	for done < len(p) {
		at := offset + int64(done)
		start := at - at%d.align
		end := min(d.up(offset+int64(len(p))), start+bounceSize)
		b := (*buf)[:end-start]
		if _, err := d.file.ReadAt(b, start); err != nil {
			return done, err
		}
		done += copy(p[done:], b[at-start:])
	}
	return done, nil
}

func (d *device) up(n int64) int64 { return (n + d.align - 1) / d.align * d.align }

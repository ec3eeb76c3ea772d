package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// CreateImage makes an image of that many bytes that holds nothing yet.
func CreateImage(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create image: %w", err)
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("create image %s: %w", path, err)
	}
	return nil
}

// Clone makes target hold what source holds at this moment, whatever target
// held before. It tells whether the two share their blocks. Where the
// filesystem cannot share blocks the bytes are copied, which takes time: the
// copy is of one moment only if nobody writes source meanwhile. Target is not
// durable before SyncFile.
func Clone(source, target string) (shared bool, err error) {
	src, err := os.Open(source)
	if err != nil {
		return false, fmt.Errorf("clone: %w", err)
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(target, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("clone: %w", err)
	}
	err = unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	shared = err == nil
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) {
		err = copySparse(src, dst)
	}
	if err := errors.Join(err, dst.Close()); err != nil {
		return false, fmt.Errorf("clone %s to %s: %w", source, target, err)
	}
	return shared, nil
}

func copySparse(src, dst *os.File) error {
	st, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(0); err != nil {
		return err
	}
	if err := dst.Truncate(st.Size()); err != nil {
		return err
	}
	return dataRanges(src, 0, st.Size(), func(e Extent) error {
		_, err := io.Copy(io.NewOffsetWriter(dst, e.Offset), io.NewSectionReader(src, e.Offset, e.Length))
		return err
	})
}

// SyncFile makes what a file holds, or the names in a folder, durable.
func SyncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// Wipe makes an image read as zeros, keeping its size and its loops.
func Wipe(image string) error {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("wipe: %w", err)
	}
	st, err := f.Stat()
	if err == nil {
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, st.Size())
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("wipe %s: %w", image, err)
	}
	return nil
}

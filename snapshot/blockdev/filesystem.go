package blockdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Where filesystems keep what tells them apart.
const (
	extSuper    = 1024
	extMagic    = 0xEF53
	btrfsSuper  = 65536
	hasJournal  = 0x4
	ext4Only    = 0x40 | 0x80 | 0x200       // extents, 64-bit, flexible groups
	ext4OnlyRO  = 0x8 | 0x10 | 0x20 | 0x400 // huge files, checksums, links, metadata checksums
	superLength = 128
)

// Filesystem names the filesystem on a device: ext2, ext3, ext4, xfs, btrfs,
// or none of these, which is empty.
func Filesystem(r io.ReaderAt) (string, error) {
	first, err := probe(r, 0)
	if err != nil {
		return "", err
	}
	if bytes.HasPrefix(first, []byte("XFSB")) {
		return "xfs", nil
	}
	ext, err := probe(r, extSuper)
	if err != nil {
		return "", err
	}
	if binary.LittleEndian.Uint16(ext[56:]) == extMagic {
		return extVersion(ext), nil
	}
	btrfs, err := probe(r, btrfsSuper)
	if err != nil {
		return "", err
	}
	if bytes.HasPrefix(btrfs[64:], []byte("_BHRfS_M")) {
		return "btrfs", nil
	}
	return "", nil
}

func extVersion(super []byte) string {
	compatible := binary.LittleEndian.Uint32(super[92:])
	incompatible := binary.LittleEndian.Uint32(super[96:])
	readOnly := binary.LittleEndian.Uint32(super[100:])
	switch {
	case incompatible&ext4Only != 0 || readOnly&ext4OnlyRO != 0:
		return "ext4"
	case compatible&hasJournal != 0:
		return "ext3"
	}
	return "ext2"
}

// probe reads zeros where the device has ended.
func probe(r io.ReaderAt, offset int64) ([]byte, error) {
	b := make([]byte, superLength)
	if _, err := r.ReadAt(b, offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("look for a filesystem at %d: %w", offset, err)
	}
	return b, nil
}

package snapshottest

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// Device is a volume in memory, both snapshot.Source and snapshot.Sink.
type Device struct {
	// OnWrite, where set, is asked before each write or zeroing.
	OnWrite func(offset, length int64) error

	mu   sync.Mutex
	data []byte
}

// NewDevice returns a device that holds data, without copying it.
func NewDevice(data []byte) *Device { return &Device{data: data} }

// Size is in bytes.
func (d *Device) Size() int64 { return int64(len(d.data)) }

// Bytes returns a copy of what it holds.
func (d *Device) Bytes() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.data)
}

// ReadAt reads.
func (d *Device) ReadAt(p []byte, offset int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if offset > int64(len(d.data)) {
		return 0, io.EOF
	}
	n := copy(p, d.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes.
func (d *Device) WriteAt(p []byte, offset int64) (int, error) {
	if d.OnWrite != nil {
		if err := d.OnWrite(offset, int64(len(p))); err != nil {
			return 0, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if offset+int64(len(p)) > int64(len(d.data)) {
		return 0, fmt.Errorf("%d bytes at %d are past the end of the device", len(p), offset)
	}
	return copy(d.data[offset:], p), nil
}

// Zero zeroes.
func (d *Device) Zero(offset, length int64) error {
	if d.OnWrite != nil {
		if err := d.OnWrite(offset, length); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if offset < 0 || offset+length > int64(len(d.data)) {
		return fmt.Errorf("%d zeros at %d are past the end of the device", length, offset)
	}
	clear(d.data[offset : offset+length])
	return nil
}

// Sync does nothing: memory is as durable as the test.
func (d *Device) Sync() error { return nil }

package snapshottest

import (
	"sync"
	"syscall"

	"github.com/godwit-io/godwit/snapshot"
)

// Fault is a way in which a device fails.
type Fault string

const (
	// FaultEIO fails a read, a write, a zeroing or a sync.
	FaultEIO Fault = "EIO"
	// FaultENOSPC fails a write or a zeroing, as thin storage does.
	FaultENOSPC Fault = "ENOSPC"
	// FaultShort writes or reads a part, and says so without an error.
	FaultShort Fault = "short"
	// FaultTorn writes or reads a part, and says that all of it is done.
	FaultTorn Fault = "torn"
	// FaultTwice writes the same once more.
	FaultTwice Fault = "twice"
)

// Faults are all of them.
func Faults() []Fault { return []Fault{FaultEIO, FaultENOSPC, FaultShort, FaultTorn, FaultTwice} }

// FaultySink has its nth call fail in one way. It counts calls from 1.
type FaultySink struct {
	snapshot.Sink
	Fault Fault
	N     int

	mu     sync.Mutex
	calls  int
	struck bool
}

// Struck says whether the fault came.
func (f *FaultySink) Struck() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.struck
}

func (f *FaultySink) now(kinds ...Fault) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	for _, k := range kinds {
		if f.calls == f.N && k == f.Fault {
			f.struck = true
			return true
		}
	}
	return false
}

func (f *FaultySink) errno() error {
	if f.Fault == FaultENOSPC {
		return syscall.ENOSPC
	}
	return syscall.EIO
}

// ReadAt reads.
func (f *FaultySink) ReadAt(p []byte, offset int64) (int, error) {
	if !f.now(FaultEIO, FaultShort, FaultTorn) {
		return f.Sink.ReadAt(p, offset)
	}
	if f.Fault == FaultEIO {
		return 0, f.errno()
	}
	n, err := f.Sink.ReadAt(p, offset)
	if err != nil {
		return n, err
	}
	for i := n / 2; i < n; i++ {
		p[i] ^= 0x55
	}
	if f.Fault == FaultShort {
		return n / 2, nil
	}
	return n, nil
}

// WriteAt writes.
func (f *FaultySink) WriteAt(p []byte, offset int64) (int, error) {
	if !f.now(FaultEIO, FaultENOSPC, FaultShort, FaultTorn, FaultTwice) {
		return f.Sink.WriteAt(p, offset)
	}
	switch f.Fault {
	case FaultShort:
		return f.Sink.WriteAt(p[:len(p)/2], offset)
	case FaultTorn:
		_, err := f.Sink.WriteAt(p[:len(p)/2], offset)
		return len(p), err
	case FaultTwice:
		if n, err := f.Sink.WriteAt(p, offset); err != nil {
			return n, err
		}
		return f.Sink.WriteAt(p, offset)
	}
	return 0, f.errno()
}

// Zero zeroes.
func (f *FaultySink) Zero(offset, length int64) error {
	if !f.now(FaultEIO, FaultENOSPC, FaultTorn, FaultTwice) {
		return f.Sink.Zero(offset, length)
	}
	switch f.Fault {
	case FaultTorn:
		return f.Sink.Zero(offset, length/2)
	case FaultTwice:
		if err := f.Sink.Zero(offset, length); err != nil {
			return err
		}
		return f.Sink.Zero(offset, length)
	}
	return f.errno()
}

// Sync syncs.
func (f *FaultySink) Sync() error {
	if f.now(FaultEIO) {
		return f.errno()
	}
	return f.Sink.Sync()
}

var _ snapshot.Sink = (*FaultySink)(nil)

// Package process remembers a process across runs of the sandbox: by its id and the moment it
// started, so that an id which the kernel gave to another program is never taken for it.
package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Identity is one process, for ever. The zero value is no process.
type Identity struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks since boot
}

// Of identifies a running process.
func Of(pid int) (Identity, error) {
	_, started, err := stat(pid)
	if err != nil {
		return Identity{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return Identity{PID: pid, Started: started}, nil
}

// Alive reports whether the process still runs; one that ended but was not collected does not.
func (i Identity) Alive() bool {
	if i.PID <= 0 {
		return false
	}
	state, started, err := stat(i.PID)
	return err == nil && started == i.Started && state != 'Z' && state != 'X'
}

// Signal sends to the process if it is alive.
func (i Identity) Signal(sig syscall.Signal) error {
	if !i.Alive() {
		return nil
	}
	if err := syscall.Kill(i.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s to process %d: %w", sig, i.PID, err)
	}
	return nil
}

// Kill ends the process at once and waits until it is gone.
func (i Identity) Kill(ctx context.Context) error {
	if err := i.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	return i.WaitGone(ctx)
}

// WaitGone waits for the end of the process.
func (i Identity) WaitGone(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i.Alive() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d does not end: %w", i.PID, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// Save writes the identity to a file.
func (i Identity) Save(file string) error {
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}

// Load reads an identity; without the file it is no process.
func Load(file string) (Identity, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, nil
	}
	if err != nil {
		return Identity{}, err
	}
	var i Identity
	if err := json.Unmarshal(b, &i); err != nil {
		// Written by a start that was killed: whatever it was, its children died with it or are
		// found by other means.
		return Identity{}, nil //nolint:nilerr // see above
	}
	return i, nil
}

// stat reads state and start time. The command's name may hold spaces and brackets: the fields
// count from the last bracket.
func stat(pid int) (state byte, started uint64, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return 0, 0, errors.New("malformed stat")
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 20 {
		return 0, 0, errors.New("malformed stat")
	}
	started, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], started, err
}

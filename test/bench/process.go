package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// measure is what one run cost.
type measure struct {
	// Wall and CPU are in seconds; CPU is user and system time together.
	Wall float64 `json:"wall"`
	CPU  float64 `json:"cpu"`
	// Memory is the largest resident set, in bytes.
	Memory int64 `json:"memory"`
	// Requests to the object store, DataReads of packs of chunks among them.
	Requests  int64 `json:"requests"`
	DataReads int64 `json:"dataReads"`
	// Sent are the bytes of objects put, IndexSent those of indexes and lists of
	// chunks among them.
	Sent      int64 `json:"sent"`
	IndexSent int64 `json:"indexSent"`
	// Output is what the program wrote.
	Output []byte `json:"-"`
}

// process is a program to run.
type process struct {
	args []string
	env  []string
	dir  string
}

// run runs the program to its end. Its output is part of its error.
func (p process) run(ctx context.Context) (measure, error) {
	cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	cmd.Env, cmd.Dir = append(os.Environ(), p.env...), p.dir
	// A program that is killed by us shall not leave others behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	begun := time.Now()
	err := cmd.Run()
	m := measure{Wall: time.Since(begun).Seconds(), Output: out.Bytes()}
	if err != nil {
		return m, fmt.Errorf("%s: %w: %s", strings.Join(p.args, " "), err, lastLines(said.String()+out.String()))
	}
	m.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.Memory = usage.Maxrss * kib
	}
	return m, nil
}

// lastLines are where programs say what went wrong.
func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}

package node

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaper collects every child that ends, its own daemons and orphans alike, as the first process of
// a PID namespace must. Nothing else in the process may wait for children: os/exec would compete.
type reaper struct {
	mu   sync.Mutex // held while a child is started, so that none ends unknown
	ends map[int]chan syscall.WaitStatus
	// forks run on one thread that lives as long as the process: a child with a death signal gets
	// it when the thread that made it ends.
	forks chan func()
}

func newReaper() *reaper {
	return &reaper{ends: map[int]chan syscall.WaitStatus{}, forks: make(chan func())}
}

// fork makes the children.
func (r *reaper) fork() {
	runtime.LockOSThread()
	for f := range r.forks {
		f()
	}
}

// killAll kills every daemon with what it started in its own session, and returns when all have
// ended.
func (r *reaper) killAll() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for r.killOnce() > 0 {
		<-tick.C
	}
}

// killOnce returns how many daemons it found.
func (r *reaper) killOnce() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid := range r.ends {
		if err := unix.Kill(-pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			log.Printf("kill process group %d: %v", pid, err)
		}
	}
	return len(r.ends)
}

// run collects for ever.
func (r *reaper) run() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for {
		r.collect()
		<-ended
	}
}

func (r *reaper) collect() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		r.mu.Lock()
		if end, ok := r.ends[pid]; ok {
			delete(r.ends, pid)
			end <- ws
		}
		r.mu.Unlock()
	}
}

// keep runs the daemon until ctx ends. One that ends is started again, the sooner the longer it ran.
func (r *reaper) keep(ctx context.Context, d Daemon) {
	delay := 250 * time.Millisecond
	for ctx.Err() == nil {
		for _, p := range d.After {
			if p.Wait(ctx) != nil {
				return
			}
		}
		began := time.Now()
		end, err := r.start(d)
		if err != nil {
			log.Printf("%s does not start: %v", d.Name, err)
		} else {
			select {
			case <-ctx.Done():
				return
			case ws := <-end:
				log.Printf("%s ended after %s: %s; see %s", d.Name, time.Since(began).Round(time.Millisecond), describe(ws), d.Log)
			}
		}
		if time.Since(began) > time.Minute {
			delay = 250 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
			delay = min(2*delay, 5*time.Second)
		}
	}
}

func (r *reaper) start(d Daemon) (<-chan syscall.WaitStatus, error) {
	out, err := os.OpenFile(d.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close() //nolint:errcheck // the daemon has its own copy
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close() //nolint:errcheck // the daemon has its own copy
	end := make(chan syscall.WaitStatus, 1)
	done := make(chan error)
	r.forks <- func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		pid, err := syscall.ForkExec(d.Argv[0], d.Argv, &syscall.ProcAttr{
			Dir:   "/",
			Env:   append(os.Environ(), d.Env...),
			Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
			Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		})
		if err == nil {
			r.ends[pid] = end
			log.Printf("%s runs as process %d", d.Name, pid)
		}
		done <- err
	}
	return end, <-done
}

func describe(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}

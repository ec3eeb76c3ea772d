package node

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/process"
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

// keep runs the daemon until ctx ends, and kills it then. One that ends is started again, the sooner
// the longer it ran.
func (r *reaper) keep(ctx context.Context, d Daemon) {
	delay := 250 * time.Millisecond
	for ctx.Err() == nil {
		for _, p := range d.After {
			if p.Wait(ctx) != nil {
				return
			}
		}
		began := time.Now()
		child, err := r.start(d)
		if err != nil {
			log.Printf("%s does not start: %v", d.Name, err)
		} else {
			select {
			case <-ctx.Done():
				r.kill(child)
				<-child.end
				d.forget()
				return
			case ws := <-child.end:
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

// child is a daemon that was started.
type child struct {
	pid int
	end <-chan syscall.WaitStatus
}

// kill ends the child with what it started in its own session.
func (r *reaper) kill(c child) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, runs := r.ends[c.pid]; !runs {
		return // The number may be another's by now.
	}
	if err := unix.Kill(-c.pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		log.Printf("kill process group %d: %v", c.pid, err)
	}
}

func (r *reaper) start(d Daemon) (child, error) {
	out, err := os.OpenFile(d.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return child{}, err
	}
	defer out.Close() //nolint:errcheck // the daemon has its own copy
	null, err := os.Open(os.DevNull)
	if err != nil {
		return child{}, err
	}
	defer null.Close() //nolint:errcheck // the daemon has its own copy
	end := make(chan syscall.WaitStatus, 1)
	c := child{end: end}
	done := make(chan error)
	r.forks <- func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		pid, err := syscall.ForkExec(d.Argv[0], d.Argv, &syscall.ProcAttr{
			Dir:   "/",
			Env:   d.environ(),
			Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
			Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
		})
		if err == nil {
			c.pid, r.ends[pid] = pid, end
			log.Printf("%s runs as process %d", d.Name, pid)
			err = d.identify(pid)
		}
		done <- err
	}
	return c, <-done
}

// forget takes back what identify told.
func (d Daemon) forget() {
	if d.PIDFile == "" {
		return
	}
	if err := os.Remove(d.PIDFile); err != nil && !os.IsNotExist(err) {
		log.Print(err)
	}
}

// environ is this process's environment with the daemon's own instead of what has the same name:
// of two the kernel would pass both on, and programs take the first.
func (d Daemon) environ() []string {
	own := map[string]bool{}
	for _, v := range d.Env {
		name, _, _ := strings.Cut(v, "=")
		own[name] = true
	}
	all := slices.Clone(d.Env)
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !own[name] {
			all = append(all, v)
		}
	}
	return all
}

// identify tells which process the daemon is.
func (d Daemon) identify(pid int) error {
	if d.PIDFile == "" {
		return nil
	}
	id, err := process.Of(pid)
	if err != nil {
		return err
	}
	return id.Save(d.PIDFile)
}

func describe(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}

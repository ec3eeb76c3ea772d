package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/godwit-io/godwit/test/sandbox/internal/process"
)

// Node is a node seen from the host.
type Node struct {
	Dir    string // state: spec.json, init.json (the process), init.log
	Cgroup string
	Link   Link
}

// Link is the node's connection to the host's bridge; inside, it is eth0.
type Link struct {
	Name, MAC, Bridge string
}

// Start makes the node from the spec. One that runs is left as it is; what a dead one left behind
// is swept first.
func (n Node) Start(ctx context.Context, spec Spec) error {
	if n.Running() {
		return nil
	}
	if err := n.Stop(ctx); err != nil {
		return err
	}
	specFile := filepath.Join(n.Dir, "spec.json")
	if err := spec.Save(specFile); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(n.Dir, "init.log"))
	if err != nil {
		return err
	}
	defer logFile.Close() //nolint:errcheck // the child has its own copy
	// Not CommandContext: the node outlives the program that starts it.
	cmd := exec.Command(self, "node-init", specFile) //nolint:noctx // ourselves
	cmd.Stdout, cmd.Stderr, cmd.Dir = logFile, logFile, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: namespaces,
	}
	ready, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer ready.Close() //nolint:errcheck // init ends when it closes without a byte
	prepared, answer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer prepared.Close() //nolint:errcheck // read only
	cmd.ExtraFiles = []*os.File{answer}
	err = cmd.Start()
	_ = answer.Close()
	if err != nil {
		return fmt.Errorf("start the first process of %s: %w", n.Cgroup, err)
	}
	return n.release(ctx, cmd, ready, prepared)
}

// release gives the waiting init its place on the host, lets it go on, and returns when it has made
// the node's mounts.
func (n Node) release(ctx context.Context, cmd *exec.Cmd, ready io.Writer, prepared io.Reader) error {
	id, err := process.Of(cmd.Process.Pid)
	if err == nil {
		err = id.Save(n.pidFile())
	}
	if err == nil {
		err = joinCgroup(n.Cgroup, id.PID)
	}
	if err == nil {
		err = n.Link.connect(ctx, id.PID)
	}
	if err == nil {
		_, err = ready.Write([]byte{'\n'})
	}
	if err == nil {
		if _, err = io.ReadFull(prepared, make([]byte, 1)); err != nil {
			err = errors.New(n.LastWords())
		}
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("prepare node %s: %w", n.Cgroup, err)
	}
	go cmd.Wait() //nolint:errcheck // collected if it ends while this program runs; Running tells
	return nil
}

// Running reports whether the node's first process lives.
func (n Node) Running() bool {
	id, err := process.Load(n.pidFile())
	return err == nil && id.Alive()
}

// PID is the first process of the node as the host counts, 0 if it does not run.
func (n Node) PID() int {
	id, err := process.Load(n.pidFile())
	if err != nil || !id.Alive() {
		return 0
	}
	return id.PID
}

// Stop ends the node and removes what it leaves on the host, also after a crash. Loop devices are
// the caller's: nodes of one cluster share an image.
func (n Node) Stop(ctx context.Context) error {
	id, err := process.Load(n.pidFile())
	if err != nil {
		return err
	}
	if err := id.Kill(ctx); err != nil {
		return err
	}
	if err := n.Link.remove(ctx); err != nil {
		return err
	}
	if err := removeCgroup(ctx, n.Cgroup); err != nil {
		return err
	}
	if err := os.Remove(n.pidFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// LastWords returns the end of the log of the node's first process, for messages about its death.
func (n Node) LastWords() string {
	b, err := os.ReadFile(filepath.Join(n.Dir, "init.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
}

// Enter is the command line that runs argv inside the node's namespaces.
func (n Node) Enter(argv ...string) ([]string, error) {
	pid := n.PID()
	if pid == 0 {
		return nil, fmt.Errorf("node %s does not run: start it with sandbox up", n.Cgroup)
	}
	return append([]string{"nsenter", "-t", strconv.Itoa(pid), "-m", "-n", "-u", "-i", "-p", "--"}, argv...), nil
}

// Path is where a path inside the node is found from the host while the node runs.
func (n Node) Path(inside string) string {
	return filepath.Join("/proc", strconv.Itoa(n.PID()), "root", inside)
}

func (n Node) pidFile() string { return filepath.Join(n.Dir, "init.json") }

// connect makes the link between the bridge and the process's network namespace.
func (l Link) connect(ctx context.Context, pid int) error {
	if err := l.remove(ctx); err != nil {
		return err
	}
	return IP(ctx,
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %d", l.Name, l.MAC, pid),
		fmt.Sprintf("link set %s master %s up", l.Name, l.Bridge),
	)
}

// remove is also for links whose other end the kernel is about to take away.
func (l Link) remove(ctx context.Context) error {
	if !HasLink(l.Name) {
		return nil
	}
	if err := IP(ctx, "link del "+l.Name); err != nil && HasLink(l.Name) {
		return err
	}
	return nil
}

// HasLink reports whether the host has a network interface of that name.
func HasLink(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name))
	return err == nil
}

// IP runs ip -batch on the host.
func IP(ctx context.Context, lines ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(lines, "; "), err, bytes.TrimSpace(out))
	}
	return nil
}

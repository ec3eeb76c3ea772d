package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// shownDir holds the files that are bound over tunables; it is on the node's own /run.
const shownDir = "/run/shown"

// Init is the first process of a node. It returns when it is asked to end (SIGTERM) and every other
// process of the node is dead, or when the node cannot be made.
//
// The caller moves it into its control group and gives it its network link while it waits for a
// byte on ready; it answers on prepared when all mounts are made.
func Init(ctx context.Context, specFile string, ready io.Reader, prepared io.WriteCloser) error {
	if os.Getpid() != 1 {
		return errors.New("node-init is the first process of a node: it is started by sandbox up, not by hand")
	}
	spec, err := LoadSpec(specFile)
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		return fmt.Errorf("sandbox up ended before the node was prepared: %w", err)
	}
	if err := prepare(ctx, spec); err != nil {
		return fmt.Errorf("prepare node %s: %w", spec.Hostname, err)
	}
	if _, err := prepared.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("sandbox up ended while the node was prepared: %w", err)
	}
	if err := prepared.Close(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	Supervise(ctx, spec.Daemons, "")
	// From the first process of a PID namespace -1 means all of that namespace but itself.
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill every process of the node: %w", err)
	}
	return nil
}

func prepare(ctx context.Context, spec Spec) error {
	// From here on nothing that the host mounts appears in the node, and nothing of the node on
	// the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// Pods ask for mounts that propagate from the node (HostToContainer) and to it (Bidirectional).
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	for _, m := range spec.Mounts {
		if err := m.make(); err != nil {
			return err
		}
	}
	if err := IP(ctx, spec.Network...); err != nil {
		return err
	}
	for name, value := range spec.Sysctls {
		if err := os.WriteFile(sysctlFile(name), []byte(value), 0); err != nil {
			return fmt.Errorf("set %s to %s: %w", name, value, err)
		}
	}
	for name, value := range spec.Shown {
		if err := show(name, value); err != nil {
			return err
		}
	}
	return raiseFileLimit()
}

func (m Mount) make() error {
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return err
	}
	var flags uintptr
	kind := m.Type
	switch kind {
	case "bind":
		flags, kind = unix.MS_BIND, ""
	case "rbind":
		flags, kind = unix.MS_BIND|unix.MS_REC, ""
	}
	if err := unix.Mount(m.Source, m.Target, kind, flags, m.Data); err != nil {
		return fmt.Errorf("mount %s (%s) on %s: %w", m.Source, m.Type, m.Target, err)
	}
	return nil
}

func sysctlFile(name string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
}

func show(name, value string) error {
	if err := os.MkdirAll(shownDir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(shownDir, name)
	if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(file, sysctlFile(name), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s as %s: %w", name, value, err)
	}
	return nil
}

func raiseFileLimit() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise limit of open files: %w", err)
	}
	return nil
}

// Supervise runs the daemons, and those whose files come into the folder added (unless that is
// empty), until ctx ends, then kills them. Should this process be killed first, the kernel kills
// them.
func Supervise(ctx context.Context, daemons []Daemon, added string) {
	r := newReaper()
	go r.run()
	go r.fork()
	for _, d := range daemons {
		go r.keep(ctx, d)
	}
	if added != "" {
		go r.follow(ctx, added)
	}
	<-ctx.Done()
	log.Print("asked to end")
	r.killAll()
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/node"
	"github.com/godwit-io/godwit/test/sandbox/internal/process"
)

// Beside is what programs need to know that run beside a cluster without containers, in the place
// of its pods.
type Beside struct {
	NodeName   string `json:"nodeName"`
	KubeletDir string `json:"kubeletDir"` // as /var/lib/kubelet on a node
	Dir        string `json:"dir"`        // theirs to keep files in; it goes with the cluster
	Logs       string `json:"logs"`       // where their logs are
	Ports      []int  `json:"ports"`      // on 127.0.0.1, free for them
}

// daemonEnd is how long an asked daemon may take to end.
const daemonEnd = 10 * time.Second

var errNoContainers = errors.New("programs run beside a cluster only where it was made with --control-plane: others have pods")

// Beside tells what programs beside the cluster need.
func (c Cluster) Beside() (Beside, error) {
	if !c.ControlPlane {
		return Beside{}, fmt.Errorf("cluster %s: %w", c.Name, errNoContainers)
	}
	if err := os.MkdirAll(c.beside(), 0o755); err != nil {
		return Beside{}, err
	}
	return Beside{
		NodeName: c.NodeName(0), KubeletDir: c.KubeletDir(), Dir: c.beside(),
		Logs: c.nodePath(0, "logs"), Ports: c.Place.SparePorts(),
	}, nil
}

func (c Cluster) beside() string { return c.path("beside") }

func (c Cluster) addedDaemons() string { return c.path("daemons") }

func (c Cluster) daemonPID(name string) string {
	return filepath.Join(c.addedDaemons(), name+".process")
}

// StartDaemon lets a program run beside the cluster for as long as that is up: it is started again
// whenever it ends. One of the same name with other words is replaced; without any words the one
// that StopDaemon has ended is meant.
func (c Cluster) StartDaemon(name string, argv, env []string) error {
	if !c.ControlPlane {
		return fmt.Errorf("cluster %s: %w", c.Name, errNoContainers)
	}
	if !regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`).MatchString(name) {
		return fmt.Errorf("daemon name %q: use lower case letters, digits and dashes", name)
	}
	if len(argv) == 0 {
		if err := os.Rename(c.stoppedDaemon(name), node.AddedFile(c.addedDaemons(), name)); err != nil {
			return fmt.Errorf("daemon %s of cluster %s was never started, or runs: %w", name, c.Name, err)
		}
		return nil
	}
	if !filepath.IsAbs(argv[0]) {
		return fmt.Errorf("daemon %s: name its program by a whole path", name)
	}
	return node.Daemon{Name: name, Argv: argv, Env: env, Log: c.log(0, name), PIDFile: c.daemonPID(name)}.SaveAdded(c.addedDaemons())
}

func (c Cluster) stoppedDaemon(name string) string {
	return filepath.Join(c.addedDaemons(), name+".stopped")
}

// StopDaemon ends the program. One that is not there is ended.
func (c Cluster) StopDaemon(ctx context.Context, name string) error {
	if err := os.Rename(node.AddedFile(c.addedDaemons(), name), c.stoppedDaemon(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, daemonEnd)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for c.planeRuns() { // which removes the file when the daemon has ended
		if _, err := os.Stat(c.daemonPID(name)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("daemon %s of cluster %s does not end: %w", name, c.Name, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// KillDaemon kills the program's process; it is started again.
func (c Cluster) KillDaemon(ctx context.Context, name string) error {
	id, err := process.Load(c.daemonPID(name))
	if err != nil {
		return err
	}
	if !id.Alive() {
		return fmt.Errorf("daemon %s of cluster %s does not run: see %s", name, c.Name, c.log(0, name))
	}
	if err := id.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, daemonEnd)
	defer cancel()
	return id.WaitGone(ctx)
}

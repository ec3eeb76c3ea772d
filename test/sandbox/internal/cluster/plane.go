package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/node"
	"github.com/godwit-io/godwit/test/sandbox/internal/process"
	"github.com/godwit-io/godwit/test/sandbox/internal/standin"
)

// Plane is what runs a cluster without containers: its daemons, and the stand-in for kubelet.
type Plane struct {
	Daemons []node.Daemon  `json:"daemons"`
	StandIn standin.Config `json:"standIn"`
	// Added is the folder of daemons that come and go while the cluster is up.
	Added string `json:"added"`
}

// maxSocket is the longest path of a Unix socket.
const maxSocket = 107

// KubeletDir is where pods' volumes are found from the host, laid out as /var/lib/kubelet.
func (c Cluster) KubeletDir() string { return c.nodePath(0, "kubelet") }

// plane is all of a cluster without containers.
func (c Cluster) plane() (Plane, error) {
	p := Plane{Added: c.addedDaemons(), StandIn: standin.Config{
		Kubeconfig: c.path("addons.kubeconfig"), NodeName: c.NodeName(0), KubeletDir: c.KubeletDir(), Drivers: map[string]string{},
	}}
	for _, d := range c.storage() {
		socket := c.socket(d)
		if len(socket) > maxSocket {
			return p, fmt.Errorf("folder %s is too deep: sockets in it would have paths of more than %d characters; choose another with --dir", c.Dir, maxSocket)
		}
		p.StandIn.Drivers[d.Name] = socket
	}
	p.Daemons = append(p.Daemons, c.controlPlane()...)
	p.Daemons = append(p.Daemons, c.drivers(0)...)
	p.Daemons = append(p.Daemons, c.sidecars()...)
	return p, nil
}

// RunPlane runs what the file says until ctx ends. It is the body of the process that startPlane
// starts.
func RunPlane(ctx context.Context, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var p Plane
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		failed <- standin.Run(ctx, p.StandIn)
		cancel()
	}()
	node.Supervise(ctx, p.Daemons, p.Added)
	select {
	case err := <-failed:
		if !errors.Is(err, context.Canceled) {
			return err
		}
	default:
	}
	return nil
}

// startPlane starts the cluster unless it runs.
func (c Cluster) startPlane(ctx context.Context, now time.Time) error {
	if c.Running() > 0 {
		return nil
	}
	if err := c.makeDirs(); err != nil {
		return err
	}
	if err := c.ensureCertificates(now); err != nil {
		return err
	}
	p, err := c.plane()
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.path("plane.json"), b, 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(c.nodePath(0), "init.log"))
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // the child has its own copy
	// Not CommandContext: the cluster outlives the program that starts it.
	cmd := exec.Command(self, "plane-run", c.path("plane.json")) //nolint:noctx // ourselves
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() //nolint:errcheck // collected if it ends while this program runs; Running tells
	id, err := process.Of(cmd.Process.Pid)
	if err != nil {
		return err
	}
	return id.Save(c.planeFile())
}

func (c Cluster) planeFile() string { return c.path("plane-process.json") }

func (c Cluster) planeRuns() bool {
	id, err := process.Load(c.planeFile())
	return err == nil && id.Alive()
}

// stopPlane ends the cluster: politely first, so that its daemons are killed by the process that
// waits for them.
func (c Cluster) stopPlane(ctx context.Context) error {
	id, err := process.Load(c.planeFile())
	if err != nil {
		return err
	}
	if err := id.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	polite, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if id.WaitGone(polite) != nil {
		if err := id.Kill(ctx); err != nil {
			return err
		}
	}
	if err := os.Remove(c.planeFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lastWords is the end of the log of a node's first process, or of the plane's.
func (c Cluster) lastWords(i int) string {
	if !c.ControlPlane {
		return c.Node(i).LastWords()
	}
	b, err := os.ReadFile(filepath.Join(c.nodePath(0), "init.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
}

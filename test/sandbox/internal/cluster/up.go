package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/kubeapi"
	"github.com/godwit-io/godwit/test/sandbox/internal/node"
)

// volumesSize is what the volumes image may grow to; it is sparse.
const volumesSize = 64 << 30

// Up brings the cluster up and returns when pods with volumes can run in it. One that is up is only
// looked at; one that crashed comes up with its state.
func (c Cluster) Up(ctx context.Context, progress io.Writer) error {
	began := time.Now()
	tell := func(what string) {
		fmt.Fprintf(progress, "%s: %s after %.1f s\n", c.Name, what, time.Since(began).Seconds())
	}
	start := c.start
	if c.ControlPlane {
		start = c.startPlane
	}
	if err := start(ctx, began); err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	// A node that dies while it is waited for is told at once, not when the time is over.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go c.watch(ctx, cancel)
	if err := c.wait(ctx, began, tell); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
		return fmt.Errorf("cluster %s: %w; its logs are in %s", c.Name, err, c.nodePath(0, "logs"))
	}
	tell("ready")
	return nil
}

// start starts the nodes that do not run.
func (c Cluster) start(ctx context.Context, now time.Time) error {
	if c.Running() == c.Nodes {
		return nil
	}
	if err := c.makeDirs(); err != nil {
		return err
	}
	if err := c.ensureCertificates(now); err != nil {
		return err
	}
	if c.Running() == 0 { // volumes left attached by a crash are in nobody's use
		if err := node.DetachLoops(ctx, c.volumesImage()); err != nil {
			return err
		}
	}
	volumes, err := c.attachVolumes(ctx)
	if err != nil {
		return err
	}
	// The mounts of the nodes keep the device; without one it goes when this closes.
	defer volumes.Close() //nolint:errcheck // nothing is written through it
	for i := range c.Nodes {
		if err := c.writeConfigs(i); err != nil {
			return err
		}
		if err := c.Node(i).Start(ctx, c.spec(i, volumes.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (c Cluster) volumesImage() string { return c.path("volumes.xfs") }

func (c Cluster) attachVolumes(ctx context.Context) (*os.File, error) {
	image := c.volumesImage()
	if _, err := os.Stat(image); errors.Is(err, os.ErrNotExist) {
		tmp := image + ".new"
		if err := os.WriteFile(tmp, nil, 0o600); err != nil {
			return nil, err
		}
		if err := os.Truncate(tmp, volumesSize); err != nil {
			return nil, err
		}
		if out, err := exec.CommandContext(ctx, "mkfs.xfs", "-q", "-f", "-m", "reflink=1", tmp).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("mkfs.xfs %s: %w: %s", tmp, err, bytes.TrimSpace(out))
		}
		if err := os.Rename(tmp, image); err != nil {
			return nil, err
		}
	}
	return node.AttachLoop(image)
}

// watch ends ctx when a node is dead.
func (c Cluster) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range c.Nodes {
			if !c.nodeRuns(i) {
				cancel(fmt.Errorf("node %s ended: %s", c.NodeName(i), c.lastWords(i)))
				return
			}
		}
	}
}

// wait returns when all that was started works.
func (c Cluster) wait(ctx context.Context, now time.Time, tell func(string)) error {
	images := make(chan error, 1)
	if c.ControlPlane {
		images <- nil // no container, no image
	} else {
		go func() { images <- c.loadFirst(ctx) }()
	}
	api, err := c.Client(now)
	if err != nil {
		return err
	}
	if err := c.api().Wait(ctx); err != nil {
		return err
	}
	tell("API server ready")
	if err := c.apply(ctx, api); err != nil {
		return err
	}
	if err := api.Until(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil, func() bool { return true }); err != nil {
		return err
	}
	if err := <-images; err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make([]error, c.Nodes)
	for i := range c.Nodes {
		all.Go(func() { errs[i] = c.waitNode(ctx, api, c.NodeName(i)) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	tell(fmt.Sprintf("%d node(s) with their CSI drivers ready", c.Nodes))
	if c.ControlPlane {
		return nil
	}
	return node.Probe{URL: fmt.Sprintf("http://%s:8181/ready", c.ip(0))}.Wait(ctx)
}

func (c Cluster) waitNode(ctx context.Context, api *kubeapi.Client, name string) error {
	var n struct {
		Status struct {
			Conditions []struct{ Type, Status string } `json:"conditions"`
		} `json:"status"`
	}
	err := api.Until(ctx, "/api/v1/nodes/"+name, &n, func() bool {
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" {
				return c.Status == "True"
			}
		}
		return false
	})
	if err != nil {
		return fmt.Errorf("node %s is not Ready: %w", name, err)
	}
	var csi struct {
		Spec struct {
			Drivers []struct{ Name string } `json:"drivers"`
		} `json:"spec"`
	}
	err = api.Until(ctx, "/apis/storage.k8s.io/v1/csinodes/"+name, &csi, func() bool {
		return len(csi.Spec.Drivers) >= len(c.storage())
	})
	if err != nil {
		return fmt.Errorf("not all CSI drivers registered on node %s: %w", name, err)
	}
	return nil
}

// Down ends the cluster and removes all it has on the machine but its folder.
func (c Cluster) Down(ctx context.Context) error {
	if c.ControlPlane {
		if err := c.stopPlane(ctx); err != nil {
			return fmt.Errorf("cluster %s: %w", c.Name, err)
		}
		return nil
	}
	var all sync.WaitGroup
	errs := make([]error, c.Nodes)
	for i := range c.Nodes {
		all.Go(func() { errs[i] = c.Node(i).Stop(ctx) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	if err := node.DetachLoops(ctx, c.volumesImage()); err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return nil
}

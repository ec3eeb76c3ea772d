package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/godwit-io/godwit/test/sandbox/internal/image"
	"github.com/godwit-io/godwit/test/sandbox/internal/node"
)

// Load gives an image archive to every node and reports how many lacked it.
func (c Cluster) Load(ctx context.Context, archive string) (int, error) {
	if c.ControlPlane {
		return 0, fmt.Errorf("cluster %s runs no containers (--control-plane): it has no use for images", c.Name)
	}
	wanted, err := image.Names(archive)
	if err != nil {
		return 0, fmt.Errorf("image archive %s: %w", archive, err)
	}
	loaded := 0
	for i := range c.Nodes {
		have, err := c.images(ctx, i)
		if err != nil {
			return loaded, err
		}
		if contains(have, wanted) {
			continue
		}
		if _, err := c.ctr(ctx, i, "images", "import", archive); err != nil {
			return loaded, fmt.Errorf("import %s into node %s: %w", archive, c.NodeName(i), err)
		}
		loaded++
	}
	return loaded, nil
}

// contains reports whether all wanted names are there with their digests; an archive that does not
// tell its digests is never known to be there.
func contains(have, wanted map[string]string) bool {
	for name, digest := range wanted {
		if digest == "" || have[name] != digest {
			return false
		}
	}
	return len(wanted) > 0
}

// images are names and digests of what node i has.
func (c Cluster) images(ctx context.Context, i int) (map[string]string, error) {
	out, err := c.ctr(ctx, i, "images", "list")
	if err != nil {
		return nil, err
	}
	have := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		if f := strings.Fields(line); len(f) > 2 { // REF TYPE DIGEST …
			have[f[0]] = f[2]
		}
	}
	return have, nil
}

// ctr talks to the containerd of node i through the node's own /run.
func (c Cluster) ctr(ctx context.Context, i int, args ...string) (string, error) {
	n := c.Node(i)
	if !n.Running() {
		return "", fmt.Errorf("node %s does not run: start it with sandbox up", c.NodeName(i))
	}
	args = append([]string{"--address", n.Path(containerdSocket), "--namespace", "k8s.io"}, args...)
	cmd := exec.CommandContext(ctx, "ctr", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ctr: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// loadFirst loads the images without which no pod runs.
func (c Cluster) loadFirst(ctx context.Context) error {
	for i := range c.Nodes {
		if err := (node.Probe{Socket: c.Node(i).Path(containerdSocket)}).Wait(ctx); err != nil {
			return err
		}
	}
	for _, archive := range c.Images {
		if _, err := c.Load(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

package scenario

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// Cluster is one Kubernetes cluster, reached as its administrator.
type Cluster struct {
	Name       string
	Kubeconfig string
	// Program is kubectl.
	Program string
	reader  *reader
}

func newCluster(name, kubeconfig, program string) (Cluster, error) {
	r, err := newReader(kubeconfig)
	if err != nil {
		return Cluster{}, fmt.Errorf("cluster %s: %w", name, err)
	}
	return Cluster{Name: name, Kubeconfig: kubeconfig, Program: program, reader: r}, nil
}

func (c Cluster) args(args []string) []string {
	return append([]string{"--kubeconfig", c.Kubeconfig}, args...)
}

// Kubectl runs kubectl and returns what it printed.
func (c Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	out, err := command{}.run(ctx, c.Program, c.args(args)...)
	if err != nil {
		return string(out), fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return string(out), nil
}

// Apply applies a manifest as its user would, by server-side apply.
func (c Cluster) Apply(ctx context.Context, manifest []byte) error {
	cmd := command{stdin: bytes.NewReader(manifest)}
	_, err := cmd.run(ctx, c.Program, c.args([]string{"apply", "--server-side", "--force-conflicts", "-f", "-"})...)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return nil
}

// Script runs a bash script in a container of a pod or of a Deployment's pod,
// and returns its standard output.
func (c Cluster) Script(ctx context.Context, namespace, where, script string) ([]byte, error) {
	cmd := command{stdin: strings.NewReader(script)}
	out, err := cmd.run(ctx, c.Program, c.args([]string{"-n", namespace, "exec", "-i", where, "--", "bash", "-s"})...)
	if err != nil {
		return out, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return out, nil
}

// EnsureNamespace makes the namespace unless it is there.
func (c Cluster) EnsureNamespace(ctx context.Context, name string) error {
	return c.Apply(ctx, fmt.Appendf(nil, "{apiVersion: v1, kind: Namespace, metadata: {name: %q}}\n", name))
}

// Rollout waits until a Deployment, StatefulSet or DaemonSet runs as it should.
func (c Cluster) Rollout(ctx context.Context, namespace, workload, patience string) error {
	_, err := c.Kubectl(ctx, "-n", namespace, "rollout", "status", workload, "--timeout", patience)
	if err == nil {
		return nil
	}
	pods, other := c.Kubectl(ctx, "-n", namespace, "get", "pods", "-o", "wide")
	if other != nil {
		return err
	}
	return fmt.Errorf("%w\npods of namespace %s:\n%s", err, namespace, pods)
}

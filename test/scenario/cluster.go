package scenario

import (
	"context"
	"fmt"
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

// EnsureNamespace makes the namespace unless it is there.
func (c Cluster) EnsureNamespace(ctx context.Context, name string) error {
	return c.Apply(ctx, fmt.Appendf(nil, "{apiVersion: v1, kind: Namespace, metadata: {name: %q}}\n", name))
}

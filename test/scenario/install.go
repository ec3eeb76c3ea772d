package scenario

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Namespace is where Godwit is installed.
const Namespace = "godwit-system"

// Names of what the chart makes for the release godwit.
const (
	Controller = "deployment/godwit-controller"
	Node       = "daemonset/godwit-node"
)

// Install puts the chart into both clusters, or brings them to the present
// chart and image, and waits until Godwit runs there.
func (g *Ground) Install(ctx context.Context) error {
	clusters := []Cluster{g.Source, g.Target}
	for _, c := range clusters {
		if err := g.apply(ctx, c); err != nil {
			return fmt.Errorf("install Godwit in cluster %s: %w", c.Name, err)
		}
	}
	for _, c := range clusters {
		for _, workload := range []string{Controller, Node} {
			if err := c.Rollout(ctx, Namespace, workload, "120s"); err != nil {
				return fmt.Errorf("install Godwit: %w", err)
			}
		}
	}
	return nil
}

// apply is helm's install without helm's own state: what the chart renders,
// applied. The kinds come first, since a kind has to be there before its users.
func (g *Ground) apply(ctx context.Context, c Cluster) error {
	if err := c.EnsureNamespace(ctx, Namespace); err != nil {
		return err
	}
	kinds := filepath.Join(g.Root, "deploy", "chart", "crds")
	if _, err := c.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-f", kinds); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "wait", "--for", "condition=Established", "--timeout", "30s", "-f", kinds); err != nil {
		return err
	}
	manifest, err := g.render(ctx, c)
	if err != nil {
		return err
	}
	return c.Apply(ctx, manifest)
}

// render is helm template, with helm built from its pinned module.
func (g *Ground) render(ctx context.Context, c Cluster) ([]byte, error) {
	repository, tag, _ := strings.Cut(g.Godwit.Name, ":")
	args := []string{
		"tool", "-modfile=.tools/helm/go.mod", "helm", "template", "godwit", "deploy/chart", "--namespace", Namespace,
		"--set", "clusterName=" + c.Name, "--set", "image.repository=" + repository, "--set", "image.tag=" + tag,
	}
	if g.sandbox != nil {
		// The tag stays while the image changes: this is what lets pods roll.
		digest, err := digest(g.Godwit.Archive)
		if err != nil {
			return nil, err
		}
		for _, part := range []string{"controller", "node"} {
			args = append(args, "--set-string", part+".podAnnotations.image-archive="+digest)
		}
	}
	return command{dir: g.Root}.run(ctx, "go", args...)
}

func digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

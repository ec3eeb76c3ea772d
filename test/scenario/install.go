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

	"golang.org/x/sync/errgroup"
)

// Namespace is where Godwit is installed.
const Namespace = "godwit-system"

// Names of what the chart makes for the release godwit.
const (
	Controller = "deployment/godwit-controller"
	Node       = "daemonset/godwit-node"

	ControllerAccount = "godwit-controller"
	NodeAccount       = "godwit-node"
)

// BuildHelm has helm ready to render the chart. Where it was never built that takes
// minutes, of which Install says nothing.
func (g *Ground) BuildHelm(ctx context.Context) error {
	_, err := Tool(ctx, g.Root, "helm")
	return err
}

// Install puts the chart into both clusters, or brings them to the present
// chart and image, and waits until Godwit runs there.
func (g *Ground) Install(ctx context.Context) error {
	if g.sandbox != nil && g.sandbox.ControlPlane {
		return g.installBeside(ctx, g.Source, g.Target)
	}
	clusters := []Cluster{g.Source, g.Target}
	helm, err := Tool(ctx, g.Root, "helm")
	if err != nil {
		return err
	}
	each, eachCtx := errgroup.WithContext(ctx)
	for _, c := range clusters {
		each.Go(func() error {
			if err := g.apply(eachCtx, c, helm); err != nil {
				return fmt.Errorf("install Godwit in cluster %s: %w", c.Name, err)
			}
			return nil
		})
	}
	if err := each.Wait(); err != nil {
		return err
	}
	for _, c := range clusters {
		for _, workload := range []string{Controller, Node} {
			if err := c.Rollout(ctx, Namespace, workload); err != nil {
				return fmt.Errorf("install Godwit: %w", err)
			}
		}
	}
	return nil
}

// apply is helm's install without helm's own state: what the chart renders,
// applied.
func (g *Ground) apply(ctx context.Context, c Cluster, helm string) error {
	if err := g.applyKinds(ctx, c); err != nil {
		return err
	}
	args, err := g.rolling()
	if err != nil {
		return err
	}
	manifest, err := g.render(ctx, c, helm, args...)
	if err != nil {
		return err
	}
	return c.Apply(ctx, manifest)
}

// applyKinds comes first, since a kind has to be there before its users.
func (g *Ground) applyKinds(ctx context.Context, c Cluster) error {
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
	return nil
}

// rolling lets pods roll when the image changes while its tag stays.
func (g *Ground) rolling() ([]string, error) {
	if g.sandbox == nil {
		return nil, nil
	}
	digest, err := digest(g.Godwit.Archive)
	if err != nil {
		return nil, err
	}
	var args []string
	for _, part := range []string{"controller", "node"} {
		args = append(args, "--set-string", part+".podAnnotations.image-archive="+digest)
	}
	return args, nil
}

// Tool is the path of a program of others, built from its pinned module unless
// it is built already.
func Tool(ctx context.Context, root, name string) (string, error) {
	out, err := command{dir: root}.run(ctx, "go", "tool", "-modfile="+filepath.Join(".tools", name, "go.mod"), "-n", name)
	return strings.TrimSpace(string(out)), err
}

// render is helm template.
func (g *Ground) render(ctx context.Context, c Cluster, helm string, more ...string) ([]byte, error) {
	repository, tag, _ := strings.Cut(g.Godwit.Name, ":")
	args := []string{
		"template", "godwit", "deploy/chart", "--namespace", Namespace,
		"--set", "clusterName=" + c.Name, "--set", "rules.enabled=true", "--set", "hooks.enabled=true", "--set", "image.repository=" + repository, "--set", "image.tag=" + tag,
	}
	if g.HookRunner.Name != "" {
		args = append(args, "--set", "hooks.runnerImage="+g.HookRunner.Name)
	}
	return command{dir: g.Root}.run(ctx, helm, append(args, more...)...)
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

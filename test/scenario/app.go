package scenario

import (
	"context"
	"embed"
	"fmt"
	"strings"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// App is an application in one namespace.
type App struct {
	Namespace string
	// manifest is its file, workloads what has to run before it is complete.
	manifest  string
	workloads []string
	// megabytes is how much a vault holds.
	megabytes int
	// class, where set, is that of its volumes, which are shared then.
	class string
}

// FullApp is a database under inserts, a raw volume, a shared tree and a front end.
func FullApp(namespace string) App {
	return App{Namespace: namespace, manifest: "app.yaml", workloads: []string{
		"statefulset/postgres", "deployment/ledger", "deployment/uploads", "deployment/front", "deployment/writer",
	}}
}

// Vault is the smallest application with data: one Deployment, one volume with
// a filesystem on block storage, and that many random megabytes in it.
func Vault(namespace string, megabytes int) App {
	return App{Namespace: namespace, manifest: "vault.yaml", workloads: []string{"deployment/vault"}, megabytes: megabytes}
}

// OnFiler is a vault whose volume is of a storage that both clusters reach.
func OnFiler(namespace string, megabytes int) App {
	a := Vault(namespace, megabytes)
	a.class = "csi-filer"
	return a
}

// Tree is a folder of files in a container.
type Tree struct{ Namespace, Where, Folder string }

// Uploads is the full application's shared tree.
func (a App) Uploads() Tree {
	return Tree{Namespace: a.Namespace, Where: "deployment/uploads", Folder: "/uploads"}
}

// Data is a vault's volume.
func (a App) Data() Tree {
	return Tree{Namespace: a.Namespace, Where: "deployment/vault", Folder: "/data"}
}

// AddKinds installs the kind of the applications' custom resource in a cluster, as its
// administrator does: no Migration brings it.
func AddKinds(ctx context.Context, c Cluster) error {
	kinds, err := manifests.ReadFile("manifests/crd.yaml")
	if err != nil {
		return err
	}
	return c.Apply(ctx, kinds)
}

// Start brings the application up in the source, complete with its data.
func (g *Ground) Start(ctx context.Context, a App) error {
	for _, c := range []Cluster{g.Source, g.Target} {
		if err := AddKinds(ctx, c); err != nil {
			return err
		}
	}
	if _, err := g.Source.Kubectl(ctx, "wait", "--for", "condition=Established", "--timeout", "30s", "crd/pages.cms.example.com"); err != nil {
		return err
	}
	manifest, err := g.Manifest(a)
	if err != nil {
		return err
	}
	if err := g.Source.Apply(ctx, manifest); err != nil {
		return err
	}
	return g.AwaitRunning(ctx, g.Source, a)
}

// StartPaired brings the application up anew, and lets the source move it.
func (g *Ground) StartPaired(ctx context.Context, a App, pair string) error {
	for _, do := range []func() error{
		func() error { return g.StartOver(ctx, a) },
		func() error { return g.Start(ctx, a) },
		func() error { return g.Pair(ctx, a.Namespace, pair) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// AwaitRunning waits until the application runs in the cluster. The writer is
// waited for only where it is: it stays in the source.
func (g *Ground) AwaitRunning(ctx context.Context, c Cluster, a App) error {
	for _, w := range a.workloads {
		if w == "deployment/writer" && c.Name == g.Target.Name {
			continue
		}
		if err := c.Rollout(ctx, a.Namespace, w); err != nil {
			return fmt.Errorf("application %s: %w", a.Namespace, err)
		}
	}
	return nil
}

// Manifest is what the application's user would apply.
func (g *Ground) Manifest(a App) ([]byte, error) {
	b, err := manifests.ReadFile("manifests/" + a.manifest)
	if err != nil {
		return nil, err
	}
	words := []string{
		"namespace: cms", "namespace: " + a.Namespace,
		"{name: cms, labels", "{name: " + a.Namespace + ", labels",
		"godwit-io/demo-app:dev", g.AppImage.Name,
		"MEGABYTES", fmt.Sprint(a.megabytes),
	}
	if a.class != "" {
		words = append(words, "[ReadWriteOnce]", "[ReadWriteMany]", "storageClassName: csi-block", "storageClassName: "+a.class)
	}
	return []byte(strings.NewReplacer(words...).Replace(string(b))), nil
}

// StartOver removes the application and all that a Migration of it made from
// both clusters. Migrations go first, while the controller can still tidy up
// after them.
func (g *Ground) StartOver(ctx context.Context, a App) error {
	for _, kind := range []string{"migrations.godwit.io", "clusterpairs.godwit.io"} {
		if _, err := g.Source.Kubectl(ctx, "-n", a.Namespace, "delete", kind, "--all", "--timeout", "90s"); err != nil {
			return fmt.Errorf("remove what an earlier run left (make demo-clean removes all of it): %w", err)
		}
	}
	for _, c := range []Cluster{g.Source, g.Target} {
		if _, err := c.Kubectl(ctx, "delete", "namespace", a.Namespace, "--ignore-not-found", "--timeout", "120s"); err != nil {
			return fmt.Errorf("remove what an earlier run left (make demo-clean removes all of it): %w", err)
		}
	}
	return nil
}

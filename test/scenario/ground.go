package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Ground is what a scenario plays on.
type Ground struct {
	// Root is the repository's folder.
	Root           string
	Source, Target Cluster
	Store          ObjectStore
	// Godwit is the image under test.
	Godwit Image
	// AppImage is what the application's containers run.
	AppImage Image
	// HookRunner runs the playbooks of hooks; without a name nothing does.
	HookRunner Image
	// Programs is the folder of godwitctl and of the godwitd that runs beside
	// clusters without containers.
	Programs string
	// Log gets what long-running programs print.
	Log io.Writer
	// sandbox is nil where the user brought the clusters.
	sandbox *Sandbox
	spoils  spoils
	refuse  Refuse
}

// Image is a container image and the archive that it is loaded from.
type Image struct{ Name, Archive string }

// Options say which clusters to take.
type Options struct {
	Log io.Writer
	// Dir and the names are the sandbox's folder and its two clusters.
	Dir, Source, Target string
	// Kubeconfigs of two existing clusters stand in for the sandbox, and then
	// the images have to be where these clusters can pull them from.
	SourceKubeconfig, TargetKubeconfig string
	GodwitImage, AppImage              string
	// HookRunnerImage is the image for hooks' playbooks; empty leaves them out.
	HookRunnerImage string
	// ControlPlane has the sandbox's clusters without containers.
	ControlPlane bool
	// Programs is the folder of Godwit's programs, SandboxProgram the sandbox's;
	// empty for those that make build and make sandbox leave in bin.
	Programs, SandboxProgram string
	// Refuse is asked about every request of the daemons beside clusters without
	// containers; nil lets them reach the API server themselves.
	Refuse Refuse
	Getenv func(string) string
}

// DefaultOptions are two clusters of the sandbox and the images of this tree.
func DefaultOptions() Options {
	return Options{
		Log: os.Stderr, Source: "src", Target: "dst", Getenv: os.Getenv,
		GodwitImage: "godwit-io/godwit:dev", AppImage: "godwit-io/demo-app:dev",
	}
}

// Existing says that the user brings the clusters.
func (o Options) Existing() bool { return o.SourceKubeconfig != "" || o.TargetKubeconfig != "" }

// Sandbox is the sandbox that the options mean.
func (o Options) Sandbox(root string) Sandbox {
	return Sandbox{
		Program: cmp.Or(o.SandboxProgram, filepath.Join(root, "bin", "sandbox")), Sources: filepath.Join(root, "test", "sandbox"),
		Dir: o.Dir, ControlPlane: o.ControlPlane, Log: o.Log,
	}
}

// Open brings the ground up, or finds it.
func Open(ctx context.Context, o Options) (*Ground, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	g := &Ground{
		Root: root, Log: o.Log,
		Godwit:     Image{Name: o.GodwitImage, Archive: filepath.Join(root, "bin", "godwit-image.tar")},
		AppImage:   Image{Name: o.AppImage, Archive: filepath.Join(root, "bin", "demo-app-image.tar")},
		HookRunner: Image{Name: o.HookRunnerImage, Archive: filepath.Join(root, "bin", "godwit-hook-runner-image.tar")},
		Programs:   cmp.Or(o.Programs, filepath.Join(root, "bin")), refuse: o.Refuse,
	}
	if o.Existing() {
		return g, g.find(o)
	}
	box := o.Sandbox(root)
	g.sandbox = &box
	return g, g.raise(ctx, o)
}

func (g *Ground) raise(ctx context.Context, o Options) error {
	clusters, err := g.sandbox.Up(ctx, o.Source, o.Target)
	if err != nil {
		return err
	}
	g.Source, g.Target = clusters[0], clusters[1]
	g.Store, err = g.sandbox.ObjectStore(ctx)
	return err
}

// AddTarget brings up another cluster without containers, with Godwit beside it, and
// gives the ground that leads there from the same source. Its daemons reach their
// cluster as long as ctx lasts.
func (g *Ground) AddTarget(ctx context.Context, name string) (*Ground, error) {
	if g.sandbox == nil || !g.sandbox.ControlPlane {
		return nil, errors.New("another target is for the sandbox's control planes only")
	}
	clusters, err := g.sandbox.Up(ctx, name)
	if err != nil {
		return nil, err
	}
	there := &Ground{
		Root: g.Root, Source: g.Source, Target: clusters[0], Store: g.Store, Godwit: g.Godwit, AppImage: g.AppImage, HookRunner: g.HookRunner,
		Programs: g.Programs, Log: g.Log, sandbox: g.sandbox, refuse: g.refuse,
	}
	return there, there.installBeside(ctx, there.Target)
}

func (g *Ground) find(o Options) error {
	if o.SourceKubeconfig == "" || o.TargetKubeconfig == "" {
		return errors.New("two clusters of your own need two kubeconfigs: one is missing")
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return errors.New("two clusters of your own need kubectl in PATH")
	}
	if g.Source, err = newCluster("source", o.SourceKubeconfig, kubectl); err != nil {
		return err
	}
	if g.Target, err = newCluster("target", o.TargetKubeconfig, kubectl); err != nil {
		return err
	}
	g.Store, err = ObjectStoreFromEnv(o.Getenv)
	return err
}

// MakeImages makes the application's image, and gives it and Godwit's to both
// clusters. What is there already stays. Existing clusters pull by themselves,
// and where no containers run nobody pulls.
func (g *Ground) MakeImages(ctx context.Context) error {
	if g.sandbox == nil || g.sandbox.ControlPlane {
		return nil
	}
	if _, err := os.Stat(g.Godwit.Archive); err != nil {
		return fmt.Errorf("%w: run make image first", err)
	}
	args := []string{
		"image", "--name", g.AppImage.Name, "--out", g.AppImage.Archive, "--busybox", "--add-user", "postgres=70:/tmp",
		"--from-deb", "postgresql-15,bash,coreutils,findutils,util-linux,attr,grep",
		// The compiler of queries is switched off, and the packaging's scripts do not run.
		"--without", "libllvm14,perl,perl-base,perl-modules-5.36,libperl5.36,postgresql-common,postgresql-client-common,locales,dpkg,openssl",
	}
	if err := g.sandbox.show(ctx, args...); err != nil {
		return err
	}
	return g.sandbox.Load(ctx, []string{g.Source.Name, g.Target.Name}, g.AppImage.Archive, g.Godwit.Archive)
}

// AddImage makes an image as the sandbox is told to, and gives it to both clusters.
func (g *Ground) AddImage(ctx context.Context, i Image, recipe ...string) error {
	if g.sandbox == nil {
		return fmt.Errorf("image %s is made for the sandbox's clusters only", i.Name)
	}
	if err := g.sandbox.show(ctx, append([]string{"image", "--name", i.Name, "--out", i.Archive}, recipe...)...); err != nil {
		return err
	}
	return g.sandbox.Load(ctx, []string{g.Source.Name, g.Target.Name}, i.Archive)
}

// LoadHookRunner gives the hook runner's image to a cluster: it is large, and few
// stories need it.
func (g *Ground) LoadHookRunner(ctx context.Context, c Cluster) error {
	if _, err := os.Stat(g.HookRunner.Archive); err != nil {
		return fmt.Errorf("%w: run make hook-runner-image first", err)
	}
	return g.sandbox.Load(ctx, []string{c.Name}, g.HookRunner.Archive)
}

// Purge removes the clusters and all that is in them. Existing clusters stay.
func (g *Ground) Purge(ctx context.Context) error {
	if g.sandbox == nil {
		return nil
	}
	return g.sandbox.Purge(ctx, g.Source.Name, g.Target.Name)
}

// Godwitctl runs godwitctl against a cluster and returns what it printed.
func (g *Ground) Godwitctl(ctx context.Context, c Cluster, args ...string) (string, error) {
	return g.godwitctl(ctx, command{}, c, args...)
}

func (g *Ground) godwitctl(ctx context.Context, cmd command, c Cluster, args ...string) (string, error) {
	program := filepath.Join(g.Programs, "godwitctl")
	out, err := cmd.run(ctx, program, append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	if err != nil {
		return string(out), fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return string(out), nil
}

// Command demo shows Godwit at work: it brings two real clusters up, runs an
// application with data in the first, moves it to the second, and compares what
// came out. Both clusters stay up, and it says what to try in them.
//
// Where no containers can run it plays on control planes alone, and says what
// it does not show then.
//
// It decides nothing and checks nothing itself: package scenario does. A check
// that fails ends it with an exit code that is not zero.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-io/godwit/test/scenario"
)

// What the demo calls its own.
const (
	namespace = "cms"
	pair      = "prodcluster"
	migration = "cmsmigration"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o := scenario.DefaultOptions()
	flag.StringVar(&o.Dir, "dir", "", "the sandbox's folder (default: its own)")
	flag.StringVar(&o.SourceKubeconfig, "source-kubeconfig", "", "take this cluster for the source instead of the sandbox's; needs S3_BUCKET and so on, as `sandbox s3` prints them, and storage classes csi-block and csi-files")
	flag.StringVar(&o.TargetKubeconfig, "target-kubeconfig", "", "take this cluster for the target")
	flag.StringVar(&o.GodwitImage, "image", o.GodwitImage, "Godwit's image, where existing clusters can pull it")
	flag.StringVar(&o.AppImage, "app-image", o.AppImage, "the application's image, where existing clusters can pull it")
	flag.BoolVar(&o.ControlPlane, "control-plane", false, "start no containers, even where they could run")
	flag.Parse()
	d := &demo{start: time.Now(), existing: o.Existing(), command: "make demo"}
	if flag.NFlag() > 0 {
		d.command += fmt.Sprintf(" DEMOFLAGS='%s'", strings.Join(os.Args[1:], " "))
	}
	switch {
	case o.Existing():
		d.story = containers(d, "Two clusters of yours")
	case o.ControlPlane:
		d.story = controlPlanes(d, "No containers were asked for.")
	default:
		root, err := scenario.Root()
		if err != nil {
			return err
		}
		d.story = containers(d, "Two real clusters and an S3 server on this machine (the first time builds Kubernetes: minutes)")
		if err := o.Sandbox(root).Able(ctx); err != nil {
			o.ControlPlane = true
			d.story = controlPlanes(d, fmt.Sprintf("No containers can run here: %v.", err))
		}
	}
	return d.play(ctx, o)
}

// story is what the demo tells, which depends on whether containers run.
type story struct {
	// before and after are what has to be said at the beginning and at the end.
	before, after string
	ground        string
	app           scenario.App
	application   string
	start, verify func(context.Context) error
	tries         []string
}

// demo tells the story step by step.
type demo struct {
	story
	start time.Time
	step  int
	// existing says that the clusters are the user's own.
	existing bool
	// command is by which it was told, in words that can be pasted.
	command string
	g       *scenario.Ground
}

// say begins a step.
func (d *demo) say(format string, args ...any) {
	d.step++
	fmt.Printf("\n[%3.0fs] %d. %s\n", time.Since(d.start).Seconds(), d.step, fmt.Sprintf(format, args...))
}

func (d *demo) play(ctx context.Context, o scenario.Options) error {
	fmt.Print(d.before)
	d.say("%s", d.ground)
	var err error
	if d.g, err = scenario.Open(ctx, o); err != nil {
		return err
	}
	steps := []step{
		{"Images: Godwit's, and the application's from Debian packages", d.g.MakeImages},
		{"Helm, which renders the chart, from its Go module (the first time builds it: minutes)", d.g.BuildHelm},
		{"Godwit's chart into both clusters", d.g.Install},
		{"A fresh start: whatever an earlier demo left in namespace " + namespace + " goes", func(ctx context.Context) error { return d.g.StartOver(ctx, d.app) }},
		{"An application in the source: " + d.application, d.startApp},
		{"The clusters pair: a token that is good once, then mutual TLS; no kubeconfig leaves a cluster", d.pair},
		{"The application moves", d.migrate},
		{"The same in both clusters?", d.verify},
		{"Done. Both clusters stay up", d.next},
	}
	if o.ControlPlane {
		steps = steps[1:]
		steps[1].title = "Godwit's chart into both clusters, but for its pods: godwitd controller and godwitd node run beside them"
	}
	return d.steps(ctx, steps...)
}

type step struct {
	title string
	do    func(context.Context) error
}

func (d *demo) steps(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		d.say("%s", s.title)
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) startApp(ctx context.Context) error {
	if err := d.story.start(ctx); err != nil {
		return err
	}
	return d.show(ctx, d.g.Source, "-n", namespace, "get", "pods,pvc", "-o", "custom-columns=KIND:.kind,NAME:.metadata.name,STATUS:.status.phase")
}

func (d *demo) show(ctx context.Context, c scenario.Cluster, args ...string) error {
	out, err := c.Kubectl(ctx, args...)
	fmt.Print(out)
	return err
}

func (d *demo) pair(ctx context.Context) error {
	fmt.Printf("  target $ godwitctl generate clusterpair -n %s %s > clusterpair.yaml\n  source $ kubectl apply -f clusterpair.yaml\n", namespace, pair)
	if err := d.g.Pair(ctx, namespace, pair); err != nil {
		return err
	}
	out, err := d.g.Godwitctl(ctx, d.g.Source, "get", "clusterpair", "-n", namespace)
	fmt.Print(out)
	return err
}

func (d *demo) migrate(ctx context.Context) error {
	fmt.Printf("  source $ godwitctl create migration %s -n %s --namespaces %[2]s -c %s --wait\n", migration, namespace, pair)
	if err := d.g.Migrate(ctx, namespace, migration, pair, os.Stdout); err != nil {
		return err
	}
	return d.g.AwaitRunning(ctx, d.g.Target, d.app)
}

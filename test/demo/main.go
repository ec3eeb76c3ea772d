// Command demo shows Godwit at work: it brings two real clusters up, runs an
// application with data in the first, moves it to the second, and compares what
// came out. Both clusters stay up, and it says what to try in them.
//
// It decides nothing and checks nothing itself: package scenario does. A check
// that fails ends it with an exit code that is not zero.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
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
	flag.Parse()
	if !o.Existing() {
		if err := canRunKubelets(); err != nil {
			return err
		}
	}
	d := &demo{start: time.Now(), app: scenario.FullApp(namespace)}
	return d.play(ctx, o)
}

// canRunKubelets says in plain words why this machine cannot show the demo.
func canRunKubelets() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return errors.New(`nothing was started. Two clusters on this machine need root, because their kubelets mount
volumes and run containers. bin/sandbox up --control-plane runs without root, but starts no
containers, so that there would be no database to move: the demo does not use it yet.
Either run it as root:
  sudo make demo
or bring two clusters and an object store (bin/sandbox s3 shows which variables):
  bin/demo -source-kubeconfig A -target-kubeconfig B -image … -app-image …`)
}

// demo tells the story step by step.
type demo struct {
	start time.Time
	app   scenario.App
	step  int
	g     *scenario.Ground
}

// say begins a step.
func (d *demo) say(format string, args ...any) {
	d.step++
	fmt.Printf("\n[%3.0fs] %d. %s\n", time.Since(d.start).Seconds(), d.step, fmt.Sprintf(format, args...))
}

func (d *demo) play(ctx context.Context, o scenario.Options) error {
	if o.Existing() {
		d.say("Two clusters of yours")
	} else {
		d.say("Two real clusters and an S3 server on this machine (the first time builds Kubernetes: minutes)")
	}
	var err error
	if d.g, err = scenario.Open(ctx, o); err != nil {
		return err
	}
	return d.steps(ctx,
		step{"Images: Godwit's, and the application's from Debian packages", d.g.MakeImages},
		step{"Godwit's chart into both clusters", d.g.Install},
		step{"A fresh start: whatever an earlier demo left in namespace " + namespace + " goes", func(ctx context.Context) error { return d.g.StartOver(ctx, d.app) }},
		step{"An application in the source: PostgreSQL under inserts, a raw volume, a shared tree, a front end", d.startApp},
		step{"The clusters pair: a token that is good once, then mutual TLS; no kubeconfig leaves a cluster", d.pair},
		step{"The application moves", d.migrate},
		step{"The same in both clusters?", d.verify},
		step{"Done. Both clusters stay up", d.next},
	)
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
	if err := d.g.Start(ctx, d.app); err != nil {
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

func (d *demo) verify(ctx context.Context) error {
	findings, err := d.g.VerifyApp(ctx, d.app)
	for _, f := range findings {
		fmt.Printf("  ok  %s\n", f)
	}
	return err
}

// next says what to try, in words that can be pasted.
func (d *demo) next(context.Context) error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	bin, err := filepath.Rel(here, filepath.Join(d.g.Root, "bin"))
	if err != nil {
		return err
	}
	source, target := d.g.Source, d.g.Target
	fmt.Printf(`
Try next:
  alias src='%[1]s --kubeconfig %[2]s'
  alias dst='%[1]s --kubeconfig %[3]s'
  src describe migration %[5]s -n %[4]s             # every volume, every object, the events
  dst get all,pvc,pages -n %[4]s                           # the application in the target
  dst get --raw /api/v1/namespaces/%[4]s/services/front:80/proxy/cgi-bin/count
  %[6]s/godwitctl --kubeconfig %[2]s get migration -n %[4]s
  %[6]s/godwitctl --kubeconfig %[3]s get standby -n %[7]s -o wide
  make demo                                              # once more, from a fresh start
  make demo-clean                                        # remove both clusters and all that is in them
`, source.Program, source.Kubeconfig, target.Kubeconfig, namespace, migration, bin, scenario.Namespace)
	return nil
}

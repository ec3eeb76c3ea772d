package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/godwit-io/godwit/test/scenario"
)

// containers is the whole story.
func containers(d *demo, ground string) story {
	app := scenario.FullApp(namespace)
	return story{
		ground: ground, app: app,
		application: "PostgreSQL under inserts, a raw volume, a shared tree, a front end",
		start:       func(ctx context.Context) error { return d.g.Start(ctx, app) },
		verify:      func(ctx context.Context) error { return tell(d.g.VerifyApp(ctx, app)) },
		tries: []string{
			"dst get all,pvc,pages -n " + namespace + "                           # the application in the target",
			"dst get --raw /api/v1/namespaces/" + namespace + "/services/front:80/proxy/cgi-bin/count",
		},
	}
}

// controlPlanes is the story without containers.
func controlPlanes(d *demo, why string) story {
	app := scenario.Archive(namespace)
	return story{
		before: fmt.Sprintf(`
%s
So the demo plays on two control planes: real API servers, schedulers, controllers, CSI sidecars and
an S3 server, Godwit's own two daemons with the rights that its chart gives them, and a CSI driver
whose volumes are plain files.
NOT STARTED: kubelets and containers, which a stand-in replaces that publishes volumes and says that
pods run. So there is no PostgreSQL and no front end: the demo writes the application's bytes into its
volumes itself, and no mount, no device and no filesystem driver takes part.
`, why),
		ground:      "Two control planes and an S3 server on this machine (the first time builds Kubernetes: minutes)",
		app:         app,
		application: "a raw volume of known bytes, a volume with a filesystem, a shared tree, objects",
		start: func(ctx context.Context) error {
			if err := d.g.Start(ctx, app); err != nil {
				return err
			}
			return d.g.Fill(ctx, app)
		},
		verify: func(ctx context.Context) error { return tell(d.g.VerifyArchive(ctx, app)) },
		tries: []string{
			"dst get all,pvc,pages -n " + namespace + "                           # what runs nowhere: only the objects are real",
		},
		after: `
What this did not show, since no containers run here: PostgreSQL, its front end, pods that read what
arrived, real devices and mounts. As root on a machine that allows them, make demo shows all of it.
`,
	}
}

// tell prints what was compared.
func tell(findings []scenario.Finding, err error) error {
	for _, f := range findings {
		fmt.Printf("  ok  %s\n", f)
	}
	return err
}

// contexts is how to reach both clusters by one configuration, where the sandbox's own
// kubeconfigs name their contexts apart.
func (d *demo) contexts() string {
	if d.existing {
		return ""
	}
	return fmt.Sprintf("  export KUBECONFIG=%s:%s\n                                                         # for your own kubectl and godwitctl: contexts %s and %s\n",
		d.g.Source.Kubeconfig, d.g.Target.Kubeconfig, d.g.Source.Name, d.g.Target.Name)
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
`, source.Program, source.Kubeconfig, target.Kubeconfig, namespace, migration)
	for _, try := range d.tries {
		fmt.Println("  " + try)
	}
	fmt.Printf(`  %[1]s/godwitctl --kubeconfig %[2]s get migration -n %[4]s
  %[1]s/godwitctl --kubeconfig %[3]s get standby -n %[5]s -o wide
%[7]s  %-54[8]s # once more, from a fresh start
  make demo-clean                                        # remove both clusters and all that is in them
%[6]s`, bin, source.Kubeconfig, target.Kubeconfig, namespace, scenario.Namespace, d.after, d.contexts(), d.command)
	return nil
}

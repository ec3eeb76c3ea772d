package e2e

import (
	"context"
	"os"
	"strings"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// ofStork is a file of stork's users with the one line changed that
// docs/coming-from-stork.md names, and what else the file itself asks for.
func ofStork(t *testing.T, file string, replaced ...string) []byte {
	t.Helper()
	manifest, err := os.ReadFile("testdata/" + file)
	must(t, err)
	replaced = append(replaced, "apiVersion: stork.libopenstorage.org/v1alpha1", "apiVersion: godwit.io/v1alpha1")
	return []byte(strings.NewReplacer(replaced...).Replace(string(manifest)))
}

// storksService has the port that ClusterPairs of stork's users name.
const storksService = "storks"

// pairAsWithStork pairs by a ClusterPair that carries the target's address, port
// and token.
func pairAsWithStork(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string) {
	t.Helper()
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		must(t, g.EnsureLocation(ctx, c, namespace, g.Store))
	}
	forget := func(ctx context.Context) error {
		_, err := g.Target.Kubectl(ctx, "-n", scenario.Namespace, "delete", "service", storksService, "--ignore-not-found")
		return err
	}
	must(t, forget(ctx))
	t.Cleanup(func() {
		if err := forget(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	address, err := g.Target.Kubectl(ctx, "-n", scenario.Namespace, "expose", "service", "godwit-pairing", "--name", storksService,
		"--port", "9001", "--target-port", "pairing", "-o", "jsonpath={.spec.clusterIP}")
	must(t, err)
	token, err := g.Godwitctl(ctx, g.Target, "-n", namespace, "create", "token", "--backuplocation", "relay")
	must(t, err)
	must(t, g.Source.ApplyAsUser(ctx, ofStork(t, "stork-clusterpair-options.yaml", "127.0.0.1", address, "REPLACED-BY-THE-TEST", strings.TrimSpace(token))))
	must(t, g.AwaitPair(ctx, namespace, "prodcluster", scenario.Soon))
}

// mysql is what the rule and the transformation of stork-schedule.yaml are for: a
// pod that takes the client's commands, and a Service with the label.
const mysql = `
apiVersion: v1
kind: ConfigMap
metadata: {name: mysql, namespace: cms, annotations: {godwit.io/skip-resource: "true"}}
data:
  mysql: |
    #!/bin/bash
    # mysql --user=root -Bse STATEMENTS, of which "system" runs a command.
    set -eu
    IFS=';' read -ra statements <<< "${@: -1}"
    for s in "${statements[@]}"; do
      case $s in
        "flush tables with read lock") echo "$1 locked" >> /tmp/said ;;
        "system "*) bash -c "${s#system }" ;;
      esac
    done
    echo unlocked >> /tmp/said
---
apiVersion: v1
kind: Pod
metadata: {name: mysql, namespace: cms, labels: {app: mysql}, annotations: {godwit.io/skip-resource: "true"}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: mysql
    image: godwit-io/demo-app:dev
    imagePullPolicy: IfNotPresent
    command: [sleep, infinity]
    volumeMounts: [{name: client, mountPath: /usr/local/bin/mysql, subPath: mysql}]
  volumes: [{name: client, configMap: {name: mysql, defaultMode: 0755}}]
---
{apiVersion: v1, kind: Service, metadata: {name: wordpress, namespace: cms, labels: {app: wordpress}}, spec: {selector: {app: front}, ports: [{port: 80, targetPort: 8080}]}}
`

// replicateAsWithStork follows a schedule of stork's users for one round: its
// policy, its rule in the pods, and its transformation are all used.
func replicateAsWithStork(ctx context.Context, t *testing.T, g *scenario.Ground) {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(strings.ReplaceAll(mysql, "godwit-io/demo-app:dev", g.AppImage.Name))))
	_, err := g.Source.Kubectl(ctx, "-n", "cms", "wait", "pod/mysql", "--for", "condition=Ready", "--timeout", "60s")
	must(t, err)
	must(t, g.Source.ApplyAsUser(ctx, ofStork(t, "stork-schedule.yaml")))
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		// It would run each minute beside all other stories.
		_, err := g.Source.Kubectl(context.WithoutCancel(ctx), "-n", "cms", "delete", "migrationschedule", "cms-dr", "--ignore-not-found", "--wait=false")
		must(t, err)
	})
	var s api.MigrationSchedule
	must(t, scenario.Await(ctx, scenario.Long, "a good run of cms-dr", func(ctx context.Context) (bool, string, error) {
		s, err = scenario.Get[api.MigrationSchedule](ctx, g.Source, "-n", "cms", "migrationschedule", "cms-dr")
		return s.Status.LastSuccess != nil, scenarioReady(s), err
	}))
	_, err = g.Godwitctl(ctx, g.Source, "-n", "cms", "suspend", "migrationschedule", "cms-dr")
	must(t, err)
	said, err := g.Source.Script(ctx, "cms", "pod/mysql", "cat /tmp/said")
	must(t, err)
	if !strings.HasPrefix(string(said), "--user=root locked\nunlocked\n") {
		t.Errorf("the rule had mysql say %q", said)
	}
	m, err := g.Migration(ctx, "cms", s.Status.LastSuccess.Name)
	must(t, err)
	if m.Spec.PreExecRule != "mysql-presnap" || len(m.Spec.TransformSpecs) != 1 || len(m.Status.Volumes) != 3 {
		t.Errorf("the schedule's run is %+v: %s", m.Spec, scenario.Describe(m))
	}
	transformation, err := scenario.Get[api.ResourceTransformation](ctx, g.Source, "-n", "cms", "resourcetransformation", "service-transform")
	must(t, err)
	changes := transformation.Status.Resources
	if transformation.Status.Status != api.TransformationReady || len(changes) != 1 || changes[0].Name != "wordpress" {
		t.Errorf("the transformation is %+v", transformation.Status)
	}
	// A run that is under way ends before the next Migration of the application.
	must(t, scenario.Await(ctx, scenario.Long, "all runs of cms-dr to end", func(ctx context.Context) (bool, string, error) {
		all, err := scenario.Get[api.MigrationList](ctx, g.Source, "-n", "cms", "migrations.godwit.io")
		for _, m := range all.Items {
			if m.Status.Stage != api.MigrationStageFinal {
				return false, scenario.Describe(m), err
			}
		}
		return true, "", err
	}))
}

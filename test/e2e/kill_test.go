package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestKilled kills every process of Godwit that takes part in a Migration, each
// at a random moment of its own part.
func TestKilled(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Vault("killed", 300)
	must(t, g.StartPaired(ctx, app, "west"))
	siege := scenario.Siege{
		Namespace: app.Namespace, Migration: "killed", Pair: "west", Phases: []api.TransferPhase{api.TransferRunning},
		Controllers: 3 * time.Second, Nodes: 500 * time.Millisecond, Seed: uint64(time.Now().UnixNano()),
	}
	t.Logf("seed %d", siege.Seed)
	ctx = alone(t)
	must(t, g.Besiege(ctx, siege))
	must(t, g.AwaitRunning(ctx, g.Target, app))
	finding, err := g.VerifyTree(ctx, app.Data())
	must(t, err)
	t.Log(finding)
	must(t, g.DeleteMigration(ctx, app.Namespace, siege.Migration))
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
}

// TestKilledAtARule kills the controller while one command of a rule holds the
// application still and another has not ended: each command runs once, what is held
// stays so until the snapshot is cut, and is let go then.
func TestKilledAtARule(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Vault("caught", 1)
	must(t, g.StartPaired(ctx, app, "west"))
	must(t, g.Source.Apply(ctx, []byte(strings.ReplaceAll(slowRules, "NS", app.Namespace))))
	ctx = alone(t)
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "caught", "west", app.Namespace)+"  preExecRule: slow\n  postExecRule: after\n")))
	must(t, scenario.Await(ctx, scenario.Soon, "the rule's second command", func(ctx context.Context) (bool, string, error) {
		said, err := saidIn(ctx, g.Source, app)
		return slices.Equal(said, []string{"held", "begun"}), strings.Join(said, " "), err
	}))
	killed, err := leader(ctx, g.Source)
	must(t, err)
	must(t, g.Kill(ctx, g.Source, "godwitd controller"))
	must(t, scenario.Await(ctx, scenario.Soon, "the next controller", func(ctx context.Context) (bool, string, error) {
		now, err := leader(ctx, g.Source)
		return now != killed, now, err
	}))
	_, err = g.Source.Script(ctx, app.Namespace, "deployment/vault", "touch /tmp/go-on")
	must(t, err)
	m, err := g.AwaitSuccess(ctx, app.Namespace, "caught", scenario.Long)
	must(t, err)
	if pre, post := m.Status.Rules.PreExec, m.Status.Rules.PostExec; len(pre) != 2 || len(post) != 1 {
		t.Errorf("the status tells of the commands %+v and %+v", pre, post)
	}
	must(t, g.AwaitRunning(ctx, g.Target, app))
	for _, c := range []struct {
		cluster scenario.Cluster
		want    string
	}{{g.Source, "held begun through let-go after"}, {g.Target, "held begun through"}} {
		said, err := saidIn(ctx, c.cluster, app)
		if got := strings.Join(said, " "); err != nil || got != c.want {
			t.Errorf("on cluster %s the volume has %q, want %q (%v)", c.cluster.Name, got, c.want, err)
		}
	}
	must(t, g.DeleteMigration(ctx, app.Namespace, "caught"))
	left, err := g.Source.Script(ctx, app.Namespace, "deployment/vault", "ls -d /tmp/.godwit-* 2>/dev/null; grep -al 'sai[d]' /proc/[0-9]*/cmdline 2>/dev/null; true")
	if err != nil || len(left) > 0 {
		t.Errorf("of the rule's commands this is left in the pod: %s (%v)", left, err)
	}
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
}

// leader is the process that has the lease of a cluster's controllers.
func leader(ctx context.Context, c scenario.Cluster) (string, error) {
	return c.Kubectl(ctx, "-n", scenario.Namespace, "get", "lease", "godwit-controller", "-o", "jsonpath={.spec.holderIdentity}")
}

// slowRules say on the volume what they do, and do not get on by themselves.
const slowRules = `apiVersion: godwit.io/v1alpha1
kind: Rule
metadata: {name: slow, namespace: NS}
rules:
- podSelector: {app: vault}
  actions:
  - {type: command, background: true, value: "echo held >> /data/said; ${WAIT_CMD}; echo let-go >> /data/said; sync"}
  - {type: command, value: "echo begun >> /data/said; until [ -e /tmp/go-on ]; do sleep 0.2; done; echo through >> /data/said; sync"}
---
apiVersion: godwit.io/v1alpha1
kind: Rule
metadata: {name: after, namespace: NS}
rules:
- podSelector: {app: vault}
  actions:
  - {type: command, value: "echo after >> /data/said; sync"}
`

func saidIn(ctx context.Context, c scenario.Cluster, app scenario.App) ([]string, error) {
	said, err := c.Script(ctx, app.Namespace, "deployment/vault", "cat /data/said 2>/dev/null; true")
	return strings.Fields(string(said)), err
}

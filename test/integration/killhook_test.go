package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

const hookedMigration = `  includeVolumes: false
  hooks:
  - {name: before, phase: PreBackup, image: "nobody/runs-this:1", command: ["true"]}
  - {name: after, phase: PostRestore, cluster: Target, image: "nobody/runs-this:1", command: ["true"]}
`

// TestKilledAtAHook kills both controllers while a hook runs, on either cluster: each
// hook runs once, and the Migration goes on.
func TestKilledAtAHook(t *testing.T) {
	g, ctx := ground(t)
	const namespace = "hooked"
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		must(t, c.EnsureNamespace(ctx, namespace))
	}
	must(t, g.Source.Apply(ctx, []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: "+namespace+"}, data: {a: b}}")))
	must(t, g.Pair(ctx, namespace, "west"))
	must(t, g.Source.Apply(ctx, []byte(migration(namespace, "hooked", "west", namespace)+hookedMigration)))
	for i, c := range []scenario.Cluster{g.Source, g.Target} {
		pod := hookPod(ctx, t, c, namespace)
		for _, killed := range []scenario.Cluster{g.Source, g.Target} {
			must(t, g.Kill(ctx, killed, "godwitd controller"))
		}
		// As the kubelet would, had anybody run it.
		_, err := c.Kubectl(ctx, "-n", namespace, "patch", pod, "--subresource", "status", "--type", "merge", "-p", `{"status":{"phase":"Succeeded","containerStatuses":[]}}`)
		must(t, err)
		must(t, scenario.Await(ctx, scenario.Long, "the hook's end", func(ctx context.Context) (bool, string, error) {
			m, err := g.Migration(ctx, namespace, "hooked")
			return len(m.Status.Hooks) > i && m.Status.Hooks[i].State == api.HookSucceeded, fmt.Sprint(m.Status.Hooks), err
		}))
		if left, err := hookPods(ctx, c, namespace); err != nil || left != "" && left != pod {
			t.Errorf("the hook was run by %s, and there is %s: %v", pod, left, err)
		}
	}
	m, err := g.AwaitSuccess(ctx, namespace, "hooked", scenario.Long)
	must(t, err)
	if len(m.Status.Hooks) != 2 {
		t.Errorf("%d hooks are told of: %+v", len(m.Status.Hooks), m.Status.Hooks)
	}
	must(t, g.DeleteMigration(ctx, namespace, "hooked"))
	must(t, g.AwaitNothingLeftOf(ctx, namespace, scenario.Soon))
}

// hookPod is the pod of the hook that runs in the cluster, the only one.
func hookPod(ctx context.Context, t *testing.T, c scenario.Cluster, namespace string) (pod string) {
	t.Helper()
	must(t, scenario.Await(ctx, scenario.Long, "a hook's pod", func(ctx context.Context) (bool, string, error) {
		var err error
		pod, err = hookPods(ctx, c, namespace)
		return pod != "", pod, err
	}))
	if strings.Contains(pod, "\n") {
		t.Fatalf("several pods run a hook in cluster %s: %s", c.Name, pod)
	}
	return pod
}

func hookPods(ctx context.Context, c scenario.Cluster, namespace string) (string, error) {
	pods, err := c.Kubectl(ctx, "-n", namespace, "get", "pods", "-l", "godwit.io/hook-round", "-o", "name")
	return strings.TrimSpace(pods), err
}

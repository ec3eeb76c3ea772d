package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// drillUnderReplication tries the standby in a namespace of its own, sees that the
// schedule went on meanwhile, and that nothing of the drill stays.
func drillUnderReplication(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string) {
	t.Helper()
	before := awaitRun(ctx, t, g, namespace, "")
	place := namespace + "-drill"
	started := time.Now()
	said, err := g.Godwitctl(ctx, g.Target, "drill", "start", namespace+"/"+namespace, "-n", place)
	t.Log(said)
	must(t, err)
	t.Logf("the drill took %v", time.Since(started).Round(100*time.Millisecond))
	d, err := scenario.Get[api.Drill](ctx, g.Target, "-n", scenario.Namespace, "drill", place)
	must(t, err)
	if d.Status.Phase != api.DrillSucceeded || d.Status.Ready != "1/1" {
		t.Errorf("the drill came to %+v", d.Status)
	}
	awaitRun(ctx, t, g, namespace, before)
	_, err = g.Godwitctl(ctx, g.Target, "drill", "stop", place)
	must(t, err)
	must(t, scenario.Await(ctx, scenario.Long, "the drill to be gone", func(ctx context.Context) (bool, string, error) {
		for _, object := range []string{"namespace/" + place, "drill/" + place} {
			if left, err := scenario.Exists(ctx, g.Target, "-n", scenario.Namespace, object); left || err != nil {
				return false, object, err
			}
		}
		return true, "", nil
	}))
}

// listedWithoutTheSource sees on the target what there is to fail over to.
func listedWithoutTheSource(ctx context.Context, t *testing.T, g *scenario.Ground) {
	t.Helper()
	said, err := g.Godwitctl(ctx, g.Target, "get", "recoverypoints")
	must(t, err)
	t.Log(said)
	if strings.Count(said, " Valid ") < 2 || !strings.Contains(said, "yes") {
		t.Error("the recovery points are not listed")
	}
}

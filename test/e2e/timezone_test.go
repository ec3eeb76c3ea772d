package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestTimeZone has a schedule follow a policy of another time zone, which nothing but
// Godwit's own image can know.
func TestTimeZone(t *testing.T) {
	g, ctx := besideOthers(t)
	const namespace = "timezone"
	must(t, g.Source.Apply(ctx, fmt.Appendf(nil, `
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: godwit.io/v1alpha1
kind: NamespacedSchedulePolicy
metadata: {name: nightly, namespace: %[1]s}
policy: {timeZone: Asia/Kathmandu, daily: {time: "03:00AM"}}
---
apiVersion: godwit.io/v1alpha1
kind: MigrationSchedule
metadata: {name: dr, namespace: %[1]s}
spec:
  schedulePolicyName: nightly
  template: {spec: {clusterPair: none, namespaces: [%[1]s]}}
`, namespace)))
	t.Cleanup(func() {
		if _, err := g.Source.Kubectl(context.WithoutCancel(ctx), "delete", "namespace", namespace, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	var next time.Time
	must(t, scenario.Await(ctx, time.Minute, "the schedule's next run", func(ctx context.Context) (bool, string, error) {
		s, err := scenario.Get[api.MigrationSchedule](ctx, g.Source, "-n", namespace, "migrationschedule", "dr")
		if err != nil || s.Status.NextRun == nil {
			return false, scenarioReady(s), err
		}
		next = s.Status.NextRun.UTC()
		return true, "", nil
	}))
	if at := next.Format(time.TimeOnly); at != "21:15:00" {
		t.Errorf("3:00 in Kathmandu is %s UTC by the schedule, and 21:15:00 by the clock", at)
	}
}

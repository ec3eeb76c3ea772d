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
	// Far from now, so that it does not become due meanwhile.
	at := time.Now().UTC().Add(12 * time.Hour).Truncate(time.Minute)
	kathmandu := time.FixedZone("Asia/Kathmandu", (5*60+45)*60)
	must(t, g.Source.Apply(ctx, fmt.Appendf(nil, `
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: godwit.io/v1alpha1
kind: NamespacedSchedulePolicy
metadata: {name: nightly, namespace: %[1]s}
policy: {timeZone: Asia/Kathmandu, daily: {time: %[2]q}}
---
apiVersion: godwit.io/v1alpha1
kind: MigrationSchedule
metadata: {name: dr, namespace: %[1]s}
spec:
  schedulePolicyName: nightly
  template: {spec: {clusterPair: none, namespaces: [%[1]s]}}
`, namespace, at.In(kathmandu).Format("03:04PM"))))
	t.Cleanup(func() {
		if _, err := g.Source.Kubectl(context.WithoutCancel(ctx), "delete", "namespace", namespace, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	var next time.Time
	must(t, scenario.Await(ctx, scenario.Soon, "the schedule's next run", func(ctx context.Context) (bool, string, error) {
		s, err := scenario.Get[api.MigrationSchedule](ctx, g.Source, "-n", namespace, "migrationschedule", "dr")
		if err != nil || s.Status.NextRun == nil {
			return false, scenarioReady(s), err
		}
		next = s.Status.NextRun.UTC()
		return true, "", nil
	}))
	if !next.Equal(at) {
		t.Errorf("%s in Kathmandu is %s by the schedule, and %s by the clock", at.In(kathmandu).Format(time.TimeOnly), next, at)
	}
}

package cli

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func (c *cluster) testSchedule(t *testing.T) {
	c.bad(t, "create migrationschedule s -n cms -c nosuch --namespaces cms", "ClusterPair nosuch is not in namespace cms")
	if got := c.good(t, "create schedulepolicy nightly -t weekly --time 10:14PM --day-of-week Sun --time-zone Europe/Madrid"); got != "Schedule policy nightly created successfully\n" {
		t.Errorf("create schedulepolicy: %q", got)
	}
	if got := c.good(t, "get sp"); !strings.Contains(got, "nightly   N/A                N/A     Sun@10:14PM   N/A") {
		t.Errorf("get sp: %q", got)
	}
	if got := c.good(t, "create migrationschedule cms-dr -n cms -c prodcluster --namespaces cms -s nightly"); got != "MigrationSchedule cms-dr created successfully\n" {
		t.Errorf("create migrationschedule: %q", got)
	}
	got := c.run(t, "create migrationschedule mistyped -n cms -c prodcluster --namespaces cms,csm -s nihgtly")
	if got.code != 0 || strings.Count(got.err, "\n") != 2 || !strings.Contains(got.err, "namespace csm is not in this cluster") || !strings.Contains(got.err, "no SchedulePolicy nihgtly") {
		t.Errorf("names that are not there: %+v", got)
	}
	c.good(t, "delete migrationschedule -n cms mistyped")
	c.good(t, "create migrationschedule other -n cms -c prodcluster --namespaces cms -i 5 --suspend --disable-auto-suspend --exclude-volumes")
	var s api.MigrationSchedule
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "other"}, &s); err != nil {
		t.Fatal(err)
	}
	if !*s.Spec.Suspend || s.Spec.AutoSuspend || *s.Spec.Template.Spec.IncludeVolumes || s.Spec.SchedulePolicyName != "other" {
		t.Errorf("the flags came to %+v", s.Spec)
	}
	if got := c.good(t, "get migrationschedule -n cms -c prodcluster"); !strings.Contains(got, "cms-dr   nightly      prodcluster   false") {
		t.Errorf("get migrationschedule: %q", got)
	}
	if got := c.good(t, "suspend migrationschedule -n cms -c prodcluster"); got != "MigrationSchedule cms-dr suspended successfully\nMigrationSchedule other suspended successfully\n" {
		t.Errorf("suspend: %q", got)
	}
	c.good(t, "resume migrationschedule -n cms other")
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: "other"}, &s); err != nil || *s.Spec.Suspend {
		t.Errorf("resumed: %v %+v", err, s.Spec.Suspend)
	}
	c.bad(t, "delete schedulepolicy nightly", "SchedulePolicy nightly is in use by MigrationSchedule cms/cms-dr")
	c.good(t, "delete migrationschedule -n cms cms-dr other")
	if got := c.good(t, "delete schedulepolicy nightly other"); !strings.HasSuffix(got, "SchedulePolicy other deleted successfully\n") {
		t.Errorf("delete schedulepolicy: %q", got)
	}
}

package metrics_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/metrics"
)

func noon(seconds int) *metav1.Time {
	return &metav1.Time{Time: time.Date(2026, 3, 1, 12, 0, seconds, 0, time.UTC)}
}

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "cms", Name: name, CreationTimestamp: *noon(0)}
}

func collector(t *testing.T, failing bool, objs ...client.Object) *metrics.Collector {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := api.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	b := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objs...)
	if failing {
		b = b.WithInterceptorFuncs(interceptor.Funcs{List: func(_ context.Context, _ client.WithWatch, _ client.ObjectList, _ ...client.ListOption) error {
			return errors.New("the cache is not there")
		}})
	}
	return &metrics.Collector{
		Reader: b.Build(), Bound: func() (context.Context, context.CancelFunc) { return context.WithCancel(t.Context()) }, Now: func() time.Time { return noon(100).Time }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func TestFigures(t *testing.T) {
	yes := true
	pair := api.MigrationTemplate{Spec: api.MigrationSpec{ClusterPair: "prod"}}
	ready := []metav1.Condition{{Type: api.ConditionReady, Status: metav1.ConditionTrue}}
	c := collector(t, false,
		&api.MigrationSchedule{ObjectMeta: named("good"), Spec: api.MigrationScheduleSpec{Template: pair}, Status: api.MigrationScheduleStatus{
			LastSuccess: &api.ScheduledMigration{CreationTimestamp: *noon(40), FinishTimestamp: noon(50)}, NextRun: noon(160), MissedRuns: 2,
			LastSealed: &api.SealedRun{Taken: *noon(55)},
		}},
		&api.MigrationSchedule{ObjectMeta: named("never"), Spec: api.MigrationScheduleSpec{Template: pair}, Status: api.MigrationScheduleStatus{
			FailuresInARow: 4, Conditions: []metav1.Condition{{Type: api.ConditionReady, Status: metav1.ConditionFalse, Reason: "PolicyNotFound"}},
		}},
		&api.MigrationSchedule{ObjectMeta: named("stopped"), Spec: api.MigrationScheduleSpec{Template: pair, Suspend: &yes}, Status: api.MigrationScheduleStatus{
			Conditions: []metav1.Condition{{Type: api.ConditionReady, Status: metav1.ConditionFalse, Reason: "Suspended"}},
		}},
		&api.Migration{ObjectMeta: named("runs"), Status: api.MigrationStatus{Status: api.MigrationStatusInProgress, Volumes: []api.MigrationVolumeInfo{
			{BytesDone: 5, BytesTotal: 10}, {BytesDone: 1, BytesTotal: 2},
		}}},
		&api.Migration{ObjectMeta: named("done"), Status: api.MigrationStatus{Stage: api.MigrationStageFinal, Status: api.MigrationStatusSuccessful}},
		&api.ClusterPair{ObjectMeta: named("prod"), Status: api.ClusterPairStatus{CertificateExpires: noon(30), Conditions: ready, Upkeep: &api.RepositoryUpkeep{
			Done: noon(40), Points: 8, RemovedPoints: 3, Failing: true,
		}}},
		&api.ClusterPair{ObjectMeta: named("broken")},
		&api.BackupLocation{ObjectMeta: named("relay"), Status: api.BackupLocationStatus{Conditions: ready}},
		&api.Standby{ObjectMeta: named("s"), Spec: api.StandbySpec{Application: "cms/app"}, Status: api.StandbyStatus{Phase: api.StandbyReady, Reached: noon(20), Taken: noon(10), SizeBytes: 7, Snapshots: []api.StandbySnapshot{{Round: "b"}, {Round: "a", Ready: true}}, Points: &api.RecoveryPoints{
			Listed: noon(30), Total: 9, Items: []api.RecoveryPoint{{Seal: api.SealRefused, Taken: noon(25)}, {Seal: api.SealValid, Taken: noon(15)}},
		}}},
	)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	want := `
# HELP godwit_application_lag_seconds Age of the moment that the newest recovery point of a schedule holds: what would be lost by failing over now.
# TYPE godwit_application_lag_seconds gauge
godwit_application_lag_seconds{clusterpair="prod",namespace="cms",schedule="good"} 45
godwit_application_lag_seconds{clusterpair="prod",namespace="cms",schedule="never"} 100
godwit_application_lag_seconds{clusterpair="prod",namespace="cms",schedule="stopped"} 100
# HELP godwit_clusterpair_ready 1 if the pair can be used.
# TYPE godwit_clusterpair_ready gauge
godwit_clusterpair_ready{name="broken",namespace="cms"} 0
godwit_clusterpair_ready{name="prod",namespace="cms"} 1
# HELP godwit_migration_bytes_done Bytes of a running Migration's volumes that are through.
# TYPE godwit_migration_bytes_done gauge
godwit_migration_bytes_done{name="runs",namespace="cms"} 6
# HELP godwit_migrations Migrations by namespace and status.
# TYPE godwit_migrations gauge
godwit_migrations{namespace="cms",status="InProgress"} 1
godwit_migrations{namespace="cms",status="Successful"} 1
# HELP godwit_objects_unreadable 1 if the objects could not be listed, so that the other figures are missing.
# TYPE godwit_objects_unreadable gauge
godwit_objects_unreadable 0
# HELP godwit_recovery_point_newest_timestamp_seconds Of which moment the newest recovery point is that may be trusted, as the target sees it.
# TYPE godwit_recovery_point_newest_timestamp_seconds gauge
godwit_recovery_point_newest_timestamp_seconds{application="cms/app",name="s"} 1772366415
# HELP godwit_recovery_points Recovery points of an application in the repository, as its target sees them.
# TYPE godwit_recovery_points gauge
godwit_recovery_points{application="cms/app",name="s"} 9
# HELP godwit_repository_points Recovery points in the pair's repository.
# TYPE godwit_repository_points gauge
godwit_repository_points{name="prod",namespace="cms"} 8
# HELP godwit_repository_upkeep_failing 1 if retention or maintenance of the pair's repository is in trouble.
# TYPE godwit_repository_upkeep_failing gauge
godwit_repository_upkeep_failing{name="prod",namespace="cms"} 1
# HELP godwit_standby_snapshots Of how many rounds CSI snapshots of a standby are kept that can be opened.
# TYPE godwit_standby_snapshots gauge
godwit_standby_snapshots{application="cms/app",name="s"} 1
# HELP godwit_standby_taken_timestamp_seconds Of which moment the standby is: the oldest snapshot of the round that it holds.
# TYPE godwit_standby_taken_timestamp_seconds gauge
godwit_standby_taken_timestamp_seconds{application="cms/app",name="s"} 1772366410
# HELP godwit_schedule_last_duration_seconds How long the last good run took.
# TYPE godwit_schedule_last_duration_seconds gauge
godwit_schedule_last_duration_seconds{clusterpair="prod",namespace="cms",schedule="good"} 10
# HELP godwit_schedule_suspended 1 if the schedule makes no runs.
# TYPE godwit_schedule_suspended gauge
godwit_schedule_suspended{clusterpair="prod",namespace="cms",schedule="good"} 0
godwit_schedule_suspended{clusterpair="prod",namespace="cms",schedule="never"} 0
godwit_schedule_suspended{clusterpair="prod",namespace="cms",schedule="stopped"} 1
# HELP godwit_schedule_trouble 1 if a schedule cannot run, with the reason.
# TYPE godwit_schedule_trouble gauge
godwit_schedule_trouble{clusterpair="prod",namespace="cms",reason="PolicyNotFound",schedule="never"} 1
`
	err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"godwit_application_lag_seconds", "godwit_clusterpair_ready", "godwit_migration_bytes_done", "godwit_migrations", "godwit_objects_unreadable",
		"godwit_recovery_point_newest_timestamp_seconds", "godwit_recovery_points", "godwit_repository_points", "godwit_repository_upkeep_failing",
		"godwit_standby_snapshots", "godwit_standby_taken_timestamp_seconds", "godwit_schedule_last_duration_seconds", "godwit_schedule_suspended", "godwit_schedule_trouble")
	if err != nil {
		t.Error(err)
	}
}

// Figures of old would keep alerts quiet.
func TestUnreadableObjectsAreTold(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector(t, true, &api.ClusterPair{ObjectMeta: named("prod")}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 1 || families[0].GetName() != "godwit_objects_unreadable" || families[0].GetMetric()[0].GetGauge().GetValue() != 1 {
		t.Errorf("gathered %v", families)
	}
}

// known are all figures: the controller's, and the node daemon's.
func known(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{
		"godwit_uploads_total": true, "godwit_upload_read_bytes_total": true, "godwit_transfer_attempts_total": true, "godwit_transfers_paused": true,
	}
	ch := make(chan *prometheus.Desc, 100)
	collector(t, false).Describe(ch)
	close(ch)
	name := regexp.MustCompile(`fqName: "([a-z_]+)"`)
	for d := range ch {
		known[name.FindStringSubmatch(d.String())[1]] = true
	}
	return known
}

// used are the figures that a file of the chart speaks of.
func used(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "chart", "files", file))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`godwit_[a-z_]+`).FindAllString(string(text), -1)
}

// Each figure can be seen without writing a query.
func TestDashboardShowsEveryFigure(t *testing.T) {
	shown := map[string]bool{}
	for _, name := range used(t, "dashboard.json") {
		shown[name] = true
	}
	for name := range known(t) {
		if !shown[name] {
			t.Errorf("%s is on no panel of the dashboard", name)
		}
	}
}

// Alerts and the dashboard speak only of figures that there are.
func TestAlertsAndDashboardAreOfThisWorld(t *testing.T) {
	known := known(t)
	for _, file := range []string{"alerts.yaml", "dashboard.json"} {
		names := used(t, file)
		if len(names) < 8 {
			t.Errorf("%s speaks of %d figures", file, len(names))
		}
		for _, u := range names {
			if !known[u] {
				t.Errorf("%s speaks of %s, which nothing tells", file, u)
			}
		}
	}
}

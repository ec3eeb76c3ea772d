package table_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/table"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files anew")

func at(second int) *metav1.Time {
	return &metav1.Time{Time: time.Date(2019, 11, 8, 2, 33, 44+second, 0, time.UTC)}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "cms", Name: name, CreationTimestamp: *at(0)}
}

func notReady(message string) []metav1.Condition {
	return []metav1.Condition{{Type: api.ConditionReady, Status: metav1.ConditionFalse, Message: message}}
}

func no() *bool { return new(bool) }

func migrations() []client.Object {
	volumes := []api.MigrationVolumeInfo{
		{PersistentVolumeClaim: "px-mysql-pvc", Status: api.MigrationStatusSuccessful, BytesDone: 1000},
		{PersistentVolumeClaim: "px-wp-pvc", Status: api.MigrationStatusInProgress, BytesDone: 234},
	}
	return []client.Object{
		&api.Migration{ObjectMeta: meta("cmsmigration"), Spec: api.MigrationSpec{ClusterPair: "prodcluster"}, Status: api.MigrationStatus{
			Stage: api.MigrationStageFinal, Status: api.MigrationStatusSuccessful,
			Summary: &api.MigrationSummary{
				TotalNumberOfVolumes: 2, NumberOfMigratedVolumes: 2, TotalNumberOfResources: 9, NumberOfMigratedResources: 9,
				TotalBytesMigrated: 12345, ElapsedTimeForVolumeMigration: "5m0s", ElapsedTimeForResourceMigration: "1m0s",
			},
		}},
		&api.Migration{ObjectMeta: meta("new"), Spec: api.MigrationSpec{ClusterPair: "prodcluster"}},
		&api.Migration{ObjectMeta: meta("waits"), Spec: api.MigrationSpec{ClusterPair: "nosuch"}, Status: api.MigrationStatus{
			Status: api.MigrationStatusPending, Conditions: notReady("ClusterPair nosuch is not there"),
			RetryStatus: api.RetryStatus{Retries: []api.Retry{{Stage: "AskTarget", Count: 2}, {Stage: "Observe", Count: 5}}},
		}},
		&api.Migration{ObjectMeta: meta("running"), Spec: api.MigrationSpec{ClusterPair: "prodcluster"}, Status: api.MigrationStatus{
			Stage: api.MigrationStageVolumes, Status: api.MigrationStatusInProgress, Volumes: volumes,
		}},
		&api.Migration{ObjectMeta: meta("applying"), Spec: api.MigrationSpec{ClusterPair: "prodcluster"}, Status: api.MigrationStatus{
			Stage: api.MigrationStageApplications, Status: api.MigrationStatusInProgress, Volumes: volumes,
			VolumeMigrationFinishTimestamp: at(7),
			Resources:                      []api.MigrationResourceInfo{{Status: api.MigrationStatusSuccessful}, {}},
		}},
		&api.Migration{ObjectMeta: meta("objects-only"), Spec: api.MigrationSpec{ClusterPair: "prodcluster", IncludeVolumes: no()}, Status: api.MigrationStatus{
			Stage: api.MigrationStageFinal, Status: api.MigrationStatusPartialSuccess, VolumeMigrationFinishTimestamp: at(1), FinishTimestamp: at(4),
		}},
		&api.Migration{ObjectMeta: meta("volumes-only"), Spec: api.MigrationSpec{ClusterPair: "prodcluster", IncludeResources: no()}, Status: api.MigrationStatus{
			Stage: api.MigrationStageFinal, Status: api.MigrationStatusFailed, FinishTimestamp: at(9),
		}},
	}
}

func clusterPairs() []client.Object {
	return []client.Object{
		&api.ClusterPair{ObjectMeta: meta("prodcluster"), Status: api.ClusterPairStatus{
			StorageStatus: api.ClusterPairStatusReady, SchedulerStatus: api.ClusterPairStatusReady,
			RemoteClusterName: "production", CertificateExpires: at(86400),
		}},
		&api.ClusterPair{ObjectMeta: meta("other"), Status: api.ClusterPairStatus{
			SchedulerStatus: api.ClusterPairStatusError, Conditions: notReady("the token has expired: make a new one"),
		}},
	}
}

func others() (locations, standbies, transfers []client.Object) {
	locations = []client.Object{
		&api.BackupLocation{ObjectMeta: meta("relay"), Location: api.BackupLocationItem{
			Path: "bucket/prefix", SecretConfig: "relay-backuplocation", S3Config: &api.S3Config{Endpoint: "s3.example.com:7070", Region: "eu"},
		}},
		&api.BackupLocation{ObjectMeta: meta("inline"), Location: api.BackupLocationItem{
			Path: "bucket", S3Config: &api.S3Config{AccessKeyID: "AKIA", SecretAccessKey: "very secret", DisableSSL: true},
		}},
	}
	standbies = []client.Object{&api.Standby{ObjectMeta: meta("s1"),
		Spec: api.StandbySpec{Application: "cms/cmsmigration", Volumes: make([]api.StandbyClaim, 3)},
		Status: api.StandbyStatus{Round: "r1", Phase: api.StandbyVolumes, Message: "brings volumes forward",
			Volumes: []api.StandbyVolume{{Image: "i"}, {}}, Resources: []api.MigrationResourceInfo{{Status: api.MigrationStatusSuccessful}, {}}},
	}}
	transfers = []client.Object{
		&api.VolumeTransfer{ObjectMeta: meta("t1"),
			Spec: api.VolumeTransferSpec{Direction: api.Upload, Node: "node-1", Round: "r1", Volume: api.TransferVolume{Namespace: "cms", Name: "pgdata"}},
			Status: api.VolumeTransferStatus{Phase: api.TransferRunning, Method: "scan", Attempts: 2, Message: "reads",
				Progress: api.TransferProgress{BytesTotal: 1 << 30, BytesDone: 1 << 29, BytesPerSecond: 1 << 26, SecondsLeft: 8}},
		},
		&api.VolumeTransfer{ObjectMeta: meta("t2"),
			Spec: api.VolumeTransferSpec{Direction: api.Apply, Node: "node-2", Round: "r1", Volume: api.TransferVolume{Namespace: "cms", Name: "raw"}},
		},
	}
	return locations, standbies, transfers
}

func schedules() (schedules, policies []client.Object) {
	suspend := true
	spec := api.MigrationScheduleSpec{SchedulePolicyName: "nightly", Template: api.MigrationTemplate{Spec: api.MigrationSpec{ClusterPair: "prodcluster"}}}
	stopped := spec
	stopped.Suspend, stopped.Continuous = &suspend, true
	schedules = []client.Object{
		&api.MigrationSchedule{ObjectMeta: meta("cms-dr"), Spec: spec, Status: api.MigrationScheduleStatus{
			NextRun: at(60), MissedRuns: 2, LastSuccess: &api.ScheduledMigration{CreationTimestamp: *at(0), FinishTimestamp: at(42)},
		}},
		&api.MigrationSchedule{ObjectMeta: meta("stopped"), Spec: stopped, Status: api.MigrationScheduleStatus{FailuresInARow: 3, Conditions: notReady("the schedule is suspended")}},
	}
	policies = []client.Object{
		&api.SchedulePolicy{ObjectMeta: meta("all"), Policy: api.SchedulePolicyItem{
			Interval: &api.IntervalPolicy{IntervalMinutes: 1}, Daily: &api.DailyPolicy{Time: "10:14PM"},
			Weekly: &api.WeeklyPolicy{Day: "Thursday", Time: "10:13PM"}, Monthly: &api.MonthlyPolicy{Date: 14, Time: "8:05PM"}, TimeZone: "Europe/Madrid",
		}},
		&api.SchedulePolicy{ObjectMeta: meta("one"), Policy: api.SchedulePolicyItem{Interval: &api.IntervalPolicy{IntervalMinutes: 30}}},
	}
	return schedules, policies
}

func TestTables(t *testing.T) {
	locations, standbies, transfers := others()
	runs, policies := schedules()
	for name, c := range map[string]struct {
		layout  table.Layout
		objects []client.Object
	}{
		"migration":         {table.Migration(), migrations()},
		"clusterpair":       {table.ClusterPair(), clusterPairs()},
		"backuplocation":    {table.BackupLocation(), locations},
		"migrationschedule": {table.MigrationSchedule(), runs},
		"schedulepolicy":    {table.SchedulePolicy(), policies},
		"standby":           {table.Standby(), standbies},
		"volumetransfer":    {table.VolumeTransfer(), transfers},
	} {
		for format, options := range map[string]printers.PrintOptions{
			"": {}, "-wide": {Wide: true}, "-all": {WithNamespace: true},
		} {
			rows, err := c.layout.Table(c.objects, at(12).Time)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := printers.NewTablePrinter(options).PrintObj(rows, &out); err != nil {
				t.Fatal(err)
			}
			golden(t, name+format, out.String())
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
	if strings.Contains(got, "very secret") {
		t.Errorf("%s shows a secret key", name)
	}
}

func TestAnotherKindIsAnError(t *testing.T) {
	if _, err := table.Migration().Table(clusterPairs(), at(0).Time); err == nil {
		t.Error("a ClusterPair was laid out as a Migration")
	}
}

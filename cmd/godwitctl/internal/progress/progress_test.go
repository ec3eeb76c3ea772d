package progress

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func start() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func running() *api.Migration {
	return &api.Migration{
		ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "cmsmigration", CreationTimestamp: metav1.NewTime(start())},
		Status: api.MigrationStatus{
			Stage: api.MigrationStageVolumes, Status: api.MigrationStatusInProgress,
			Volumes: []api.MigrationVolumeInfo{
				{Namespace: "cms", PersistentVolumeClaim: "pgdata", Status: api.MigrationStatusInProgress, Step: "Backup",
					BytesTotal: 1 << 30, BytesDone: 1 << 29, BytesPerSecond: 64 << 20, SecondsLeft: 8},
				{Namespace: "cms", PersistentVolumeClaim: "raw", Status: api.MigrationStatusSuccessful, Step: "Done",
					BytesTotal: 64 << 20, BytesDone: 1},
				{Namespace: "cms", PersistentVolumeClaim: "shared", Status: api.MigrationStatusInProgress, Step: "Snapshot"},
				{Namespace: "cms", PersistentVolumeClaim: "odd", Status: api.MigrationStatusFailed, Step: "Restore",
					Reason: "no space\x1b[31m left\non target"},
			},
			Summary: &api.MigrationSummary{TotalNumberOfResources: 9, NumberOfMigratedResources: 2},
		},
	}
}

func pending() *api.Migration {
	m := running()
	m.Status = api.MigrationStatus{Status: api.MigrationStatusPending, Conditions: []metav1.Condition{{
		Type: api.ConditionReady, Status: metav1.ConditionFalse, Message: "claim cms/raw is Pending: bind it",
	}}}
	return m
}

// stuck has waited for long.
func stuck() *api.Migration {
	m := pending()
	m.Status.Waiting = &api.Waiting{For: "Unreachable", Stood: metav1.Duration{Duration: 12 * time.Minute}, Limit: metav1.Duration{Duration: time.Hour}}
	return m
}

func TestPicture(t *testing.T) {
	for name, c := range map[string]struct {
		m    *api.Migration
		size Size
		want []string
	}{
		"volumes on their way": {running(), Size{}, []string{
			"cms/cmsmigration  Volumes  InProgress  volumes 1/4  resources 2/9  1m15s",
			"  cms/pgdata  Backup    [=========>          ]  50%  512.0 MiB/1.0 GiB  64.0 MiB/s  8s left",
			"  cms/raw     Done      [====================] 100%  64.0 MiB/64.0 MiB",
			"  cms/shared  Snapshot",
			"  cms/odd     Restore   failed: no space [31m left on target",
		}},
		"a small terminal shows what runs or failed": {running(), Size{Width: 40, Height: 5}, []string{
			"cms/cmsmigration  Volumes  InProgress  v",
			"  cms/odd     Restore  failed: no space ",
			"  cms/pgdata  Backup   [=========>      ",
			"  and 2 more volumes",
		}},
		"waiting": {pending(), Size{}, []string{
			"cms/cmsmigration  Pending  1m15s",
			"  waiting: claim cms/raw is Pending: bind it",
		}},
		"stuck": {stuck(), Size{}, []string{
			"cms/cmsmigration  Pending  1m15s",
			"  waiting: claim cms/raw is Pending: bind it (no further for 12m0s, limit 1h0m0s)",
		}},
		"nothing yet": {&api.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}, Size{}, []string{
			"a/b  not started  0s",
		}},
	} {
		got := Picture(c.m, start().Add(75*time.Second), c.size)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nwant:\n%s", name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestClockStopsAtTheEnd(t *testing.T) {
	m := running()
	end := metav1.NewTime(start().Add(30 * time.Second))
	m.Status.FinishTimestamp, m.Status.Stage, m.Status.Volumes = &end, api.MigrationStageFinal, nil
	got := Picture(m, start().Add(time.Hour), Size{})
	if len(got) != 1 || !strings.HasSuffix(got[0], "  30s") {
		t.Errorf("got %q", got)
	}
}

func TestLine(t *testing.T) {
	want := "Volumes, InProgress, volumes 1/4, resources 2/9, 576.0 MiB of 1.1 GiB, 64.0 MiB/s, 8s left; " +
		"cms/pgdata Backup 50%; cms/shared Snapshot; cms/odd Restore failed: no space [31m left on target"
	if got := Line(running()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := Line(pending()); got != "Pending, waiting: claim cms/raw is Pending: bind it" {
		t.Errorf("got %s", got)
	}
}

func TestJournalWritesChangesAtMostEveryFewSeconds(t *testing.T) {
	var out strings.Builder
	j := &Journal{Out: &out}
	m, now := running(), start()
	show := func(after time.Duration) {
		t.Helper()
		now = now.Add(after)
		if err := j.Show(m, now); err != nil {
			t.Fatal(err)
		}
	}
	m.Status.Volumes = m.Status.Volumes[:1]
	show(0)
	show(10 * time.Second) // nothing changed
	m.Status.Volumes[0].BytesDone += 1 << 28
	show(0)
	m.Status.Volumes[0].BytesDone += 1 << 27
	show(time.Second) // too soon
	show(2 * time.Second)
	m.Status.Stage, m.Status.Status = api.MigrationStageFinal, api.MigrationStatusSuccessful
	show(0) // the end is never left out
	var stages []string
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		stages = append(stages, line[:strings.Index(line, ",")])
	}
	want := []string{"0s Volumes", "10s Volumes", "13s Volumes", "13s Final"}
	if !slices.Equal(stages, want) {
		t.Errorf("got %q, want %q\n%s", stages, want, out.String())
	}
}

func TestScreenDrawsOverThePictureBefore(t *testing.T) {
	var out strings.Builder
	s := &Screen{Out: &out, Size: func() Size { return Size{Width: 80, Height: 24} }}
	if err := s.Show(pending(), start()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "A\r") {
		t.Errorf("the first picture moves the cursor up: %q", out.String())
	}
	out.Reset()
	if err := s.Show(running(), start()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "\x1b[2A\r\x1b[2Kcms/cmsmigration") || !strings.HasSuffix(got, "\n\x1b[J") {
		t.Errorf("got %q", got)
	}
}

func TestFinal(t *testing.T) {
	for status, want := range map[api.MigrationStatusType]bool{
		"": false, api.MigrationStatusPending: false, api.MigrationStatusInProgress: false,
		api.MigrationStatusFailed: true, api.MigrationStatusPartialSuccess: true, api.MigrationStatusSuccessful: true,
	} {
		if got := Final(&api.Migration{Status: api.MigrationStatus{Status: status}}); got != want {
			t.Errorf("Final(%q) = %t", status, got)
		}
	}
}

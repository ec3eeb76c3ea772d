package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Collector is a prometheus.Collector over the objects of one cluster.
type Collector struct {
	// Reader should read from a cache: each scrape lists every object.
	Reader client.Reader
	// Bound gives the context of one scrape, since Prometheus hands none over.
	Bound func() (context.Context, context.CancelFunc)
	Now   func() time.Time
	Log   *slog.Logger
}

// World is what the figures are read from.
type World struct {
	Schedules  []api.MigrationSchedule
	Migrations []api.Migration
	Pairs      []api.ClusterPair
	Locations  []api.BackupLocation
	Standbies  []api.Standby
	Drills     []api.Drill
}

// figure is one series of figures: what it is called, what it means, and by
// which labels it is told apart.
type figure struct {
	name, help string
	labels     []string
}

func (f figure) desc() *prometheus.Desc { return prometheus.NewDesc(f.name, f.help, f.labels, nil) }

func (f figure) at(v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(f.desc(), prometheus.GaugeValue, v, labels...)
}

// The figures.
func scheduleLabels() []string { return []string{"namespace", "schedule", "clusterpair"} }
func objectLabels() []string   { return []string{"namespace", "name"} }

func lag() figure {
	return figure{"godwit_application_lag_seconds", "Age of the moment that the newest recovery point of a schedule holds: what would be lost by failing over now.", scheduleLabels()}
}
func lastSuccess() figure {
	return figure{"godwit_schedule_last_success_timestamp_seconds", "When the last good run of a schedule ended.", scheduleLabels()}
}
func nextRun() figure {
	return figure{"godwit_schedule_next_run_timestamp_seconds", "When the next run of a schedule is due.", scheduleLabels()}
}
func suspended() figure {
	return figure{"godwit_schedule_suspended", "1 if the schedule makes no runs.", scheduleLabels()}
}
func missed() figure {
	return figure{"godwit_schedule_missed_runs", "Runs that were due and were left out for a later one.", scheduleLabels()}
}
func failures() figure {
	return figure{"godwit_schedule_failures_in_a_row", "Runs that failed since the last one that did not.", scheduleLabels()}
}
func lastDuration() figure {
	return figure{"godwit_schedule_last_duration_seconds", "How long the last good run took.", scheduleLabels()}
}
func scheduleTrouble() figure {
	return figure{"godwit_schedule_trouble", "1 if a schedule cannot run, with the reason.", append(scheduleLabels(), "reason")}
}
func migrations() figure {
	return figure{"godwit_migrations", "Migrations by namespace and status.", []string{"namespace", "status"}}
}
func running() figure {
	return figure{"godwit_migration_running_seconds", "How long a Migration that has not ended has been there.", objectLabels()}
}
func bytesDone() figure {
	return figure{"godwit_migration_bytes_done", "Bytes of a running Migration's volumes that are through.", objectLabels()}
}
func bytesTotal() figure {
	return figure{"godwit_migration_bytes_total", "Bytes that a running Migration's volumes come to.", objectLabels()}
}
func pairReady() figure {
	return figure{"godwit_clusterpair_ready", "1 if the pair can be used.", objectLabels()}
}
func pairExpires() figure {
	return figure{"godwit_clusterpair_certificate_expiry_timestamp_seconds", "Until when the pair's certificate is good.", objectLabels()}
}
func locationReady() figure {
	return figure{"godwit_backuplocation_ready", "1 if the object store could be written to and read from when it was checked last.", objectLabels()}
}
func standbyAge() figure {
	return figure{"godwit_standby_reached_timestamp_seconds", "When a standby reached the round that it holds.", []string{"name", "application"}}
}
func standbyPhase() figure {
	return figure{"godwit_standby_phase", "1 for the phase that a standby is in.", []string{"name", "application", "phase"}}
}
func standbyTaken() figure {
	return figure{"godwit_standby_taken_timestamp_seconds", "Of which moment the standby is: the oldest snapshot of the round that it holds.", []string{"name", "application"}}
}
func standbyActivated() figure {
	return figure{"godwit_standby_activated", "1 if the application was given the standby and runs on this cluster.", []string{"name", "application"}}
}
func standbyBytes() figure {
	return figure{"godwit_standby_bytes", "What the volumes of a standby come to.", []string{"name", "application"}}
}
func standbySnapshots() figure {
	return figure{"godwit_standby_snapshots", "Of how many rounds CSI snapshots of a standby are kept that can be opened.", []string{"name", "application"}}
}
func recoveryPoints() figure {
	return figure{"godwit_recovery_points", "Recovery points of an application in the repository, as its target sees them.", []string{"name", "application"}}
}
func newestPoint() figure {
	return figure{"godwit_recovery_point_newest_timestamp_seconds", "Of which moment the newest recovery point is that may be trusted, as the target sees it.", []string{"name", "application"}}
}
func drillResult() figure {
	return figure{"godwit_drill_succeeded", "1 if the last run of a drill succeeded, 0 if it failed.", []string{"name", "standby"}}
}
func drillSuccess() figure {
	return figure{"godwit_drill_last_success_timestamp_seconds", "When a run of a drill last succeeded.", []string{"name", "standby"}}
}
func drillOverdue() figure {
	return figure{"godwit_drill_overdue_seconds", "How long ago a drill that repeats was to run again.", []string{"name", "standby"}}
}
func upkeepDone() figure {
	return figure{"godwit_repository_upkeep_timestamp_seconds", "When retention and maintenance of the pair's repository were last gone through without trouble.", objectLabels()}
}
func upkeepFailing() figure {
	return figure{"godwit_repository_upkeep_failing", "1 if retention or maintenance of the pair's repository is in trouble.", objectLabels()}
}
func upkeepRemoved() figure {
	return figure{"godwit_repository_removed_points", "Recovery points that retention removed since the pair was made.", objectLabels()}
}
func repositoryPoints() figure {
	return figure{"godwit_repository_points", "Recovery points in the pair's repository.", objectLabels()}
}
func scrapeFailed() figure {
	return figure{"godwit_objects_unreadable", "1 if the objects could not be listed, so that the other figures are missing.", nil}
}

func figures() []figure {
	return []figure{
		lag(), lastSuccess(), nextRun(), suspended(), missed(), failures(), lastDuration(), scheduleTrouble(),
		migrations(), running(), bytesDone(), bytesTotal(), pairReady(), pairExpires(), locationReady(),
		standbyAge(), standbyPhase(), standbyTaken(), standbyActivated(), standbyBytes(), standbySnapshots(), recoveryPoints(), newestPoint(),
		drillResult(), drillSuccess(), drillOverdue(), upkeepDone(), upkeepFailing(), upkeepRemoved(), repositoryPoints(), scrapeFailed(),
	}
}

// Describe sends what figures there can be.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range figures() {
		ch <- f.desc()
	}
}

// Collect lists the objects and sends their figures. Where they cannot be
// listed, one figure says so: no alert may rest on figures of old.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := c.Bound()
	defer cancel()
	w, err := c.read(ctx)
	if err != nil {
		c.Log.Error("metrics: list the objects", "error", err)
		ch <- scrapeFailed().at(1)
		return
	}
	ch <- scrapeFailed().at(0)
	for _, m := range Read(w, c.Now()) {
		ch <- m
	}
}

func (c *Collector) read(ctx context.Context) (World, error) {
	var (
		schedules api.MigrationScheduleList
		runs      api.MigrationList
		pairs     api.ClusterPairList
		locations api.BackupLocationList
		standbies api.StandbyList
		drills    api.DrillList
	)
	for _, list := range []client.ObjectList{&schedules, &runs, &pairs, &locations, &standbies, &drills} {
		if err := c.Reader.List(ctx, list); err != nil {
			return World{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	return World{
		Schedules: schedules.Items, Migrations: runs.Items, Pairs: pairs.Items, Locations: locations.Items, Standbies: standbies.Items, Drills: drills.Items,
	}, nil
}

// Read gives the figures of a world as they stand at now.
func Read(w World, now time.Time) []prometheus.Metric {
	var out []prometheus.Metric
	for i := range w.Schedules {
		if w.Schedules[i].IsCopy() {
			continue // Its source tells of it.
		}
		out = append(out, readSchedule(&w.Schedules[i], now)...)
	}
	out = append(out, readMigrations(w.Migrations, now)...)
	for _, p := range w.Pairs {
		out = append(out, pairReady().at(truth(isReady(p.Status.Conditions)), p.Namespace, p.Name))
		if at := p.Status.CertificateExpires; at != nil {
			out = append(out, pairExpires().at(unix(at.Time), p.Namespace, p.Name))
		}
		out = append(out, readUpkeep(&p)...)
	}
	for _, l := range w.Locations {
		out = append(out, locationReady().at(truth(isReady(l.Status.Conditions)), l.Namespace, l.Name))
	}
	for i := range w.Standbies {
		out = append(out, readStandby(&w.Standbies[i])...)
	}
	for i := range w.Drills {
		out = append(out, readDrill(&w.Drills[i], now)...)
	}
	return out
}

func readSchedule(s *api.MigrationSchedule, now time.Time) []prometheus.Metric {
	labels := []string{s.Namespace, s.Name, s.Spec.Template.Spec.ClusterPair}
	stopped := s.Spec.Suspend != nil && *s.Spec.Suspend
	out := []prometheus.Metric{
		suspended().at(truth(stopped), labels...), missed().at(float64(s.Status.MissedRuns), labels...),
		failures().at(float64(s.Status.FailuresInARow), labels...), lag().at(lagOf(s, now), labels...),
	}
	if l := s.Status.LastSuccess; l != nil && l.FinishTimestamp != nil {
		out = append(out, lastSuccess().at(unix(l.FinishTimestamp.Time), labels...),
			lastDuration().at(l.FinishTimestamp.Sub(l.CreationTimestamp.Time).Seconds(), labels...))
	}
	if s.Status.NextRun != nil {
		out = append(out, nextRun().at(unix(s.Status.NextRun.Time), labels...))
	}
	if c := meta.FindStatusCondition(s.Status.Conditions, api.ConditionReady); c != nil && c.Status == metav1.ConditionFalse && !stopped {
		out = append(out, scheduleTrouble().at(1, append(labels, c.Reason)...))
	}
	return out
}

// lagOf is the age of what the newest recovery point holds. A schedule that never had
// one has lagged since it was made, so that it is not taken for a good one.
func lagOf(s *api.MigrationSchedule, now time.Time) float64 {
	since := s.CreationTimestamp.Time
	if l := s.Status.LastSuccess; l != nil {
		since = l.CreationTimestamp.Time
	}
	if l := s.Status.LastSealed; l != nil {
		since = l.Taken.Time
	}
	return now.Sub(since).Seconds()
}

func readMigrations(items []api.Migration, now time.Time) []prometheus.Metric {
	type key struct{ namespace, status string }
	count := map[key]int{}
	var out []prometheus.Metric
	for _, m := range items {
		status := string(m.Status.Status)
		if status == "" {
			status = "New"
		}
		count[key{m.Namespace, status}]++
		if m.Status.Stage == api.MigrationStageFinal {
			continue
		}
		var done, total int64
		for _, v := range m.Status.Volumes {
			done, total = done+v.BytesDone, total+v.BytesTotal
		}
		out = append(out, running().at(now.Sub(m.CreationTimestamp.Time).Seconds(), m.Namespace, m.Name),
			bytesDone().at(float64(done), m.Namespace, m.Name), bytesTotal().at(float64(total), m.Namespace, m.Name))
	}
	for k, n := range count {
		out = append(out, migrations().at(float64(n), k.namespace, k.status))
	}
	return out
}

func isReady(conditions []metav1.Condition) bool {
	return meta.IsStatusConditionTrue(conditions, api.ConditionReady)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 { return float64(t.Unix()) }

package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/schedule"
)

func ended(m api.Migration) bool { return m.Status.Stage == api.MigrationStageFinal }

func sealed(m api.Migration) bool {
	return meta.IsStatusConditionTrue(m.Status.Conditions, conditionSealed)
}

// good is true for a run that the application can be brought up from.
func good(s api.MigrationStatusType) bool {
	return s == api.MigrationStatusSuccessful || s == api.MigrationStatusPartialSuccess
}

// dueAt is when a run was due; one that does not say was due when it was made.
func dueAt(m api.Migration) time.Time {
	if at, err := time.Parse(time.RFC3339, m.Annotations[api.AnnotationDue]); err == nil {
		return at
	}
	return m.CreationTimestamp.Time
}

func triggerOf(m api.Migration) schedule.Trigger {
	if t := m.Annotations[api.AnnotationPolicyType]; t != "" {
		return schedule.Trigger(t)
	}
	return schedule.Interval
}

// remember writes the runs into the status. What was due last stays there even
// when somebody deletes the runs.
func (x *occasion) remember() {
	s := &x.s.Status
	known := map[string]api.MigrationStatusType{}
	for _, items := range s.Items {
		for _, i := range items {
			known[i.Name] = i.Status
		}
	}
	s.Items = map[string][]api.ScheduledMigration{}
	if s.LastDue == nil {
		s.LastDue = map[string]metav1.Time{}
	}
	for _, m := range x.runs {
		item := api.ScheduledMigration{
			Name: m.Name, CreationTimestamp: metav1.NewTime(dueAt(m)), FinishTimestamp: m.Status.FinishTimestamp, Status: m.Status.Status,
		}
		trigger := string(triggerOf(m))
		s.Items[trigger] = append(s.Items[trigger], item)
		if last := s.LastDue[trigger]; last.Time.Before(item.CreationTimestamp.Time) {
			s.LastDue[trigger] = item.CreationTimestamp
		}
		if ended(m) && known[m.Name] != m.Status.Status {
			x.count(item)
		}
	}
	x.rememberSealed()
}

// rememberSealed finds the newest recovery point of the runs. That of a run which is gone
// stays if the run ended well, so that retention had it go.
func (x *occasion) rememberSealed() {
	s := &x.s.Status
	if l := s.LastSealed; l != nil && (s.LastSuccess == nil || s.LastSuccess.Name != l.Name) {
		s.LastSealed = nil
	}
	for _, m := range x.runs {
		if !recoverable(m) {
			continue
		}
		if taken := metav1.NewTime(momentOf(m)); s.LastSealed == nil || s.LastSealed.Taken.Before(&taken) {
			s.LastSealed = &api.SealedRun{Name: m.Name, Taken: taken}
		}
	}
}

// recoverable is true for a run whose recovery point a failover would take: one that was
// sealed, and not taken back on the target since.
func recoverable(m api.Migration) bool {
	return sealed(m) && (good(m.Status.Status) || !cleared(m))
}

func cleared(m api.Migration) bool {
	return meta.IsStatusConditionTrue(m.Status.Conditions, conditionCleared)
}

// momentOf is the moment that a run holds: that of its oldest snapshot, or without
// volumes when it was due.
func momentOf(m api.Migration) time.Time {
	at := time.Time{}
	for _, v := range m.Status.Volumes {
		if v.Taken != nil && (at.IsZero() || v.Taken.Time.Before(at)) {
			at = v.Taken.Time
		}
	}
	if at.IsZero() {
		return dueAt(m)
	}
	return at
}

// count takes in a run whose end is seen for the first time.
func (x *occasion) count(item api.ScheduledMigration) {
	s := &x.s.Status
	if !good(item.Status) {
		s.FailuresInARow++
		return
	}
	s.FailuresInARow = 0
	if s.LastSuccess == nil || s.LastSuccess.CreationTimestamp.Before(&item.CreationTimestamp) {
		s.LastSuccess = &item
	}
}

// prune deletes the runs that retention does not keep: per section, the newest
// good ones stay, and of those that failed since the last good one as many.
func (x *occasion) prune(ctx context.Context) error {
	by := map[schedule.Trigger][]api.Migration{}
	for _, m := range x.runs {
		by[triggerOf(m)] = append(by[triggerOf(m)], m)
	}
	gone := map[string]bool{}
	for trigger, runs := range by {
		for _, m := range x.superfluous(runs, retain(x.item, trigger)) {
			if err := x.Client.Delete(ctx, &m); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("delete Migration %s/%s, which retention does not keep: %w", m.Namespace, m.Name, err)
			}
			gone[m.Name] = true
		}
	}
	x.runs = slices.DeleteFunc(x.runs, func(m api.Migration) bool { return gone[m.Name] })
	if len(gone) > 0 {
		x.remember()
	}
	return nil
}

func (x *occasion) superfluous(runs []api.Migration, n int) []api.Migration {
	points := make([]schedule.Point, len(runs))
	for i, m := range runs {
		points[i] = schedule.Point{At: dueAt(m), Good: good(m.Status.Status)}
	}
	var out []api.Migration
	failed := 0
	keep := schedule.Keep(points, schedule.Retention{Last: n}, x.now)
	for i := len(runs) - 1; i >= 0; i-- {
		m := runs[i]
		if !ended(m) || !m.DeletionTimestamp.IsZero() {
			continue
		}
		if keep[i] && !points[i].Good {
			failed++
		}
		if !keep[i] || !points[i].Good && failed > n {
			out = append(out, m)
		}
	}
	return out
}

package table

import (
	"strconv"
	"time"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// MigrationSchedule is the layout of MigrationSchedules.
func MigrationSchedule() Layout {
	return Layout{
		Columns: columns([]string{"Name", "PolicyName", "ClusterPair", "Suspend", "Last-Success-Time", "Last-Success-Duration"},
			[]string{"Next", "Missed", "Failures", "Message"}),
		Cells: cells(func(s *api.MigrationSchedule, _ time.Time) []any {
			at, took := "", ""
			if l := s.Status.LastSuccess; l != nil && l.FinishTimestamp != nil {
				at = moment(l.FinishTimestamp)
				took = quantity.Duration(l.FinishTimestamp.Sub(l.CreationTimestamp.Time))
			}
			policy := s.Spec.SchedulePolicyName
			if s.Spec.Continuous {
				policy = "continuous"
			}
			_, message := ready(s.Status.Conditions, api.ConditionReady)
			return []any{
				s.Name, policy, s.Spec.Template.Spec.ClusterPair, strconv.FormatBool(s.Spec.Suspend != nil && *s.Spec.Suspend), at, took,
				moment(s.Status.NextRun), strconv.FormatInt(s.Status.MissedRuns, 10), strconv.FormatInt(s.Status.FailuresInARow, 10), message,
			}
		}),
	}
}

// SchedulePolicy is the layout of SchedulePolicies.
func SchedulePolicy() Layout {
	return Layout{
		Columns: columns([]string{"Name", "Interval-Minutes", "Daily", "Weekly", "Monthly"}, []string{"Time-Zone"}),
		Cells: cells(func(p *api.SchedulePolicy, _ time.Time) []any {
			every, daily, weekly, monthly, zone := none, none, none, none, "UTC"
			if i := p.Policy.Interval; i != nil {
				every = strconv.Itoa(i.IntervalMinutes)
			}
			if d := p.Policy.Daily; d != nil {
				daily = d.Time
			}
			if w := p.Policy.Weekly; w != nil {
				weekly = w.Day + "@" + w.Time
			}
			if m := p.Policy.Monthly; m != nil {
				monthly = strconv.Itoa(m.Date) + "@" + m.Time
			}
			if p.Policy.TimeZone != "" {
				zone = p.Policy.TimeZone
			}
			return []any{p.Name, every, daily, weekly, monthly, zone}
		}),
	}
}

package schedule

import (
	"fmt"
	"strings"
	"time"
)

// Trigger names one section of a policy.
type Trigger string

// The triggers, in the order in which they are looked at: where several are due
// at once, the first one runs.
const (
	Interval Trigger = "Interval"
	Daily    Trigger = "Daily"
	Weekly   Trigger = "Weekly"
	Monthly  Trigger = "Monthly"
)

// Triggers gives all of them in their order.
func Triggers() []Trigger { return []Trigger{Interval, Daily, Weekly, Monthly} }

// Clock is a time of day.
type Clock struct{ Hour, Minute int }

// ParseClock reads "10:14PM" or "10:14pm", as stork has it, or "22:14".
func ParseClock(s string) (Clock, error) {
	for _, layout := range []string{time.Kitchen, "15:04"} {
		if t, err := time.Parse(layout, strings.ToUpper(strings.TrimSpace(s))); err == nil {
			return Clock{Hour: t.Hour(), Minute: t.Minute()}, nil
		}
	}
	return Clock{}, fmt.Errorf("%q is no time of day: write it as 10:14PM or 22:14", s)
}

// String gives stork's way of writing it, such as 10:14PM.
func (c Clock) String() string {
	return time.Date(1, 1, 1, c.Hour, c.Minute, 0, 0, time.UTC).Format(time.Kitchen)
}

// ParseWeekday reads Sunday, sunday, Sun or sun.
func ParseWeekday(s string) (time.Weekday, error) {
	word := strings.ToLower(strings.TrimSpace(s))
	for d := time.Sunday; d <= time.Saturday; d++ {
		if full := strings.ToLower(d.String()); word == full || word == full[:3] {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%q is no day of the week: write it as Sunday or Sun", s)
}

// Policy says when runs are due. A section that is nil is not used.
type Policy struct {
	// Every is the Interval section: the time from the start of one run to that
	// of the next.
	Every *time.Duration
	// Daily, Weekly and Monthly each name a time of day in Zone.
	Daily   *Clock
	Weekly  *WeeklyAt
	Monthly *MonthlyAt
	// Zone is where the times of day are; nil is UTC.
	Zone *time.Location
}

// WeeklyAt is a time of day on one day of the week.
type WeeklyAt struct {
	Day time.Weekday
	At  Clock
}

// MonthlyAt is a time of day on one date of each month; in a month that is too
// short, on its last day.
type MonthlyAt struct {
	Date int
	At   Clock
}

// Validate says what is wrong with a policy that was put together from fields.
func (p Policy) Validate() error {
	if p.Every == nil && p.Daily == nil && p.Weekly == nil && p.Monthly == nil {
		return fmt.Errorf("the policy has no section: set policy.interval, daily, weekly or monthly")
	}
	if p.Every != nil && *p.Every < time.Minute {
		return fmt.Errorf("policy.interval.intervalMinutes is %v: the least is 1 minute", *p.Every)
	}
	if p.Monthly != nil && (p.Monthly.Date < 1 || p.Monthly.Date > 31) {
		return fmt.Errorf("policy.monthly.date is %d: it is a day from 1 to 31", p.Monthly.Date)
	}
	return nil
}

// Has says whether the policy uses the trigger.
func (p Policy) Has(t Trigger) bool {
	switch t {
	case Interval:
		return p.Every != nil
	case Daily:
		return p.Daily != nil
	case Weekly:
		return p.Weekly != nil
	default:
		return p.Monthly != nil
	}
}

func (p Policy) zone() *time.Location {
	if p.Zone == nil {
		return time.UTC
	}
	return p.Zone
}

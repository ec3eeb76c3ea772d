package schedule

import (
	"fmt"
	"slices"
	"time"
)

// Point is one run as retention sees it.
type Point struct {
	// At is the moment that it holds.
	At time.Time
	// Good is true for one that an application can be brought up from.
	Good bool
}

// Retention says how many points stay. A point stays if any rule keeps it; no
// rule at all keeps every point. The newest good point always stays, and so does
// whatever is newer than it: it may still become good.
type Retention struct {
	// Last keeps the newest this many.
	Last int
	// Within keeps all that are younger.
	Within time.Duration
	// Hourly, Daily, Weekly and Monthly each keep the newest point of this many
	// hours, days, weeks (from Monday) and months that have one.
	Hourly, Daily, Weekly, Monthly int
	// Zone is where days begin; nil is UTC.
	Zone *time.Location
}

func (r Retention) empty() bool {
	return r.Last == 0 && r.Within == 0 && r.Hourly == 0 && r.Daily == 0 && r.Weekly == 0 && r.Monthly == 0
}

// Keep says for each point whether it stays. Points that are not good count for
// no rule: they go as soon as a newer point is good, and never push a good one
// out.
func Keep(points []Point, r Retention, now time.Time) []bool {
	keep := make([]bool, len(points))
	order := make([]int, len(points))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return points[b].At.Compare(points[a].At) })
	rules := r.rules(now)
	seenGood := false
	for _, i := range order {
		switch p := points[i]; {
		case !p.Good:
			keep[i] = !seenGood || r.empty()
		case r.empty():
			keep[i] = true
		default:
			keep[i] = !seenGood
			for _, rule := range rules {
				// Each rule must see every good point, to count its own.
				keep[i] = rule(p.At) || keep[i]
			}
		}
		seenGood = seenGood || points[i].Good
	}
	return keep
}

// rules gives the retention's rules; each is asked about points from the newest
// to the oldest.
func (r Retention) rules(now time.Time) []func(time.Time) bool {
	zone := r.Zone
	if zone == nil {
		zone = time.UTC
	}
	slot := func(n int, name func(time.Time) string) func(time.Time) bool {
		last, left := "", n
		return func(at time.Time) bool {
			if left == 0 {
				return false
			}
			this := name(at.In(zone))
			if this == last {
				return false
			}
			last = this
			left--
			return true
		}
	}
	left := r.Last
	return []func(time.Time) bool{
		func(time.Time) bool { left--; return left >= 0 },
		func(at time.Time) bool { return r.Within > 0 && now.Sub(at) < r.Within },
		slot(r.Hourly, func(t time.Time) string { return t.UTC().Format("2006010215") }),
		slot(r.Daily, func(t time.Time) string { return t.Format("20060102") }),
		slot(r.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, "-", w) }),
		slot(r.Monthly, func(t time.Time) string { return t.Format("200601") }),
	}
}

package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/godwit-io/godwit/daemon/schedule"
)

func at(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		panic(err)
	}
	return t
}

func every(d time.Duration) *time.Duration { return &d }

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]schedule.Clock{
		"10:14PM": {22, 14}, "10:14pm": {22, 14}, "12:00am": {0, 0}, "12:04PM": {12, 4}, "22:14": {22, 14}, " 8:05PM": {20, 5},
	} {
		if got, err := schedule.ParseClock(text); err != nil || got != want {
			t.Errorf("ParseClock(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "25:00", "13:00PM", "noon", "8PM"} {
		if got, err := schedule.ParseClock(text); err == nil {
			t.Errorf("ParseClock(%q) = %v, want an error", text, got)
		}
	}
	for _, text := range []string{"Thursday", "thursday", "Thu", "thu"} {
		if got, err := schedule.ParseWeekday(text); err != nil || got != time.Thursday {
			t.Errorf("ParseWeekday(%q) = %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "T", "Thurs", "8"} {
		if got, err := schedule.ParseWeekday(text); err == nil {
			t.Errorf("ParseWeekday(%q) = %v, want an error", text, got)
		}
	}
	if got := (schedule.Clock{Hour: 22, Minute: 14}).String(); got != "10:14PM" {
		t.Errorf("printed as %s", got)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]schedule.Policy{
		"no section":     {},
		"too often":      {Every: every(time.Second)},
		"32nd":           {Monthly: &schedule.MonthlyAt{Date: 32}},
		"0th":            {Monthly: &schedule.MonthlyAt{}},
		"one bad of two": {Every: every(time.Hour), Monthly: &schedule.MonthlyAt{Date: -1}},
	} {
		if p.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (schedule.Policy{Every: every(time.Minute), Monthly: &schedule.MonthlyAt{Date: 31}}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestLook(t *testing.T) {
	t.Parallel()
	madrid, err := time.LoadLocation("Europe/Madrid")
	if err != nil {
		t.Fatal(err)
	}
	daily := &schedule.Clock{Hour: 22, Minute: 14}
	night := &schedule.Clock{Hour: 2, Minute: 30}
	for name, c := range map[string]struct {
		policy          schedule.Policy
		since, last     string
		trigger         schedule.Trigger
		now, due, after string
		missed          int
	}{
		"the first interval is due at once": {policy: schedule.Policy{Every: every(time.Hour)}, since: "2026-03-01 10:00", now: "2026-03-01 10:00", due: "2026-03-01 10:00"},
		"an interval later":                 {policy: schedule.Policy{Every: every(time.Hour)}, since: "2026-03-01 10:00", last: "2026-03-01 10:00", now: "2026-03-01 11:00", due: "2026-03-01 11:00"},
		"not yet":                           {policy: schedule.Policy{Every: every(time.Hour)}, since: "2026-03-01 10:00", last: "2026-03-01 10:00", now: "2026-03-01 10:59", after: "2026-03-01 11:00"},
		"intervals missed":                  {policy: schedule.Policy{Every: every(time.Hour)}, since: "2026-03-01 10:00", last: "2026-03-01 10:00", now: "2026-03-01 14:30", due: "2026-03-01 14:30", missed: 3},
		"resumed: nothing was missed":       {policy: schedule.Policy{Every: every(time.Hour)}, since: "2026-03-01 14:00", last: "2026-03-01 10:00", now: "2026-03-01 14:00", due: "2026-03-01 14:00"},
		"made after today's time":           {policy: schedule.Policy{Daily: daily}, since: "2026-03-01 23:00", now: "2026-03-01 23:30", after: "2026-03-02 22:14"},
		"daily on the minute":               {policy: schedule.Policy{Daily: daily}, since: "2026-03-01 10:00", now: "2026-03-01 22:14", due: "2026-03-01 22:14"},
		"daily and late":                    {policy: schedule.Policy{Daily: daily}, since: "2026-03-01 10:00", now: "2026-03-02 09:00", due: "2026-03-01 22:14"},
		"once a day":                        {policy: schedule.Policy{Daily: daily}, since: "2026-03-01 10:00", last: "2026-03-01 22:14", trigger: schedule.Daily, now: "2026-03-02 09:00", after: "2026-03-02 22:14"},
		"three nights away":                 {policy: schedule.Policy{Daily: daily}, since: "2026-03-01 10:00", last: "2026-03-01 22:14", trigger: schedule.Daily, now: "2026-03-05 09:00", due: "2026-03-04 22:14", missed: 2},
		"suspended for three nights":        {policy: schedule.Policy{Daily: daily}, since: "2026-03-05 08:00", last: "2026-03-01 22:14", trigger: schedule.Daily, now: "2026-03-05 09:00", after: "2026-03-05 22:14"},
		"weekly":                            {policy: schedule.Policy{Weekly: &schedule.WeeklyAt{Day: time.Thursday, At: *daily}}, since: "2026-03-01 10:00", now: "2026-03-01 11:00", after: "2026-03-05 22:14"},
		"weekly, on the day, past it":       {policy: schedule.Policy{Weekly: &schedule.WeeklyAt{Day: time.Sunday, At: *daily}}, since: "2026-03-01 23:00", now: "2026-03-01 23:00", after: "2026-03-08 22:14"},
		"monthly":                           {policy: schedule.Policy{Monthly: &schedule.MonthlyAt{Date: 14, At: *daily}}, since: "2026-03-15 10:00", now: "2026-03-15 11:00", after: "2026-04-14 22:14"},
		"a short month":                     {policy: schedule.Policy{Monthly: &schedule.MonthlyAt{Date: 31, At: *daily}}, since: "2026-02-01 10:00", now: "2026-02-02 11:00", after: "2026-02-28 22:14"},
		"the earliest of two":               {policy: schedule.Policy{Daily: daily, Weekly: &schedule.WeeklyAt{Day: time.Sunday, At: *night}}, since: "2026-03-07 23:00", now: "2026-03-07 23:00", after: "2026-03-08 02:30"},
		"in a zone":                         {policy: schedule.Policy{Daily: daily, Zone: madrid}, since: "2026-03-01 10:00", now: "2026-03-01 21:00", after: "2026-03-01 21:14"},
		"an hour that does not exist":       {policy: schedule.Policy{Daily: night, Zone: madrid}, since: "2026-03-28 10:00", now: "2026-03-28 11:00", after: "2026-03-29 01:30"},
		"an hour that comes twice, once":    {policy: schedule.Policy{Daily: night, Zone: madrid}, since: "2026-10-24 10:00", last: "2026-10-25 01:30", trigger: schedule.Daily, now: "2026-10-25 01:31", after: "2026-10-26 01:30"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			past := schedule.Past{Since: at(c.since), Last: map[schedule.Trigger]time.Time{}}
			if c.trigger == "" {
				c.trigger = schedule.Interval
			}
			if c.last != "" {
				past.Last[c.trigger] = at(c.last)
			}
			due, next := schedule.Look(c.policy, past, at(c.now))
			if c.due == "" {
				if due != nil || !next.Equal(at(c.after)) {
					t.Fatalf("due %+v, next %v; want none, and next %s", due, next.UTC(), c.after)
				}
				return
			}
			if due == nil || !due.At.Equal(at(c.due)) || due.Missed != c.missed {
				t.Fatalf("due %+v, next %v; want %s with %d missed", due, next.UTC(), c.due, c.missed)
			}
		})
	}
}

// Whoever looks, and however seldom: each time on the wall clock is either run
// once or counted as missed once, whatever the zone does to its clocks.
func TestEveryTimeIsRunOrCounted(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			zone, err := time.LoadLocation([]string{"UTC", "Europe/Madrid", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"}[r.IntN(5)])
			if err != nil {
				t.Fatal(err)
			}
			// Between 4 and 23 o'clock no zone here skips or repeats an hour.
			clock := schedule.Clock{Hour: 4 + r.IntN(20), Minute: r.IntN(60)}
			p := schedule.Policy{Zone: zone}
			trigger := []schedule.Trigger{schedule.Daily, schedule.Weekly, schedule.Monthly}[r.IntN(3)]
			day, date := time.Weekday(r.IntN(7)), 1+r.IntN(31)
			switch trigger {
			case schedule.Daily:
				p.Daily = &clock
			case schedule.Weekly:
				p.Weekly = &schedule.WeeklyAt{Day: day, At: clock}
			default:
				p.Monthly = &schedule.MonthlyAt{Date: date, At: clock}
			}
			past := schedule.Past{Since: at("2026-01-10 09:17"), Last: map[schedule.Trigger]time.Time{}}
			end := past.Since.AddDate(2, 0, 0)
			var accounted int
			for now := past.Since; now.Before(end); now = now.Add(time.Duration(1+r.IntN(20*24*60)) * time.Minute) {
				due, next := schedule.Look(p, past, now)
				if due == nil {
					if !next.After(now) {
						t.Fatalf("at %v nothing is due, and the next run is at %v", now, next)
					}
					continue
				}
				accounted += 1 + due.Missed
				past.Last[trigger] = due.At
				end = max64(end, now)
			}
			last := past.Last[trigger]
			want := 0
			for m := past.Since.Add(time.Minute); !m.After(last); m = m.Add(time.Minute) {
				w := m.In(zone)
				if w.Hour() != clock.Hour || w.Minute() != clock.Minute {
					continue
				}
				short := w.AddDate(0, 0, 1).Day() == 1 && w.Day() < date
				if trigger == schedule.Daily || trigger == schedule.Weekly && w.Weekday() == day || trigger == schedule.Monthly && (w.Day() == date || short) {
					want++
				}
			}
			if accounted != want || want == 0 {
				t.Errorf("%s at %v in %v: %d runs and misses, the calendar has %d", trigger, clock, zone, accounted, want)
			}
		})
	}
}

func max64(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func TestKeep(t *testing.T) {
	t.Parallel()
	now := at("2026-03-31 12:00")
	hours := func(n int) []schedule.Point {
		var ps []schedule.Point
		for i := range n {
			ps = append(ps, schedule.Point{At: now.Add(-time.Duration(i) * time.Hour), Good: true})
		}
		return ps
	}
	spoilt := func(ps []schedule.Point, bad ...int) []schedule.Point {
		for _, i := range bad {
			ps[i].Good = false
		}
		return ps
	}
	for name, c := range map[string]struct {
		points []schedule.Point
		rules  schedule.Retention
		stay   []int
	}{
		"no rule":                      {hours(3), schedule.Retention{}, []int{0, 1, 2}},
		"the last two":                 {hours(4), schedule.Retention{Last: 2}, []int{0, 1}},
		"bad ones do not count":        {spoilt(hours(5), 1, 2), schedule.Retention{Last: 2}, []int{0, 3}},
		"never below the last good":    {spoilt(hours(4), 0, 1), schedule.Retention{Within: time.Minute}, []int{0, 1, 2}},
		"none is good: all stay":       {spoilt(hours(3), 0, 1, 2), schedule.Retention{Last: 1}, []int{0, 1, 2}},
		"younger than three hours":     {hours(5), schedule.Retention{Within: 3 * time.Hour}, []int{0, 1, 2}},
		"one a day for two days":       {hours(40), schedule.Retention{Daily: 2}, []int{0, 13}},
		"hours and days together":      {hours(40), schedule.Retention{Hourly: 3, Daily: 2}, []int{0, 1, 2, 13}},
		"weeks start on Monday":        {hours(24 * 9), schedule.Retention{Weekly: 2}, []int{0, 37}},
		"months":                       {hours(24 * 40), schedule.Retention{Monthly: 2}, []int{0, 24*30 + 13}},
		"fewer than asked for":         {hours(2), schedule.Retention{Last: 10}, []int{0, 1}},
		"there is nothing":             {nil, schedule.Retention{Last: 1}, nil},
		"the age rule keeps its own":   {hours(3), schedule.Retention{Last: 1, Within: 90 * time.Minute}, []int{0, 1}},
		"a zone moves where days end ": {hours(14), schedule.Retention{Daily: 2, Zone: time.FixedZone("", 2*3600)}, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stay []int
			for i, k := range schedule.Keep(c.points, c.rules, now) {
				if k {
					stay = append(stay, i)
				}
			}
			if !slices.Equal(stay, c.stay) {
				t.Errorf("stay %v, want %v", stay, c.stay)
			}
		})
	}
}

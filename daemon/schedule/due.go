package schedule

import "time"

// Past is what the decision rests on.
type Past struct {
	// Since is when the schedule began to count: when it was made, or resumed
	// last. What was due before is not missed.
	Since time.Time
	// Last is when the last run of each trigger was due; a trigger without one
	// never ran.
	Last map[Trigger]time.Time
}

// Due is one run whose time has come.
type Due struct {
	Trigger Trigger
	// At is when it was due, which is not when it starts.
	At time.Time
	// Missed counts the runs of this trigger that were due before it and never
	// started.
	Missed int
}

// Look says which run is due at now, or, when none is, the time of the next
// one. The zero time means that none will ever be.
func Look(p Policy, past Past, now time.Time) (due *Due, next time.Time) {
	for _, t := range Triggers() {
		if !p.Has(t) {
			continue
		}
		d, at := look(p, t, past, now)
		if d != nil {
			return d, now
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return nil, next
}

func look(p Policy, t Trigger, past Past, now time.Time) (due *Due, next time.Time) {
	last, ran := past.Last[t]
	if t == Interval {
		return lookInterval(*p.Every, last, ran, past.Since, now)
	}
	from := past.Since
	if ran && last.After(from) {
		from = last
	}
	missed := -1
	var at time.Time
	// Times of one trigger are a day apart at least: the loop is as long as the
	// number of days that nobody looked.
	next = p.after(t, from)
	for ; !next.After(now); next = p.after(t, next) {
		at = next
		missed++
	}
	if missed < 0 {
		return nil, next
	}
	return &Due{Trigger: t, At: at, Missed: missed}, next
}

func lookInterval(every time.Duration, last time.Time, ran bool, since, now time.Time) (due *Due, next time.Time) {
	if !ran {
		return &Due{Trigger: Interval, At: now}, now
	}
	if next = last.Add(every); next.After(now) {
		return nil, next
	}
	from := last
	if since.After(from) {
		from = since
	}
	missed := max(int(now.Sub(from)/every)-1, 0)
	return &Due{Trigger: Interval, At: now, Missed: missed}, now
}

// after gives the first time of a daily, weekly or monthly trigger that is
// later than from.
func (p Policy) after(t Trigger, from time.Time) time.Time {
	from = from.In(p.zone())
	year, month, day := from.Date()
	for n := 0; ; n++ {
		var at time.Time
		switch t {
		case Daily:
			at = p.at(year, month, day+n, *p.Daily)
		case Weekly:
			days := (int(p.Weekly.Day)-int(from.Weekday())+7)%7 + 7*n
			at = p.at(year, month, day+days, p.Weekly.At)
		default:
			first := time.Date(year, month+time.Month(n), 1, 0, 0, 0, 0, p.zone())
			date := min(p.Monthly.Date, daysIn(first))
			at = p.at(first.Year(), first.Month(), date, p.Monthly.At)
		}
		if at.After(from) {
			return at
		}
	}
}

func (p Policy) at(year int, month time.Month, day int, c Clock) time.Time {
	return time.Date(year, month, day, c.Hour, c.Minute, 0, 0, p.zone())
}

func daysIn(first time.Time) int { return first.AddDate(0, 1, -1).Day() }

// Package schedule knows when a run is due and which old ones may go. It is
// pure: it reads no clock and no cluster, so that a year of runs is tested in a
// moment.
//
// Its words: a Policy says when; a Trigger is one of its sections (Interval,
// Daily, Weekly, Monthly); a Due run is one whose time has come; a missed run is
// one whose time passed while an earlier one ran, or while nobody looked. The
// latest of several wins, the others are counted. Keep names what retention
// leaves.
//
// The fields and the words for times and days are stork's SchedulePolicy's. Two
// things differ from it on purpose: a run whose hour has passed still starts, if
// late, and a date that a month does not have is its last day, so that no month
// goes without a run and none gets two.
package schedule

package controller

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/godwit-io/godwit/daemon/schedule"
	"github.com/godwit-io/godwit/snapshot"
)

// orphanAge is how old an image is at least that belongs to no round, before it
// goes: its Migration may be about to seal one.
const orphanAge = 24 * time.Hour

// line is an application as it is brought to one target: several may share a repository.
type line struct{ app, pair string }

// upkeepView is all that a plan for a repository goes by.
type upkeepView struct {
	now time.Time
	// pair is the one that rounds were made for which do not say it.
	pair string
	// points are the rounds that this cluster sealed.
	points []snapshot.RecoveryPoint
	// retention has the applications of schedules; others keep every round. A
	// round stays if any of several schedules keeps it.
	retention map[line][]schedule.Retention
	// reached is the newest round of an application that the target is known to
	// hold. Without it nothing of the application goes.
	reached map[line]string
	// inUse are images that a base, a transfer or an unfinished Migration names.
	inUse map[snapshot.ImageID]bool
}

// superfluous are the rounds that no rule keeps and that nobody needs, oldest
// first. What is as new as the round that the target holds stays: it goes on from
// there, or back to it.
func (v upkeepView) superfluous() []snapshot.RecoveryPoint {
	by := map[line][]snapshot.RecoveryPoint{}
	for _, p := range v.points {
		by[v.lineOf(p)] = append(by[v.lineOf(p)], p)
	}
	var out []snapshot.RecoveryPoint
	for of, points := range by {
		reached := v.reached[of]
		if reached == "" || len(v.retention[of]) == 0 {
			continue
		}
		kept := v.kept(of, points)
		for i, p := range points {
			if !kept[i] && p.Round < reached && !slices.ContainsFunc(p.Images, func(i snapshot.Image) bool { return v.inUse[i.ID] }) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(a, b snapshot.RecoveryPoint) int { return strings.Compare(a.Round, b.Round) })
	return out
}

func (v upkeepView) lineOf(p snapshot.RecoveryPoint) line {
	return line{p.App, cmp.Or(p.Pair, v.pair)}
}

func (v upkeepView) kept(of line, points []snapshot.RecoveryPoint) []bool {
	moments := make([]schedule.Point, len(points))
	for i, p := range points {
		moments[i] = schedule.Point{At: takenAt(p), Good: true}
	}
	kept := make([]bool, len(points))
	for _, r := range v.retention[of] {
		for i, keep := range schedule.Keep(moments, r, v.now) {
			kept[i] = kept[i] || keep
		}
	}
	return kept
}

// takenAt is the moment that a round holds: that of its oldest snapshot.
func takenAt(p snapshot.RecoveryPoint) time.Time {
	at := p.Sealed
	for _, i := range p.Images {
		if !i.Taken.IsZero() && i.Taken.Before(at) {
			at = i.Taken
		}
	}
	return at
}

// orphans are images that this cluster's rounds left: no round has them, nobody
// uses them, and they are old enough that no round will. Images that somebody made
// by hand have no name of a round, and stay.
func (v upkeepView) orphans(images []snapshot.Image, cluster string, inRounds map[snapshot.ImageID]bool) []snapshot.Image {
	var out []snapshot.Image
	for _, i := range images {
		made, ok := roundTime(i.Round)
		if ok && i.Volume.Cluster == cluster && !inRounds[i.ID] && !v.inUse[i.ID] && v.now.Sub(made) > orphanAge {
			out = append(out, i)
		}
	}
	return out
}

// roundTime is when the Migration of a round was made, by the round's name; false
// for what is no such name.
func roundTime(round string) (time.Time, bool) {
	stamp, rest, found := strings.Cut(round, "-")
	at, err := time.Parse(roundStamp, stamp)
	return at, err == nil && found && rest != ""
}

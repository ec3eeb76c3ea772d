package migrate

import "time"

// Sibling is a Migration as others of the same application see it: they take turns
// twice, since the next round starts from what the last one stored, and since there is
// one standby.
type Sibling struct {
	Name, UID string
	Created   time.Time
	// Stage is true for a round that hands nothing over.
	Stage bool
	// Elsewhere is true for one that goes to another target from the same repository. Its
	// rounds start from the same bases, and no two read the source at once: Reading is
	// true from the target's preflight until the seal.
	Elsewhere, Reading bool
	// Admitted has begun on the source, Begun on the target too; Over has ended and
	// left nothing to take back. Sealed is between those: what the next round starts
	// from is kept.
	Admitted, Sealed, Begun, Over bool
}

// Ahead names the one whose turn it is before mine to read the source; empty where it is
// mine. Who came further goes first, then who was made first: all of them see the same
// order. A round that is sealed lets the next one be taken while the target still brings
// it forward, as long as both leave the application where it is.
func Ahead(me Sibling, others []Sibling) string {
	for _, o := range others {
		blocks := !o.Over && before(o, me) && (!o.Sealed || !o.Stage || !me.Stage)
		if o.Elsewhere {
			blocks = o.Reading && (!me.Reading || before(o, me))
		}
		if blocks {
			return o.Name
		}
	}
	return ""
}

// AheadOnTarget names the one that the target has to be done with before it is told of
// mine; empty for none.
func AheadOnTarget(me Sibling, others []Sibling) string {
	for _, o := range others {
		if !o.Elsewhere && !o.Over && before(o, me) {
			return o.Name
		}
	}
	return ""
}

func before(a, b Sibling) bool {
	switch {
	case a.Begun != b.Begun:
		return a.Begun
	case a.Sealed != b.Sealed:
		return a.Sealed
	case a.Admitted != b.Admitted:
		return a.Admitted
	case !a.Created.Equal(b.Created):
		return a.Created.Before(b.Created)
	}
	return a.UID < b.UID
}

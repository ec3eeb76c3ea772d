package migrate

import "time"

// Sibling is a Migration as others of the same application see it: they take
// turns, since there is one standby.
type Sibling struct {
	Name, UID string
	Created   time.Time
	// Admitted has begun on the source, Begun on the target too; Over has ended and
	// left nothing to take back.
	Admitted, Begun, Over bool
}

// Ahead names the one whose turn it is before mine; empty where it is mine. Who
// came further goes first, then who was made first: all of them see the same order.
func Ahead(me Sibling, others []Sibling) string {
	for _, o := range others {
		if !o.Over && before(o, me) {
			return o.Name
		}
	}
	return ""
}

func before(a, b Sibling) bool {
	switch {
	case a.Begun != b.Begun:
		return a.Begun
	case a.Admitted != b.Admitted:
		return a.Admitted
	case !a.Created.Equal(b.Created):
		return a.Created.Before(b.Created)
	}
	return a.UID < b.UID
}

package migrate

import "strings"

// RoundSource says what the volumes of a round are made from when it is activated.
type RoundSource string

// The sources, from the nearest.
const (
	// FromVolumes needs nothing: the standby volumes hold the round.
	FromVolumes RoundSource = "Volumes"
	// FromSnapshots makes them of CSI snapshots of the standby.
	FromSnapshots RoundSource = "Snapshots"
	// FromStore writes the difference from the object store.
	FromStore RoundSource = "Store"
)

// ObservedRoundHere is what a cluster has itself of a round that is to be activated.
type ObservedRoundHere struct {
	// Named is true where somebody asked for this very round. Whether there is a newer
	// one than what is here only the store can say.
	Named bool
	// Held is true where the standby volumes hold it, whole.
	Held bool
	// Snapshots is true where snapshots of the standby were taken of it, and Missing
	// says of each that cannot be used why not.
	Snapshots bool
	Missing   []string
	// Record says why the sealed record that is kept beside the volumes cannot be
	// used: without the source's signature nothing says what the volumes must hold.
	Record string
}

// SourceOf chooses what a round is activated from. The second result says why it is
// not what is nearest; empty where nothing is lost by it.
func SourceOf(o ObservedRoundHere) (RoundSource, string) {
	switch {
	case !o.Named, !o.Held && !o.Snapshots:
		return FromStore, ""
	case o.Record != "":
		return FromStore, o.Record
	case o.Held:
		return FromVolumes, ""
	case len(o.Missing) > 0:
		return FromStore, strings.Join(o.Missing, "; ")
	}
	return FromSnapshots, ""
}
